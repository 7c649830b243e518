"""The published net.

Letters of the shapes: B images.
"""

from __future__ import annotations

from torch import Tensor, nn

from mnist_cnn.nets.describe import arguments
from mnist_cnn.nets.layers import check_sizes, double_conv, rectified
from mnist_cnn.training.randomness import Dropout


class KerasCNN(nn.Module):
    """The classic Keras MNIST CNN: 32C3-relu, 64C3-relu, maxpool2, dropout, 128-relu, dropout, 10.

    The same function, initialisation and order of weights as the Keras model, 1,199,882 weights
    with the defaults. Three things are written differently and compute the same: the second ReLU
    comes after the pooling, where it has a quarter of the work (both are monotonic, so they
    commute), dropout comes after flattening, where each image is contiguous, and the gradient of
    both convolutions leaves out the zeros (see `mnist_cnn.kernels.double_conv`).

    Args:
        filters: Channels of the two 3×3 convolutions.
        hidden: Units of the dense layer.
        conv_dropout: Share of the pooled features dropped in training, in [0, 1).
        dense_dropout: Share of the dense units dropped in training, in [0, 1).
        num_classes: Number of logits.

    Raises:
        UserError: If a size is below 1, or a share not in [0, 1).

    Source:
        ``mnist_cnn.py`` of the Keras examples.
    """

    def __init__(
        self,
        filters: tuple[int, int] = (32, 64),
        hidden: int = 128,
        conv_dropout: float = 0.25,
        dense_dropout: float = 0.5,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.hparams = arguments(locals())
        check_sizes(self, *filters, hidden, num_classes)
        self.conv1 = nn.Conv2d(1, filters[0], kernel_size=3)
        self.conv2 = nn.Conv2d(filters[0], filters[1], kernel_size=3)
        self.conv_dropout = Dropout(conv_dropout)
        self.dense1 = nn.Linear(filters[1] * 12 * 12, hidden)
        self.dense_dropout = Dropout(dense_dropout)
        self.dense2 = nn.Linear(hidden, num_classes)
        self.apply(keras_init)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28) in [0, 1] → (B, 10) logits
        x = double_conv(self.conv1, self.conv2, x)  # (B, 64, 12, 12)
        x = x.permute(0, 2, 3, 1).flatten(1)  # (B, 9216), Keras's order; free in channels_last
        x = self.conv_dropout(x)
        x = self.dense_dropout(rectified(self.dense1, x))  # (B, 128)
        return self.dense2(x)


def keras_init(module: nn.Module) -> None:
    """Initialise a layer as Keras does: Glorot-uniform kernels, zero biases."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
