"""What is asked and answered, and the computing of it."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

from mnist_cnn.digits.find import Candidate
from mnist_cnn.digits.mnist_form import SIDE
from mnist_cnn.serve.metrics import BATCH_SIZE
from mnist_cnn.use.reading import Reader, Reading

Row = Annotated[list[float], Field(min_length=SIDE, max_length=SIDE)]
PixelRow = Annotated[
    list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=SIDE, max_length=SIDE)
]


class Question(NamedTuple):
    """What the model is asked."""

    candidates: list[Candidate]  # of one picture, at least one
    wants_pixels: bool
    wants_contributions: bool


Confidence = Annotated[float, Field(description="the digit's probability", ge=0, le=1.001)]


class BoxedDigit(TypedDict):
    """A digit, and where it is."""

    digit: Annotated[int, Field(ge=0, le=9)]
    confidence: Confidence
    box: Annotated[
        list[int],
        Field(
            description="left, top, right, bottom, in pixels of the picture",
            min_length=4,
            max_length=4,
        ),
    ]


class Answer(TypedDict):
    """What ``/predict`` answers."""

    digit: Annotated[
        int, Field(description="of several, the one that is most like ink", ge=0, le=9)
    ]
    confidence: Confidence
    probabilities: Annotated[
        list[float], Field(description="of the ten digits", min_length=10, max_length=10)
    ]
    number: Annotated[
        str, Field(description="all digits in reading order; empty if it doesn't look like one")
    ]
    digits: Annotated[list[BoxedDigit], Field(min_length=1)]
    doubt: Annotated[str, Field(description="why the answer is to be doubted; empty if it isn't")]
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
        reader: In evaluation mode, where it is to compute.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.net = reader.classify.net
        # The first gradient loads what it needs, which can take longer than a request may.
        contributions(self.net, torch.zeros(SIDE, SIDE, dtype=torch.uint8, device=reader.device), 0)

    def __call__(self, questions: list[Question]) -> list[Answer]:
        BATCH_SIZE.observe(len(questions))
        readings = self.reader.read([question.candidates for question in questions])
        return [self._answer(*pair) for pair in zip(questions, readings, strict=True)]

    def _answer(self, question: Question, reading: Reading) -> Answer:
        main = reading.main
        answer = Answer(
            digit=main.digit,
            confidence=main.confidence,
            probabilities=main.probabilities,
            number=reading.number,
            digits=[
                BoxedDigit(digit=d.digit, confidence=d.confidence, box=list(d.box))
                for d in reading.digits
            ],
            doubt=reading.doubt,
        )
        if question.wants_pixels:
            answer["pixels"] = main.candidate.image.tolist()
        if question.wants_contributions:
            image = torch.from_numpy(main.candidate.image).to(self.reader.device)
            answer["contributions"] = contributions(self.net, image, main.digit).tolist()
        return answer


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
