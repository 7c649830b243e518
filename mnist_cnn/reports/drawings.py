"""Pictures for TensorBoard: the confusion matrix, and images with what the net took them for."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL = 48  # pixels
CAPTION = 16  # pixels below an image
SCALE = 2  # pixels of the picture a pixel of the image
DIGITS = "0123456789"


def confusion_picture(counts: Tensor, names: Sequence[str] = DIGITS) -> NDArray[np.uint8]:
    """Draw a confusion matrix.

    Args:
        counts: (classes, classes) integers; row: the label, column: the answer.
        names: Of the classes.

    Returns:
        (H, W, 3) picture: right answers in blue, wrong ones in red, each cell as strong as its
        share of its row, on a scale of square roots so that a few mistakes are seen.
    """
    classes = len(counts)
    picture = Image.new("RGB", ((classes + 1) * CELL, (classes + 1) * CELL), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=14)
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    draw.text((CELL / 2, CELL / 2), "label /\nanswer", fill="gray", anchor="mm", font_size=10)
    for index, name in enumerate(names[:classes]):
        middle = (index + 1.5) * CELL
        lines = re.sub(r"(?<=/)|[ ]", "\n", name)
        for place in ((middle, CELL / 2), (CELL / 2, middle)):
            size = 14 if len(name) < 4 else 10
            draw.text(place, lines, fill="black", anchor="mm", align="center", font_size=size)
    for label, row in enumerate(counts.tolist()):
        for answer, count in enumerate(row):
            strength = float(shares[label, answer]) ** 0.5
            fade = round(255 * (1 - 0.8 * strength))
            colour = (fade, fade, 255) if label == answer else (255, fade, fade)
            x, y = (answer + 1) * CELL, (label + 1) * CELL
            draw.rectangle((x, y, x + CELL - 1, y + CELL - 1), fill=colour, outline="lightgray")
            if count:
                ink = "white" if strength > 0.8 else "black"
                draw.text(
                    (x + CELL / 2, y + CELL / 2), str(count), fill=ink, anchor="mm", font=font
                )
    return np.asarray(picture)


def captioned_images(images: Tensor, captions: list[str], columns: int = 6) -> NDArray[np.uint8]:
    """Draw images in rows, each above its caption.

    Args:
        images: (N, 28, 28) uint8, N at least 1.
        captions: N short texts.
        columns: Images in a row.

    Returns:
        (H, W, 3) picture.
    """
    side = SCALE * images.shape[-1]
    font = ImageFont.load_default(size=11)
    longest = max(font.getlength(caption) for caption in captions)
    width, height = max(side + 24, round(longest) + 8), side + CAPTION
    rows = -(-len(images) // columns)
    picture = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(picture)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = i % columns * width, i // columns * height
        tile = Image.fromarray(image.cpu().numpy()).resize((side, side), Image.Resampling.NEAREST)
        picture.paste(tile, (x + (width - side) // 2, y))
        draw.text((x + width / 2, y + side + 7), caption, fill="black", anchor="mm", font=font)
    return np.asarray(picture)
