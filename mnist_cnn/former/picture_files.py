"""Now `mnist_cnn.digits.files`."""

from mnist_cnn.digits.files import *
