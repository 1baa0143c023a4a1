"""Resizing against Pillow, frames against cutting first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from beholder.errors import BeholderError, UnknownName
from beholder.media import resize as module
from beholder.media.plan import Box
from beholder.media.resize import FILTERS, cut, resize

PILLOW = {name: getattr(Image.Resampling, name.upper()) for name in FILTERS}
SIDES = st.integers(1, 60)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, new_height=SIDES, new_width=SIDES, name=st.sampled_from(FILTERS))
def test_equal_to_pillow(height, width, new_height, new_width, name):
    pixels = noise(height, width)
    want = np.asarray(Image.fromarray(pixels).resize((new_width, new_height), PILLOW[name]))
    assert np.abs(resize(pixels, (new_height, new_width), name).astype(int) - want).max() <= 1


def test_filter_numbers_are_pillows():
    assert [PILLOW[name] for name in FILTERS] == list(range(6))


@settings(max_examples=100, deadline=None)
@given(
    height=SIDES,
    width=SIDES,
    left=st.integers(-40, 20),
    top=st.integers(-40, 20),
    frame_height=st.integers(41, 90),
    frame_width=st.integers(41, 90),
    size=st.sampled_from([(33, 33), (100, 100), (33, 47), (95, 20)]),
    square=st.booleans(),
    name=st.sampled_from(FILTERS),
    slab=st.sampled_from([1, 200, 2**22]),
)
def test_a_frame_equals_cutting_first(
    height, width, left, top, frame_height, frame_width, size, square, name, slab
):
    frame_width = frame_height if square else frame_width
    pixels, frame = noise(height, width), Box(left, top, left + frame_width, top + frame_height)
    if top >= height or left >= width:
        return
    whole = np.full((frame_height + 200, frame_width + 200, 3), (10, 20, 30), np.uint8)
    whole[100 : 100 + height, 100 : 100 + width] = pixels[: frame_height + 100, : frame_width + 100]
    want = whole[100 + top :, 100 + left :][:frame_height, :frame_width]
    assert np.array_equal(cut(pixels, frame, (10, 20, 30)), want)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SLAB_PIXELS", slab)
        got = resize(pixels, size, name, frame=frame, background=(10, 20, 30))
    assert np.array_equal(got, resize(want, size, name))


def test_bad_sizes_and_filters():
    with pytest.raises(UnknownName, match="bicubic"):
        resize(noise(4, 4), (2, 2), "bicubik")
    with pytest.raises(BeholderError, match="0 x 5"):
        resize(noise(4, 4), (0, 5))
