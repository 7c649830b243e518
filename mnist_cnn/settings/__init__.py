"""What a command is told: configurations, and the command line's words about them."""
