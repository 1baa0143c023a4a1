"""Compiled resampling against Pillow, on every instruction set that there is here, and what happens without it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from beholder.media import pixels as pixels_module
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, AnyRes, Fixed, Split
from beholder.media.pixels import load_views, normalised
from beholder.media.plan import Box
from beholder.media.resize import FILTERS, cut, resize
from beholder.native import resize as native

needs_library = pytest.mark.skipif(not native.available(), reason="run python -m beholder.native.build")
ISAS = native.isas() or ("portable",)
SIDES = st.one_of(st.integers(1, 40), st.integers(1, 700))
WHOLE = range(1, len(FILTERS))  # nearest is not resampled


def noise(height: int, width: int, *, sharp: bool = False) -> np.ndarray:
    pixels = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return (pixels >> 7) * np.uint8(255) if sharp else pixels


def by_pillow(pixels: np.ndarray, size: tuple[int, int], number: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), number))


def whole(size: tuple[int, int]) -> Box:
    return Box(0, 0, size[1], size[0])


@needs_library
@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=80, deadline=None)
@given(
    old=st.tuples(SIDES, SIDES),
    new=st.tuples(SIDES, SIDES),
    number=st.sampled_from(WHOLE),
    threads=st.integers(1, 3),
    sharp=st.booleans(),
)
def test_pixels_are_pillows(isa, old, new, number, threads, sharp):
    pixels = noise(*old, sharp=sharp)
    got = native.resized(pixels, new, number, whole(new), isa=isa, threads=threads)
    assert np.array_equal(got, by_pillow(pixels, new, number))


@needs_library
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((1, 1), (1, 1)),
        ((1, 1), (300, 200)),
        ((2000, 3), (1, 700)),
        ((3, 4000), (700, 1)),
        ((1, 5000), (16, 16)),
        ((900, 900), (900, 31)),
        ((900, 900), (31, 900)),
        ((1500, 700), (40, 690)),  # columns first, since Pillow 13
        ((768, 1024), (1536, 2048)),
        ((1536, 2048), (512, 512)),
    ],
)
def test_extreme_sizes(isa, old, new):
    pixels = noise(*old)
    for number in WHOLE:
        got = native.resized(pixels, new, number, whole(new), isa=isa)
        assert np.array_equal(got, by_pillow(pixels, new, number)), FILTERS[number]


@needs_library
@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=80, deadline=None)
@given(
    data=st.data(), old=st.tuples(SIDES, SIDES), new=st.tuples(SIDES, SIDES), number=st.sampled_from(WHOLE)
)
def test_a_part_equals_cutting(isa, data, old, new, number):
    top, left = (data.draw(st.integers(0, side - 1)) for side in new)
    bottom, right = data.draw(st.integers(top + 1, new[0])), data.draw(st.integers(left + 1, new[1]))
    pixels, part = noise(*old), Box(left, top, right, bottom)
    got = native.resized(pixels, new, number, part, isa=isa)
    assert np.array_equal(got, by_pillow(pixels, new, number)[top:bottom, left:right])


@needs_library
def test_pictures_that_are_parts_of_others():
    whole_picture = noise(90, 120)
    inner = whole_picture[11:71, 7:98]
    turned = whole_picture.swapaxes(0, 1)
    for pixels in (inner, turned, whole_picture[:, ::-1], np.broadcast_to(np.uint8(7), (30, 20, 3))):
        got = native.resized(pixels, (40, 33), 3, whole((40, 33)))
        assert np.array_equal(got, by_pillow(np.ascontiguousarray(pixels), (40, 33), 3))


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(), old=st.tuples(SIDES, SIDES), new=st.tuples(SIDES, SIDES), name=st.sampled_from(FILTERS)
)
def test_parts_with_and_without_the_library(data, old, new, name):
    top, left = (data.draw(st.integers(0, side - 1)) for side in new)
    part = Box(left, top, data.draw(st.integers(left + 1, new[1])), data.draw(st.integers(top + 1, new[0])))
    pixels = noise(*old)
    with pytest.MonkeyPatch.context() as patch:
        for switch in ("1", "0"):
            patch.setenv("BEHOLDER_NATIVE", switch)
            assert native.available() is (switch == "1" and bool(native.isas()))
            got = resize(pixels, new, name, part=part)
            assert np.array_equal(got, cut(resize(pixels, new, name), part))
            assert np.array_equal(got, cut(by_pillow(pixels, new, FILTERS.index(name)), part))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(1, 1), (7, 33), (336, 336)])
def test_normalised_planes_equal_the_table(dtype, size, monkeypatch):
    geometry, pixels = Fixed(size=size, mean=CLIP_MEAN, std=CLIP_STD), noise(*size)
    fused = normalised(pixels, geometry, torch.empty((3, *size), dtype=dtype))
    monkeypatch.setenv("BEHOLDER_NATIVE", "0")
    assert not native.available()
    plain = normalised(pixels, geometry, torch.empty((3, *size), dtype=dtype))
    values = (pixels.astype(np.float64) * (1 / 255)).astype(np.float32)
    formula = (values - np.array(CLIP_MEAN, np.float32)) / np.array(CLIP_STD, np.float32)
    assert torch.equal(fused, plain)
    assert torch.equal(plain, torch.from_numpy(formula).permute(2, 0, 1).to(dtype))


@pytest.mark.parametrize(
    "geometry",
    [
        Fixed(size=(224, 224), fit="crop", mean=CLIP_MEAN, std=CLIP_STD),
        Fixed(size=(250, 250), fit="crop", edge=224),  # the cut is larger than the picture
        Fixed(size=(96, 96), fit="pad", background=(122, 116, 104)),
        AnyRes(tile=112, pinpoints=((224, 224), (112, 336))),
        Split(tile=112, longest=448),
    ],
)
@pytest.mark.parametrize("original", [(300, 400), (401, 233), (20, 900)])
def test_views_with_and_without_the_library(geometry, original, monkeypatch):
    pixels = noise(*original)
    views = geometry.views(original)
    fused = load_views(pixels, views, geometry)
    narrow = load_views(pixels, views, geometry, torch.bfloat16)
    monkeypatch.setenv("BEHOLDER_NATIVE", "0")
    plain = load_views(pixels, views, geometry)
    monkeypatch.setattr(pixels_module, "_parts", lambda *_: {})  # whole pictures, then cut
    whole_pictures = load_views(pixels, views, geometry)
    for i in range(len(views)):
        assert torch.equal(fused[i], plain[i]) and torch.equal(plain[i], whole_pictures[i])
        assert torch.equal(narrow[i], plain[i].bfloat16())


def test_views_of_one_size_lie_together():
    geometry = Split(tile=28, longest=112)
    tiles = load_views(noise(84, 112), geometry.views((84, 112)), geometry)
    steps = {after.data_ptr() - before.data_ptr() for before, after in pairwise(tiles)}
    assert steps == {3 * 28 * 28 * 4}
