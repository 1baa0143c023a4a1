"""From a decoded picture and its views to the tensors an encoder takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.media.plan import Box, Size, View
from beholder.media.resize import BLACK, cut, resize
from beholder.native import resize as native

# H height, W width, C channels (RGB)

Made = tuple[
    Geometry, Box, tuple[Size, ...]
]  # a resized picture: its colours, what of the original, through which sizes


def load_views(
    pixels_HWC: np.ndarray, views: Sequence[View], geometry: Geometry, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """One normalised tensor (3, height, width) per view of a picture (H, W, 3) uint8. Each distinct resize is done once, and
    views of one size lie one after the other in memory. Raises ValueError if the views were planned for another size.
    """
    geometry = geometry.coloured(pixels_HWC)
    seen_HWC = view_pixels(pixels_HWC, views, geometry)
    sizes = [view_HWC.shape[:2] for view_HWC in seen_HWC]
    room = {size: iter(_empty((sizes.count(size), 3, *size), dtype)) for size in set(sizes)}
    return [
        normalised(view_HWC, geometry.part(view), next(room[size]))
        for view_HWC, view, size in zip(seen_HWC, views, sizes, strict=True)
    ]


def load_recording(frames: Sequence[np.ndarray], views: Sequence[View], geometry: Geometry) -> list[Tensor]:
    """The views of a recording's frames (H, W, 3): (3, height, width) where one shows one frame, (3, frames, height, width)
    where it shows several.
    """
    by_frame: dict[int, list[View]] = {}
    for view in views:
        for number in view.numbers:
            by_frame.setdefault(number, []).append(view)
    loaded: dict[tuple[int, int], Tensor] = {}
    for number, shown in by_frame.items():
        tensors = load_views(frames[number], shown, geometry)
        loaded |= {(id(view), number): tensor for view, tensor in zip(shown, tensors, strict=True)}
    parts = [[loaded[id(view), number] for number in view.numbers] for view in views]
    return [part[0] if len(part) == 1 else torch.stack(part, 1) for part in parts]


def load_masks(mask_HW: np.ndarray, views: Sequence[View], geometry: Geometry) -> list[Tensor]:
    """(1, height, width) from 0 to 1 for each view of a picture: what of its mask (H, W), booleans or uint8 to 255, falls
    there. Padding is outside the mask. Raises `BeholderError` for a mask of another size than the picture.
    """
    if mask_HW.ndim != 2 or mask_HW.dtype not in (np.bool_, np.uint8):
        raise BeholderError(
            f"a mask is (height, width) of booleans or of uint8, not {mask_HW.shape} of {mask_HW.dtype}"
        )
    if mask_HW.shape != views[0].original:
        height, width = views[0].original
        raise BeholderError(
            f"a mask of {mask_HW.shape[1]} x {mask_HW.shape[0]} pixels for a picture of {width} x {height}; "
            "give one of its size"
        )
    levels_HW = mask_HW.astype(np.uint8) * (255 if mask_HW.dtype == np.bool_ else 1)
    pixels_HWC = np.repeat(levels_HW[..., None], 3, axis=-1)
    seen = view_pixels(pixels_HWC, views, geometry.but(background=BLACK))
    return [torch.from_numpy(view_HWC[None, ..., 0].astype(np.float32) / 255) for view_HWC in seen]


def view_pixels(pixels_HWC: np.ndarray, views: Sequence[View], geometry: Geometry) -> list[np.ndarray]:
    """The pixels (height, width, 3) uint8 of each view, padding in the background colour."""
    made: dict[Made, np.ndarray] = {}
    parts = _parts(views, geometry)

    def after(view: View, count: int) -> np.ndarray:
        """The framed picture after the view's first `count` resizes, as much of it as `parts` says."""
        own = geometry.part(view)
        key = (own, view.framed, view.resizes[:count])
        if key not in made:
            part = parts.get(key)
            if count == 0:
                made[key] = cut(pixels_HWC, view.framed, own.background)
            elif count == 1:
                made[key] = resize(
                    pixels_HWC,
                    view.resizes[0],
                    own.filter,
                    frame=view.framed,
                    background=own.background,
                    part=part,
                )
            else:
                made[key] = resize(after(view, count - 1), view.resizes[count - 1], own.filter, part=part)
        return made[key]

    out = []
    for view in views:
        if view.original != pixels_HWC.shape[:2]:
            raise ValueError(
                f"a view of a {view.original} picture cannot show one of {pixels_HWC.shape[:2]}; plan it anew"
            )
        own = geometry.part(view)
        part, (left, top, right, bottom) = parts.get((own, view.framed, view.resizes)), view.crop
        if part is not None:
            left, top, right, bottom = left - part.left, top - part.top, right - part.left, bottom - part.top
        out.append(cut(after(view, len(view.resizes)), Box(left, top, right, bottom), own.background))
    return out


def _parts(views: Sequence[View], geometry: Geometry) -> dict[Made, Box]:
    """What of each resized picture is looked at, where that is not the whole."""
    boxes: dict[Made, list[Box]] = {}
    for view in views:
        own = geometry.part(view)
        for count, (height, width) in enumerate(view.resizes, start=1):
            looked_at = view.crop if count == len(view.resizes) else Box(0, 0, width, height)
            boxes.setdefault((own, view.framed, view.resizes[:count]), []).append(looked_at)
    parts = {}
    for key, found in boxes.items():
        height, width = key[2][-1]
        left, top = (max(round(min(box[side] for box in found)), 0) for side in (0, 1))
        right, bottom = (round(max(box[side] for box in found)) for side in (2, 3))
        part = Box(left, top, min(right, width), min(bottom, height))
        if part != (0, 0, width, height) and left < part.right and top < part.bottom:
            parts[key] = part
    return parts


def normalised(pixels_HWC: np.ndarray, geometry: Geometry, out_CHW: Tensor | None = None) -> Tensor:
    """(3, H, W) float32, or of the type of `out_CHW` (float32, bfloat16 or float16), which is filled: (value * scale - mean) /
    std, by a table of the 256 values of each channel, which gives the official processors' rounding exactly.
    """
    if out_CHW is None:
        out_CHW = _empty((3, *pixels_HWC.shape[:2]), torch.float32)
    table_C256 = _table(geometry.scale, geometry.mean, geometry.std, out_CHW.dtype)
    bits = out_CHW.numpy() if out_CHW.dtype == torch.float32 else out_CHW.view(torch.int16).numpy()
    if native.available():
        native.planes(pixels_HWC, table_C256, bits)
        return out_CHW
    for channel in range(3):
        np.take(table_C256[channel], pixels_HWC[..., channel], out=bits[channel], mode="clip")
    return out_CHW


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Not filled; in NumPy's memory, whose large pages come many times sooner than PyTorch's small ones."""
    numbers = np.float32 if dtype == torch.float32 else np.int16
    return torch.from_numpy(np.empty(shape, numbers)).view(dtype)


@lru_cache(maxsize=64)
def _table(
    scale: float, mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype = torch.float32
) -> np.ndarray:
    """The normalised values of 0 to 255, (3, 256) float32, or the bits of a type of 16; rescaled in double, normalised in
    single precision.
    """
    values_256 = (np.arange(256, dtype=np.float64) * scale).astype(np.float32)
    table_C256 = (values_256 - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
    if dtype == torch.float32:
        return table_C256
    return torch.from_numpy(table_C256).to(dtype).view(torch.int16).numpy()
