"""Now `mnist_cnn.use.export`."""

from mnist_cnn.use.export import *
