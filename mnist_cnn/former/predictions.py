"""Now `mnist_cnn.use.prediction_writer`."""

from mnist_cnn.use.prediction_writer import *
