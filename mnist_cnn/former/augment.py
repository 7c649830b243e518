"""Now `mnist_cnn.training.augment`."""

from mnist_cnn.training.augment import *
