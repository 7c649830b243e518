"""Any picture of a digit in MNIST's own form. Knows nothing of nets."""
