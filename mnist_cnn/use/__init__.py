"""A trained model as a function, a command, a file."""
