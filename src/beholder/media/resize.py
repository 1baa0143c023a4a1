"""Cutting and resampling of 8-bit pixels, equal to Pillow's, which the official processors use.

The only place where pictures are resampled: by `native/resize.cpp` where it is built, else by Pillow, which gives the same
pixels. Three official processors have filters of their own.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Box, Size
from beholder.native import resize as native

# H height, W width, C channels (RGB)

FILTERS = (
    "nearest",
    "lanczos",
    "bilinear",
    "bicubic",
    "box",
    "hamming",
)  # a filter's index is its Pillow number
SMOOTHED = "smoothed"  # of one official processor, as scikit-image's bilinear one
ONCE = "bilinear once"  # rounded at the end alone (Pix2Struct)
PLAIN = "bilinear plain"  # of two neighbours at any scale, as torch's without antialiasing (Molmo 2)
KNOWN = (*FILTERS, SMOOTHED, ONCE, PLAIN)
BLACK = (0, 0, 0)
SLAB_PIXELS = 2**22  # rows of a square frame are padded this many pixels at a time


def resize(
    pixels_HWC: np.ndarray,
    size: Size,
    filter_name: str = "bicubic",
    *,
    frame: Box | None = None,
    background: tuple[int, int, int] = BLACK,
    part: Box | None = None,
    reducing_gap: float | None = None,
) -> np.ndarray:
    """The picture, or the part `frame` of it, as (height, width, 3) uint8 of `size`, and of that `part` alone.

    filter_name:  one of `KNOWN`
    frame:        in whole pixels of the picture; what lies outside is `background`. Equal to cutting first, but a
                  long strip in a square frame does not need the memory of the square
    part:         in whole pixels inside `size`: equal to cutting it out, but no other pixels need be computed
    reducing_gap: Pillow's quicker two-step reduction; None is exact
    """
    if filter_name not in KNOWN:
        raise UnknownName("filter", filter_name, KNOWN)
    if min(size) < 1:
        raise BeholderError(f"cannot resize to {size[0]} x {size[1]}; both sides must be 1 pixel or more")
    if frame is not None and frame != whole(pixels_HWC):
        if frame.size[0] == frame.size[1] and size[0] == size[1] and filter_name in FILTERS:
            pixels_HWC = _rows_of_frame(pixels_HWC, size[1], filter_name, frame, background)
            top = min(frame.top, 0)
            frame = Box(0, top, size[1], top + frame.size[0])
        pixels_HWC = cut(pixels_HWC, frame, background)
    part = part or Box(0, 0, size[1], size[0])
    if pixels_HWC.shape[:2] == tuple(size):
        return cut(pixels_HWC, part)
    if filter_name == SMOOTHED:
        return cut(_smoothed(pixels_HWC, size), part)
    if filter_name == PLAIN:
        return cut(_plain(pixels_HWC, size), part)
    if filter_name == ONCE:
        return cut(_once(pixels_HWC, size), part)
    number = FILTERS.index(filter_name)
    if number > 0 and reducing_gap is None and native.available():
        return native.resized(pixels_HWC, size, number, part)
    image = Image.fromarray(pixels_HWC)
    return cut(np.asarray(image.resize((size[1], size[0]), number, reducing_gap=reducing_gap)), part)


def cut(pixels_HWC: np.ndarray, box: Box, background: tuple[int, int, int] = BLACK) -> np.ndarray:
    """The pixels in `box` (whole pixels), `background` where it lies outside the picture. A view where it does not."""
    height, width = pixels_HWC.shape[:2]
    left, top, right, bottom = (round(edge) for edge in box)
    inner = pixels_HWC[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return inner
    out = np.empty((bottom - top, right - left, 3), np.uint8)
    # Whole rows are copied sooner than colours.
    out[:] = np.tile(np.array(background, np.uint8), (right - left, 1))
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


def _smoothed(pixels_HWC: np.ndarray, size: Size) -> np.ndarray:
    """Two points are mixed along each axis, after a Gaussian blur of half the pixels that are left out between them where
    both axes shrink (official `Owlv2ImageProcessor.resize`).
    """
    import torch  # a second that other filters need not wait for
    from torch.nn import functional as F

    x_1CHW = torch.from_numpy(pixels_HWC.astype(np.float32)).permute(2, 0, 1)[None]
    spreads = [max((old / new - 1) / 2, 0.0) for old, new in zip(pixels_HWC.shape[:2], size, strict=True)]
    if min(spreads) > 0:
        for axis, spread in zip((2, 3), spreads, strict=True):
            reach = math.ceil(3 * spread)
            weights = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * spread**2))
            shape, around = ((-1, 1), (0, 0, reach, reach)) if axis == 2 else ((1, -1), (reach, reach, 0, 0))
            kernel = (weights / weights.sum()).view(1, 1, *shape).expand(3, -1, -1, -1)
            mode = "reflect" if reach < x_1CHW.shape[axis] else "replicate"
            x_1CHW = F.conv2d(F.pad(x_1CHW, around, mode=mode), kernel, groups=3)
    return _plain(x_1CHW[0].permute(1, 2, 0).numpy(), size)


def _plain(pixels_HWC: np.ndarray, size: Size) -> np.ndarray:
    """Two points are mixed along each axis."""
    import torch
    from torch.nn import functional as F

    x_1CHW = torch.from_numpy(pixels_HWC.astype(np.float32)).permute(2, 0, 1)[None]
    sampled = F.interpolate(x_1CHW, size, mode="bilinear", align_corners=False)
    return sampled[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


def _once(pixels_HWC: np.ndarray, size: Size) -> np.ndarray:
    """Pillow's bilinear filter without 8 bits between both axes (official `Pix2StructImageProcessor`)."""
    from torch import from_numpy, uint8
    from torch.nn.functional import interpolate

    x_1CHW = from_numpy(pixels_HWC.astype(np.float32)).permute(2, 0, 1)[None]
    given = interpolate(x_1CHW, size, mode="bilinear", align_corners=False, antialias=True)
    return given[0].permute(1, 2, 0).round().clamp(0, 255).to(uint8).numpy()
