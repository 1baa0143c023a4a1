"""Settings of processors of detectors, depth, labels of cells, pages and Molmo 2, against their official arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import from_numpy
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.geometry import HALF, IMAGENET_MEAN, IMAGENET_STD, Fixed
from beholder.media.overlap import OverlapCrops
from beholder.media.plan import Grid, Tag
from beholder.media.resize import PLAIN, resize
from beholder.media.settings import geometry_from_official
from beholder.media.shapes import Near, Whole

SIDES = st.integers(20, 1600)
COLOURS = {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD), "do_normalize": True}
# preprocessor_config.json of facebook/detr-resnet-50, hustvl/yolos-small, nvidia/segformer-b0-finetuned-ade-512-512,
# LiheYoung/depth-anything-small-hf and microsoft/layoutlmv3-base
DETR = COLOURS | {
    "do_resize": True,
    "feature_extractor_type": "DetrFeatureExtractor",
    "format": "coco_detection",
}
DETR |= {"max_size": 1333, "size": 800}
YOLOS = DETR | {"feature_extractor_type": "YolosFeatureExtractor", "size": 512, "max_size": 864}
SEGFORMER = COLOURS | {
    "feature_extractor_type": "SegformerFeatureExtractor",
    "reduce_labels": True,
    "resample": 2,
}
SEGFORMER |= {"size": 512, "do_resize": True}
DEPTH: dict[str, Any] = COLOURS | {
    "image_processor_type": "DPTImageProcessor",
    "do_pad": False,
    "do_rescale": True,
    "do_resize": True,
    "ensure_multiple_of": 14,
    "keep_aspect_ratio": True,
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 518, "width": 518},
    "size_divisor": None,
}
PAGES = {
    "apply_ocr": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
PAGES |= {
    "feature_extractor_type": "LayoutLMv3FeatureExtractor",
    "ocr_lang": None,
    "resample": 2,
    "size": 224,
}
MOLMO_2 = {
    "image_processor_type": "Molmo2ImageProcessor",
    "max_crops": 8,
    "overlap_margins": [4, 4],
    "patch_size": 14,
}
MOLMO_2 |= {"pooling_size": [2, 2], "size": {"height": 378, "width": 378}, "resample": 2, "do_resize": True}
MOLMO_2 |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_convert_rgb": True}


def seen(geometry: Any, height: int, width: int) -> tuple[int, int]:
    (view,) = geometry.views((height, width))
    assert view.size == view.resizes[-1]
    return tuple(view.resizes[-1])


def test_the_numbers_of_released_files() -> None:
    colours: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    half: dict[str, Any] = {"mean": HALF, "std": HALF, "filter": "bilinear"}
    newer = {key: value for key, value in DETR.items() if key not in ("size", "max_size")}
    newer |= {"size": {"shortest_edge": 800, "longest_edge": 1333}, "do_pad": True, "pad_size": None}
    want = Whole(edge=800, limit=1333, shortened=True, filter="bilinear", **colours)
    assert geometry_from_official(DETR) == geometry_from_official(newer) == want
    squeezed = newer | {"size": {"height": 640, "width": 480}}
    assert geometry_from_official(squeezed) == Fixed(size=(640, 480), filter="bilinear", **colours)
    yolos = Whole(
        edge=512, limit=864, shortened=True, multiple=16, squeezed=True, filter="bilinear", **colours
    )
    assert geometry_from_official(YOLOS) == yolos
    assert geometry_from_official(SEGFORMER) == Fixed(size=(512, 512), filter="bilinear", **colours)
    assert geometry_from_official(DEPTH) == Near(size=(518, 518), cell=14, keeps=True, **colours)
    assert geometry_from_official(PAGES) == Fixed(size=(224, 224), **half)
    crops = geometry_from_official(MOLMO_2)
    assert isinstance(crops, OverlapCrops)
    assert (crops.crop, crops.most, crops.margin, crops.padded, crops.filter) == (378, 8, 4, False, PLAIN)


@given(SIDES, SIDES)
def test_yolos_squeezes_to_whole_patches(height: int, width: int) -> None:
    """`get_size_with_aspect_ratio_yolos` of its processor."""
    size: float = 512
    raw = None
    if max(height, width) / min(height, width) * size > 864:
        raw = 864 * float(min(height, width)) / max(height, width)
        size = round(raw)
    long = raw if raw is not None else size
    if width < height:
        tall, wide = int(long * height / width), size
    elif min(height, width) == size:
        tall, wide = height, width
    else:
        tall, wide = size, int(long * width / height)
    if min(tall, wide) >= 16:
        want = (int(tall - tall % 16), int(wide - wide % 16))
        assert seen(geometry_from_official(YOLOS), height, width) == want


@given(SIDES, SIDES, st.booleans())
def test_depth_scales_as_little_as_possible(height: int, width: int, keeps: bool) -> None:
    """`get_resize_output_image_size` of DPT's processor."""
    down, across = 518 / height, 518 / width
    if keeps:
        if abs(1 - across) < abs(1 - down):
            down = across
        else:
            across = down
    tall, wide = (round(scale * side / 14) * 14 for scale, side in ((down, height), (across, width)))
    if min(tall, wide) > 0:
        found = geometry_from_official(DEPTH | {"keep_aspect_ratio": keeps})
        assert seen(found, height, width) == (tall, wide)


def test_molmo_2_marks_the_whole_picture_otherwise() -> None:
    geometry = geometry_from_official(MOLMO_2)
    views = geometry.views((700, 500))
    pieces = geometry.pieces(views, (Grid(1, 2, 2), Grid(1, 3, 4)))
    texts = [piece.text for piece in pieces if isinstance(piece, Tag)]
    first = ["<low_res_im_start>", "<im_col>", "<im_col>", "<im_end>"]
    assert texts == [*first, "<im_start>", *["<im_col>"] * 3, "<im_end>"]


def test_plain_bilinear_is_torchs_without_antialiasing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    x = from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    want = F.interpolate(x, (11, 13), mode="bilinear", antialias=False)[0].permute(1, 2, 0).round()
    assert np.array_equal(resize(pixels, (11, 13), PLAIN), want.clamp(0, 255).byte().numpy())
    assert not np.array_equal(resize(pixels, (11, 13), PLAIN), resize(pixels, (11, 13), "bilinear"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (DETR | {"size": {"longest_edge": 5}}, "expected a shortest_edge and a longest_edge"),
        (DEPTH | {"do_pad": True}, "do_pad = True"),
        (MOLMO_2 | {"overlap_margins": [4, 2]}, "expected squares"),
        (MOLMO_2 | {"resample": 3}, "only bilinear"),
        (SEGFORMER | {"do_crop": True}, "unread settings"),
    ],
)
def test_other_settings_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(BeholderError, match=says):
        geometry_from_official(settings)
