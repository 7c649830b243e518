"""Now `mnist_cnn.nets.layers`."""

from mnist_cnn.nets.layers import *
