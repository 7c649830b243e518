"""Now `mnist_cnn.training.randomness`."""

from mnist_cnn.training.randomness import *
