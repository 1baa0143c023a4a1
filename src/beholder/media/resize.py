"""Cutting and resampling of 8-bit pixels, equal to Pillow's, which the official processors use.

The only place where pictures are resampled.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Box, Size

# H height, W width, C channels (RGB)

FILTERS = (
    "nearest",
    "lanczos",
    "bilinear",
    "bicubic",
    "box",
    "hamming",
)  # a filter's index is its Pillow number
BLACK = (0, 0, 0)
SLAB_PIXELS = 2**22  # rows of a square frame are padded this many pixels at a time


def resize(
    pixels_HWC: np.ndarray,
    size: Size,
    filter_name: str = "bicubic",
    *,
    frame: Box | None = None,
    background: tuple[int, int, int] = BLACK,
    reducing_gap: float | None = None,
) -> np.ndarray:
    """The picture, or the part `frame` of it, as (height, width, 3) uint8 of `size`.

    filter_name:  one of `FILTERS`
    frame:        in whole pixels of the picture; what lies outside is `background`. Equal to cutting first, but a
                  long strip in a square frame does not need the memory of the square
    reducing_gap: Pillow's quicker two-step reduction; None is exact
    """
    if filter_name not in FILTERS:
        raise UnknownName("filter", filter_name, FILTERS)
    if min(size) < 1:
        raise BeholderError(f"cannot resize to {size[0]} x {size[1]}; both sides must be 1 pixel or more")
    if frame is not None and frame != whole(pixels_HWC):
        if frame.size[0] == frame.size[1] and size[0] == size[1]:
            pixels_HWC = _rows_of_frame(pixels_HWC, size[1], filter_name, frame, background)
            top = min(frame.top, 0)
            frame = Box(0, top, size[1], top + frame.size[0])
        pixels_HWC = cut(pixels_HWC, frame, background)
    if pixels_HWC.shape[:2] == tuple(size):
        return pixels_HWC
    image = Image.fromarray(pixels_HWC)
    return np.asarray(image.resize((size[1], size[0]), FILTERS.index(filter_name), reducing_gap=reducing_gap))


def cut(pixels_HWC: np.ndarray, box: Box, background: tuple[int, int, int] = BLACK) -> np.ndarray:
    """The pixels in `box` (whole pixels), `background` where it lies outside the picture. A view where it does not."""
    height, width = pixels_HWC.shape[:2]
    left, top, right, bottom = (round(edge) for edge in box)
    inner = pixels_HWC[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return inner
    out = np.empty((bottom - top, right - left, 3), np.uint8)
    out[:] = background
    out[max(-top, 0) :, max(-left, 0) :][: inner.shape[0], : inner.shape[1]] = inner
    return out


def whole(pixels_HWC: np.ndarray) -> Box:
    """The box of the whole picture."""
    return Box(0, 0, pixels_HWC.shape[1], pixels_HWC.shape[0])


def _rows_of_frame(
    pixels_HWC: np.ndarray, width: int, filter_name: str, frame: Box, background: tuple[int, int, int]
) -> np.ndarray:
    """The picture's rows inside a square frame, padded and resized to `width`. Where both sides are scaled alike,
    Pillow too resamples along rows first, with 8 bits in between, so resizing the columns next gives its pixels.
    """
    first, last = round(max(frame.top, 0)), round(min(frame.bottom, pixels_HWC.shape[0]))
    step = max(1, SLAB_PIXELS // frame.size[1])
    slabs = []
    for top in range(first, last, step):
        bottom = min(top + step, last)
        slab = cut(pixels_HWC, Box(frame.left, top, frame.right, bottom), background)
        slabs.append(resize(slab, (bottom - top, width), filter_name))
    return np.concatenate(slabs)
