"""What is asked and answered, and the computing of it."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

from mnist_cnn.digits.normalise import SIDE
from mnist_cnn.model import MNISTClassifier
from mnist_cnn.serve.metrics import BATCH_SIZE

Row = Annotated[list[float], Field(min_length=SIDE, max_length=SIDE)]
PixelRow = Annotated[
    list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=SIDE, max_length=SIDE)
]


class Question(NamedTuple):
    """What the model is asked."""

    pixels: bytes  # 28·28, ink bright on dark
    wants_pixels: bool
    wants_contributions: bool


class Answer(TypedDict):
    """What ``/predict`` answers."""

    digit: Annotated[int, Field(ge=0, le=9)]
    confidence: Annotated[float, Field(description="the digit's probability", ge=0, le=1.001)]
    probabilities: Annotated[
        list[float], Field(description="of the ten digits", min_length=10, max_length=10)
    ]
    pixels: NotRequired[
        Annotated[
            list[PixelRow],
            Field(description="what the network saw", min_length=SIDE, max_length=SIDE),
        ]
    ]
    contributions: NotRequired[
        Annotated[
            list[Row],
            Field(
                description="what each pixel added to the digit's logit, or took from it, beyond "
                "what it added to the ten on average: gradient x input",
                min_length=SIDE,
                max_length=SIDE,
            ),
        ]
    ]


class Digits:
    """Answers questions by a model.

    Args:
        model: In evaluation mode, where it is to compute.
    """

    def __init__(self, model: MNISTClassifier) -> None:
        self.model = model
        # The first gradient loads what it needs, which can take longer than a request may.
        blank = torch.zeros(SIDE, SIDE, dtype=torch.uint8, device=model.device)
        contributions(model.net, blank, 0)

    def __call__(self, questions: list[Question]) -> list[Answer]:
        BATCH_SIZE.observe(len(questions))
        data = bytearray(b"".join(question.pixels for question in questions))
        images = torch.frombuffer(data, dtype=torch.uint8).view(-1, SIDE, SIDE)
        images = images.to(self.model.device)
        with torch.inference_mode():
            probabilities = self.model(images).float().softmax(dim=1).cpu()
        answers = []
        for question, image, row in zip(questions, images, probabilities.tolist(), strict=True):
            digit = max(range(len(row)), key=row.__getitem__)
            answer = Answer(digit=digit, confidence=row[digit], probabilities=row)
            if question.wants_pixels:
                answer["pixels"] = image.tolist()
            if question.wants_contributions:
                answer["contributions"] = contributions(self.model.net, image, digit).tolist()
            answers.append(answer)
        return answers


def contributions(net: torch.nn.Module, image: Tensor, digit: int) -> Tensor:
    """What each pixel contributed to the answer: gradient × input.

    Of the digit's logit less the mean of all logits: what speaks for all digits alike speaks for
    none. Not of the probability, whose gradient vanishes where the net is sure.

    Args:
        net: From images (B, 1, 28, 28) in [0, 1] to logits (B, 10).
        image: (28, 28) uint8.
        digit: The answer.

    Returns:
        (28, 28) float32 on the CPU; 0 where there is no ink.
    """
    x = (image.float() / 255).view(1, 1, SIDE, SIDE).requires_grad_()
    logits = net(x)[0]
    (gradient,) = torch.autograd.grad(logits[digit] - logits.mean(), x)
    return (gradient * x).detach()[0, 0].float().cpu()
