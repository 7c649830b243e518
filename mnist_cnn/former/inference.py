"""Now `mnist_cnn.use.classifier`."""

from mnist_cnn.checkpoints.classifier import load_classifier as load_classifier
from mnist_cnn.use.classifier import *
