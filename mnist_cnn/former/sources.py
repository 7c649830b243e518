"""Now `mnist_cnn.data_sets.files`."""

from mnist_cnn.data_sets.files import *
