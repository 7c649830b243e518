"""What `serve` is measured against: FastAPI as one writes it, the model called in the handler.

python -m tests.support.plain_fastapi best.ckpt 8001
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from mnist_cnn.checkpoints.classifier import load_classifier

app = FastAPI()


class Question(BaseModel):
    """28×28 bytes."""

    pixels: list[list[int]]


class Answer(BaseModel):
    """The digit, its probability, and those of all ten."""

    digit: int
    confidence: float
    probabilities: list[float]


@app.post("/predict")
async def predict(question: Question) -> Answer:
    """One image at a time."""
    images = torch.tensor([question.pixels], dtype=torch.uint8)
    with torch.inference_mode():
        probabilities: list[Any] = model(images).softmax(dim=1)[0].tolist()
    digit = max(range(10), key=probabilities.__getitem__)
    return Answer(digit=digit, confidence=probabilities[digit], probabilities=probabilities)


if __name__ == "__main__":
    # Its best: two threads on cores that others use wait for each other, at a tenth of the rate.
    torch.set_num_threads(1)
    model, _ = load_classifier(sys.argv[1])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
