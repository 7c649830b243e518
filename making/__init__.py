"""How the included weights were made: what they were trained on beside MNIST, and the training."""
