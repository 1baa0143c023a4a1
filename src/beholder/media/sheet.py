"""A sheet of many pictures in rows, each with a line of words below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from beholder.media.look import GAP, INK, MARGIN, PADDING, PAPER, TITLE

SIDE = 200  # pixels of the square that a picture is fitted into
LINE = 18  # pixels of a line of words


def picture_sheet(
    pictures: Sequence[np.ndarray], captions: Sequence[str], *, title: str = "", columns: int = 6
) -> np.ndarray:
    """A picture (height, width, 3) uint8 of pictures (H, W, 3) uint8, row by row, shrunk to fit squares of equal size."""
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    top = TITLE if title else MARGIN
    size = (2 * MARGIN + columns * (SIDE + GAP) - GAP, top + rows * (SIDE + LINE + GAP) - GAP + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((MARGIN, TITLE // 2), _cut(title, size[0] - 2 * MARGIN, 16), INK, _font(16), anchor="lm")
    for number, (pixels, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = MARGIN + number % columns * (SIDE + GAP)
        upper = top + number // columns * (SIDE + LINE + GAP)
        small = Image.fromarray(pixels)
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        draw.rectangle((left, upper, left + SIDE - 1, upper + SIDE - 1), fill=PADDING)
        sheet.paste(small, (left + (SIDE - small.width) // 2, upper + (SIDE - small.height) // 2))
        draw.text((left, upper + SIDE + LINE // 2), _cut(caption, SIDE, 12), INK, _font(12), anchor="lm")
    return np.asarray(sheet)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _cut(text: str, room: int, size: int) -> str:
    """As much of the words as `room` pixels hold."""
    font = _font(size)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."
