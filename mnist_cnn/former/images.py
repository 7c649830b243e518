"""Now `mnist_cnn.digits.normalise`."""

from mnist_cnn.digits.decode import *
from mnist_cnn.digits.normalise import *
