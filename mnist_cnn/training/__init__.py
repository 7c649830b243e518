"""What a training step is made of, and what is checked before the first."""
