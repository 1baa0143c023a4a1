"""Official settings of processors that cut crops which overlap."""

from __future__ import annotations

from beholder.media.geometry import CLIP_MEAN, CLIP_STD, HALF, Geometry
from beholder.media.official import Settings, square
from beholder.media.overlap import OverlapCrops
from beholder.media.resize import PLAIN


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


def molmo_2(settings: Settings) -> Geometry:
    """Stretched to squares, with no smoothing where they are smaller; the texts around them are the official
    `Molmo2Processor`'s.
    """
    colours = settings.colours("bilinear", HALF, HALF)
    if colours["filter"] != "bilinear":
        raise settings.error(f"resample means {colours['filter']}; only bilinear is supported")
    settings.take("pooling_size")  # the connector's
    settings.take("auto_map")
    (crop, width), margins = (
        square(settings.size("size", (378, 378))),
        settings.take("overlap_margins", [4, 4]),
    )
    if crop != width or len({*margins}) != 1:
        raise settings.error(f"size {crop} x {width}, overlap_margins {margins}; expected squares")
    return OverlapCrops(
        crop=crop,
        cell=int(settings.take("patch_size", 14)),
        margin=int(margins[0]),
        most=int(settings.take("max_crops", 8)),
        whole="<low_res_im_start>",
        begin="<im_start>",
        newline="<im_col>",
        end="<im_end>",
        **(colours | {"filter": PLAIN}),
    )
