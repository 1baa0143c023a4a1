"""Official settings of processors that cut crops which overlap."""

from __future__ import annotations

from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Geometry
from beholder.media.official import Settings
from beholder.media.overlap import OverlapCrops


def molmo(settings: Settings) -> Geometry:
    """image_preprocessing_molmo.py beside the weights of allenai/Molmo-7B-D-0924. Padding is told to the model."""
    colours = settings.colours("bilinear", CLIP_MEAN, CLIP_STD)
    settings.require("image_padding_mask", True)
    settings.take("auto_map")
    sides = settings.take("base_image_input_size", [336, 336])
    margins = settings.take("overlap_margins", [4, 4])
    cell = int(settings.take("image_patch_size", 14))
    if len({*sides}) != 1 or len({*margins}) != 1:
        raise settings.error(f"base_image_input_size {sides}, overlap_margins {margins}; expected squares")
    crop = int(sides[0])
    rows = -(-crop // cell // 2)
    for key in ("image_token_length_h", "image_token_length_w"):
        settings.require(key, rows)
    return OverlapCrops(
        crop=crop,
        cell=cell,
        margin=int(margins[0]),
        most=int(settings.take("max_crops", 12)),
        padded=True,
        begin="<im_start>",
        newline="<im_col>",
        end="<im_end>",
        **colours,
    )
