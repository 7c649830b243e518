"""Now `mnist_cnn.mnist_files`."""

from mnist_cnn.mnist_files import *
