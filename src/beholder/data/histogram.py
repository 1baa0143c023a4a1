"""A picture of how values are spread: bars, with least, middle and most written under them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BARS, WIDTH, HEIGHT, MARGIN = 60, 840, 360, 50
BLUE, RED, GREY = (64, 108, 176), (190, 60, 50), (110, 110, 110)


def histogram(
    values: Sequence[int], title: str, *, limit: int | None = None, unit: str = "tokens"
) -> np.ndarray:
    """(H, W, 3) uint8. limit: a line is drawn there where the values come near it. Raises ValueError for no values."""
    if not len(values):
        raise ValueError("no values to draw")
    table = np.asarray(values)
    top = int(table.max())
    if limit is not None and limit <= 1.5 * top:
        top = max(top, limit)
    counts, edges = np.histogram(table, bins=BARS, range=(0, max(top, 1)))
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    across, up = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN
    draw.text((MARGIN, 14), title, fill="black", font=font)
    for number, count in enumerate(counts.tolist()):
        left = MARGIN + across * number / BARS
        height = up * count / max(counts.max(), 1)
        if count:
            draw.rectangle(
                (left, HEIGHT - MARGIN - max(height, 1), left + across / BARS - 1, HEIGHT - MARGIN), fill=BLUE
            )
    draw.line((MARGIN, HEIGHT - MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN), fill=GREY)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = MARGIN + across * share
        draw.text((at, HEIGHT - MARGIN + 6), f"{edges[-1] * share:,.0f}", fill=GREY, font=font, anchor="ma")
    draw.text((MARGIN, MARGIN - 14), f"{counts.max():,} rows in the highest bar", fill=GREY, font=font)
    said = f"{unit}: least {table.min():,}, median {np.median(table):,.0f}, mean {table.mean():,.1f}, most {table.max():,}"
    draw.text((WIDTH - MARGIN, HEIGHT - 18), said, fill="black", font=font, anchor="ra")
    if limit is not None and limit <= edges[-1]:
        at = MARGIN + across * limit / edges[-1]
        draw.line((at, MARGIN, at, HEIGHT - MARGIN), fill=RED, width=2)
        draw.text((at - 4, MARGIN), f"limit {limit:,}", fill=RED, font=font, anchor="ra")
    return np.asarray(image)
