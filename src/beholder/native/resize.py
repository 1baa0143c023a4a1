"""Pillow's resampling of 8-bit pictures, and their normalised planes, in compiled code (`resize.cpp`).

H height, W width, C channels (RGB)
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

import numpy as np
import PIL

from beholder.errors import BeholderError
from beholder.media.plan import Box, Size

ISAS = ("portable", "avx2", "avx512")
PILLOW = tuple(int(number) for number in PIL.__version__.split(".")[:2])
PIXELS_FOR_THREADS = 2**21  # read and written; with fewer a second thread costs what it saves
THREADS = min(os.cpu_count() or 1, 2)


def _compiled() -> ctypes.CDLL | None:
    return None if os.environ.get("BEHOLDER_NATIVE") == "0" else _loaded()


@cache
def _loaded() -> ctypes.CDLL | None:
    """The library, None where it is not built."""
    from beholder.native.library import kernels  # only where pictures are read

    try:
        compiled = kernels().library
    except BeholderError:
        return None
    pointer, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    compiled.beholder_resize.argtypes = [pointer, size, number, number, pointer, *[number] * 10]
    compiled.beholder_planes.argtypes = [pointer, size, number, number, pointer, pointer, number, number]
    return compiled if compiled.beholder_resize_isa() >= 0 else None


def available() -> bool:
    """Whether the library is built and knows this processor."""
    return _compiled() is not None


def isas() -> tuple[str, ...]:
    """The instruction sets that this processor has, the best last; () without the library."""
    compiled = _compiled()
    return () if compiled is None else ISAS[: compiled.beholder_resize_isa() + 1]


def resized(
    pixels_HWC: np.ndarray,
    size: Size,
    filter_number: int,
    part: Box,
    *,
    isa: str | None = None,
    threads: int | None = None,
) -> np.ndarray:
    """`part`, in whole pixels inside `size`, of what Pillow makes of (H, W, 3) uint8; nothing else of it is computed.

    filter_number: Pillow's, 1 to 5. isa: one of `isas()`, for tests; threads: None is as many as are worth their start.
    """
    compiled, (height, width) = _compiled(), pixels_HWC.shape[:2]
    assert compiled is not None, "ask available() first"
    pixels_HWC = _with_whole_pixels(pixels_HWC)
    left, top, right, bottom = map(int, part)
    out_HWC = np.empty((bottom - top, right - left, 3), np.uint8)
    error = compiled.beholder_resize(
        *(pixels_HWC.ctypes.data, pixels_HWC.strides[0], height, width, out_HWC.ctypes.data),
        *(*size, top, left, bottom, right, filter_number, _columns_first((height, width), size)),
        *(threads or _threads(height * width + out_HWC.size // 3), ISAS.index(isa or isas()[-1])),
    )
    if error == 2:
        raise MemoryError(f"no memory to resize {width} x {height} pixels to {size[1]} x {size[0]}")
    assert not error, f"{pixels_HWC.shape} to {part} of {size} by filter {filter_number}"
    return out_HWC


def _columns_first(old: Size, new: Size) -> bool:
    """Whether the Pillow that is installed resamples along columns before rows, which rounds otherwise."""
    if PILLOW >= (13, 0):
        return old[0] - new[0] > max(2 * (old[1] - new[1]), 0)
    return PILLOW >= (12, 2) and old[0] > 100 * old[1] and new[0] < old[0]


def planes(pixels_HWC: np.ndarray, table_C256: np.ndarray, out_CHW: np.ndarray) -> None:
    """`out_CHW[c, y, x] = table_C256[c, pixels_HWC[y, x, c]]`; both of one type, of 2 or 4 bytes a value."""
    compiled, (height, width) = _compiled(), pixels_HWC.shape[:2]
    assert compiled is not None, "ask available() first"
    assert (
        out_CHW.shape == (3, height, width) and out_CHW.flags.c_contiguous and table_C256.flags.c_contiguous
    )
    assert table_C256.shape == (3, 256) and table_C256.dtype == out_CHW.dtype
    pixels_HWC = _with_whole_pixels(pixels_HWC)
    error = compiled.beholder_planes(
        *(pixels_HWC.ctypes.data, pixels_HWC.strides[0], height, width, table_C256.ctypes.data),
        *(out_CHW.ctypes.data, out_CHW.itemsize, _threads(height * width * 2)),
    )
    assert not error, f"tables of {table_C256.dtype}"


def _with_whole_pixels(pixels_HWC: np.ndarray) -> np.ndarray:
    """The same where bytes of a row lie together, as in any part of a picture; otherwise a copy."""
    assert pixels_HWC.dtype == np.uint8 and pixels_HWC.shape[2] == 3
    return pixels_HWC if pixels_HWC.strides[1:] == (3, 1) else np.ascontiguousarray(pixels_HWC)


def _threads(pixels: int) -> int:
    return THREADS if pixels >= PIXELS_FOR_THREADS else 1
