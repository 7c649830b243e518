"""Now `mnist_cnn.use.classifier`."""

from mnist_cnn.use.classifier import *
