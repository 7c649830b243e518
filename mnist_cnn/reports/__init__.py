"""What is shown of a run: in the terminal and in TensorBoard."""
