"""Official settings of processors that squeeze a picture to one size, whatever its proportions."""

from __future__ import annotations

from beholder.media.geometry import CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, IMAGENET_STD, Fixed, Geometry
from beholder.media.official import Settings, square


def segformer(settings: Settings) -> Geometry:
    """What becomes of labels is training's."""
    colours = settings.colours("bilinear", IMAGENET_MEAN, IMAGENET_STD)
    for key in ("do_reduce_labels", "reduce_labels"):
        settings.take(key)
    return Fixed(size=square(settings.size("size", (512, 512))), **colours)


def layoutlmv3(settings: Settings) -> Geometry:
    """Words and their boxes, which the processor may read off the page, are given here."""
    colours = settings.colours("bilinear", HALF, HALF)
    for key in ("apply_ocr", "ocr_lang", "tesseract_config"):
        settings.take(key)
    return Fixed(size=square(settings.size("size", (224, 224))), **colours)


def flava(settings: Settings) -> Geometry:
    """Squeezed to a square; what masks patches and makes codes of them is training's."""
    colours = settings.colours("bicubic", CLIP_MEAN, CLIP_STD)
    for key in FLAVA_TRAINING:
        settings.take(key)
    size, crop = (square(settings.size(key, (224, 224))) for key in ("size", "crop_size"))
    if settings.take("do_center_crop", True) and crop != size:
        raise settings.error(f"crop_size {crop} of a picture squeezed to {size} is not supported")
    return Fixed(size=size, **colours)


FLAVA_TRAINING = (
    *("codebook_crop_size", "codebook_do_center_crop", "codebook_do_map_pixels", "codebook_do_normalize"),
    *(
        "codebook_do_rescale",
        "codebook_do_resize",
        "codebook_image_mean",
        "codebook_image_std",
        "codebook_resample",
    ),
    *("codebook_rescale_factor", "codebook_size", "input_size_patches", "mask_group_min_aspect_ratio"),
    *(
        "mask_group_max_aspect_ratio",
        "mask_group_min_patches",
        "mask_group_max_patches",
        "total_mask_patches",
    ),
    *("return_codebook_pixels", "return_image_mask"),
)
