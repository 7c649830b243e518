"""What is asked and answered, and the computing of it."""

# No `from __future__ import annotations`: LitServe reads the annotations of decode_request and
# encode_response, and makes of them how FastAPI reads requests and describes answers.

import gc
import secrets
from typing import Annotated, Any

import litserve
import torch
from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import APIKeyHeader
from pydantic import Field
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

from mnist_cnn.digits.normalise import SIDE
from mnist_cnn.serve.batching import PromptLoop
from mnist_cnn.serve.metrics import BATCH_SIZE
from mnist_cnn.serve.reading import Question, read_question
from mnist_cnn.use.classifier import load_classifier

Row = Annotated[list[float], Field(min_length=SIDE, max_length=SIDE)]
PixelRow = Annotated[
    list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=SIDE, max_length=SIDE)
]
#: What the key, if there is one, is not asked for.
OPEN = ("/health",)


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


class DigitAPI(litserve.LitAPI):
    """Digits by a checkpoint.

    Args:
        checkpoint: The file.
        num_threads: Threads to compute with.
        max_batch_size: The most images computed at once.
        batch_timeout: Seconds to wait for more when there is one.
    """

    def __init__(
        self,
        checkpoint: str,
        num_threads: int,
        max_batch_size: int,
        batch_timeout: float,
    ) -> None:
        super().__init__(
            max_batch_size=max_batch_size, batch_timeout=batch_timeout, loop=PromptLoop()
        )
        self.checkpoint = checkpoint
        self.num_threads = num_threads

    async def authorize(self) -> None:
        """Let every request in. LitServe makes it a dependency of its endpoints.

        Its own, without a key, is no coroutine, and so costs each request a change of threads.
        """

    def decode_request(self, request: Annotated[Question, Depends(read_question)]) -> Question:
        return request

    # The rest is called in the process that computes.

    def setup(self, device: str) -> None:
        torch.set_num_threads(self.num_threads)
        self.model = load_classifier(self.checkpoint)[0].to(device)
        # The first gradient loads what it needs, which can take longer than a request may.
        blank = torch.zeros(SIDE, SIDE, dtype=torch.uint8, device=self.model.device)
        contributions(self.model.net, blank, 0)
        self.loop.only_end_when_asked()
        gc.freeze()

    def batch(self, inputs: list[Question]) -> list[Question]:
        return inputs

    def predict(self, x: list[Question]) -> list[Answer]:
        BATCH_SIZE.observe(len(x))
        data = bytearray(b"".join(question.pixels for question in x))
        images = (
            torch.frombuffer(data, dtype=torch.uint8).view(-1, SIDE, SIDE).to(self.model.device)
        )
        with torch.inference_mode():
            probabilities = self.model(images).float().softmax(dim=1).cpu()
        answers = []
        for question, image, row in zip(x, images, probabilities.tolist(), strict=True):
            digit = max(range(len(row)), key=row.__getitem__)
            answer = Answer(digit=digit, confidence=row[digit], probabilities=row)
            if question.wants_pixels:
                answer["pixels"] = image.tolist()
            if question.wants_contributions:
                answer["contributions"] = contributions(self.model.net, image, digit).tolist()
            answers.append(answer)
        return answers

    def encode_response(self, output: Answer) -> Answer:
        return output


class GuardedDigitAPI(DigitAPI):
    """Digits for those who have the key.

    Args:
        api_key: What requests must carry as ``X-API-Key``.
        arguments: As of `DigitAPI`.
    """

    def __init__(self, api_key: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.api_key = api_key

    async def authorize(  # type: ignore[override]
        self,
        request: Request,
        key: Annotated[
            str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))
        ] = None,
    ) -> None:
        """Refuse a request without the key."""
        if request.url.path in OPEN:
            return
        if not secrets.compare_digest((key or "").encode(), self.api_key.encode()):
            raise HTTPException(401, "X-API-Key is missing or wrong")


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
