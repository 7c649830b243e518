"""Now `mnist_cnn.training.adadelta`."""

from mnist_cnn.training.adadelta import *
