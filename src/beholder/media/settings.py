"""Official image processor settings (`preprocessor_config.json`, `processor_config.json`) to geometries.

Every key is read, known not to change pixels, or an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from beholder.errors import BeholderError, UnknownName
from beholder.media.canvas import Canvas
from beholder.media.covering import Covering
from beholder.media.geometry import (
    CLIP_MEAN,
    CLIP_STD,
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    AnyRes,
    Fixed,
    Geometry,
    Split,
)
from beholder.media.longest import Longest
from beholder.media.native import Native
from beholder.media.official import Settings, square
from beholder.media.official_crops import molmo, molmo_2
from beholder.media.official_squeezed import flava, layoutlmv3, segformer
from beholder.media.official_whole import deepseek_vlm, detr, dpt, vilt, yolos
from beholder.media.pages import filled_pages_of, pages_of
from beholder.media.pan_and_scan import PanAndScan
from beholder.media.plan import Size
from beholder.media.several import Several
from beholder.media.shapes import Cornered, Inside
from beholder.media.slices import Bounded, Slices
from beholder.media.smart import SmartResize
from beholder.media.tiles import Tiles
from beholder.media.trimmed import Trimmed

ONEVISION_PINPOINTS = tuple((384 * rows, 384 * columns) for rows in range(1, 7) for columns in range(1, 7))
CLIP_PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


def geometry_from_official(
    preprocessor: Mapping[str, Any], model: Mapping[str, Any] | None = None
) -> Geometry:
    """The geometry of an official `preprocessor_config.json` (or a `processor_config.json`, which holds the same under
    `image_processor`). model: the model's `config.json`, checked against it where both say the same.

    Raises `UnknownName` for an unknown processor type and `BeholderError` for a setting that is not understood.
    """
    data = preprocessor.get("image_processor", preprocessor)
    if not isinstance(data, Mapping):
        raise BeholderError("image_processor: expected an object of settings")
    kind = str(data.get("image_processor_type") or data.get("feature_extractor_type") or "")
    kind = kind.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    reader = READERS.get(kind)
    if reader is None:
        raise UnknownName("image processor type", kind, READERS)
    settings = Settings(kind, data, model or {})
    try:
        geometry = reader(settings)
    except BeholderError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise settings.error(f"damaged settings ({error}); fetch the file again") from None
    settings.finish()
    return geometry


def _clip(settings: Settings) -> Geometry:
    colours = settings.colours("bicubic", CLIP_MEAN, CLIP_STD)
    pad = settings.kind == "LlavaImageProcessor" and settings.take("do_pad", False)
    size = settings.size("size", 224)
    crop: Size | None = square(settings.size("crop_size", 224))
    if not settings.take("do_center_crop", True):
        crop = None
    if pad:
        colours["background"] = tuple(int(value * 255) for value in colours["mean"])
    if isinstance(size, tuple):
        if pad or crop not in (None, size):
            raise settings.error(f"size {size} with crop_size {crop} or padding is not supported")
        return Fixed(size=size, **colours)
    if crop is None and not pad:
        raise settings.error("pictures keep their proportions (no centre crop), so views have no common size")
    shown = crop or (size, size)
    return Fixed(
        size=shown, fit="pad" if pad else "crop", edge=None if size == min(shown) else size, **colours
    )


def _chameleon(settings: Settings) -> Geometry:
    """From about -1 to 1, by a factor of 0.0078 and a mean and deviation of 1."""
    usual: dict[str, Any] = {"size": 512, "crop_size": 512, "resample": 1, "rescale_factor": 0.0078}
    usual |= {"image_mean": [1.0] * 3, "image_std": [1.0] * 3}
    usual |= {f"do_{step}": True for step in ("resize", "center_crop", "rescale", "normalize")}
    own = {key: settings.take(key, value) for key, value in usual.items()}
    return _clip(Settings(settings.kind, own, settings.model))


def _siglip(settings: Settings) -> Geometry:
    colours = settings.colours("bicubic", HALF, HALF)
    size = settings.size("size", (224, 224))
    if not isinstance(size, tuple):
        raise settings.error(f"size = {{'shortest_edge': {size}}}; expected height and width")
    return Fixed(size=size, **colours)


def _siglip2(settings: Settings) -> Geometry:
    """As many patches as allowed, in about the picture's own proportions."""
    colours = settings.colours("bilinear", HALF, HALF)
    patch = int(settings.take("patch_size", 16))
    patches = int(settings.take("max_num_patches", 256))
    if patch < 1 or patches < 1:
        raise settings.error(f"patch_size {patch}, max_num_patches {patches}: expected 1 or more of both")
    own = settings.model.get("vision_config", {}).get("patch_size", patch)
    if own != patch:
        raise settings.error(f"patches are {patch} pixels but the model's encoder takes {own}")
    rows = next(rows for rows in range(math.isqrt(patches), 0, -1) if patches % rows == 0)
    return Native(cell=patch, size=(rows * patch, patches // rows * patch), fit="most", **colours)


def _blip(settings: Settings) -> Geometry:
    """Squeezed to one size."""
    colours = settings.colours("bicubic", CLIP_MEAN, CLIP_STD)
    settings.take("size_divisor")
    return Fixed(size=square(settings.size("size", (384, 384))), **colours)


def _owlvit(settings: Settings) -> Geometry:
    """Squeezed to a square; files name a cut that is not made."""
    colours = settings.colours("bicubic", CLIP_MEAN, CLIP_STD)
    settings.take("crop_size")
    settings.require("do_center_crop", False)
    return Fixed(size=square(settings.size("size", (768, 768))), **colours)


def _owlv2(settings: Settings) -> Geometry:
    """Padded to a square on the right or at the bottom, then smoothed and sampled."""
    colours = settings.colours("bilinear", CLIP_MEAN, CLIP_STD)
    settings.require("do_pad", True)
    size = square(settings.size("size", (960, 960)))
    return Cornered(size=size, **(colours | {"filter": "smoothed"}))


def _vit(settings: Settings) -> Geometry:
    """Squeezed to a square, whatever the proportions."""
    filter_name = "bilinear" if settings.kind == "ViTImageProcessor" else "bicubic"
    colours = settings.colours(filter_name, HALF, HALF)
    size = square(settings.size("size", 256 if settings.kind == "DeiTImageProcessor" else 224))
    crop = square(settings.size("crop_size", 224))
    crops = settings.take("do_center_crop", settings.kind == "DeiTImageProcessor")
    if crops and crop != size:
        raise settings.error(f"crop_size {crop} of a picture squeezed to {size} is not supported")
    return Fixed(size=size, **colours)


def _efficientnet(settings: Settings) -> Geometry:
    """Squeezed to a square, of which the middle may be cut out; `include_top` divides by the deviations once more."""
    normalise = settings.take("do_normalize", True)
    offset, divisions = settings.take("rescale_offset", False), normalise + settings.take("include_top", True)
    colours = settings.colours("bicubic", HALF, HALF)
    colours["mean"] = tuple(value * normalise + offset for value in colours["mean"])
    colours["std"] = tuple(value**divisions for value in colours["std"])
    size = square(settings.size("size", (346, 346)))
    crop = square(settings.size("crop_size", (289, 289)))
    if not settings.take("do_center_crop", False):
        return Fixed(size=size, **colours)
    if size[0] != size[1]:
        raise settings.error(f"size is {size}; expected a square, of which the middle is cut out")
    return Fixed(size=crop, fit="squeeze", edge=size[0], **colours)


def _convnext(settings: Settings) -> Geometry:
    """Below 384 pixels a crop of a share of the picture, else the whole of it, squeezed."""
    colours = settings.colours("bilinear", IMAGENET_MEAN, IMAGENET_STD)
    size, share = settings.size("size", 384), settings.take("crop_pct", 224 / 256)
    if isinstance(size, tuple):
        raise settings.error(f"size is {size}; expected a shortest_edge")
    if size >= 384:
        return Fixed(size=(size, size), **colours)
    return Fixed(size=(size, size), fit="crop", edge=int(size / share), **colours)


def _llava_next(settings: Settings) -> Geometry:
    colours = settings.colours("bicubic", CLIP_MEAN, CLIP_STD)
    settings.require("aspect_ratio_setting", "anyres")
    settings.take("do_pad")  # pads the list of tiles of a batch
    size, crop = square(settings.size("size", 224)), square(settings.size("crop_size", 224))
    tile = size[0]
    if size != (tile, tile) or crop != size:
        raise settings.error(f"size {size} and crop_size {crop} are not one square tile")
    settings.require("do_center_crop", True)
    pinpoints = _pinpoints(settings.take("image_grid_pinpoints", CLIP_PINPOINTS))
    in_model = settings.model.get("image_grid_pinpoints")
    if in_model is not None and _pinpoints(in_model) != pinpoints:
        raise settings.error(
            f"image_grid_pinpoints differ: {pinpoints} here, {_pinpoints(in_model)} in the model"
        )
    _same_tile(settings, tile)
    return AnyRes(tile=tile, pinpoints=pinpoints, **colours)


def _llava_onevision(settings: Settings) -> Geometry:
    colours = settings.colours("bicubic", CLIP_MEAN, CLIP_STD)
    settings.take("do_pad")  # pads the list of tiles of a batch
    (tile, _) = size = square(settings.size("size", (384, 384)))
    if size != (tile, tile):
        raise settings.error(f"size {size} is no square tile")
    pinpoints = _pinpoints(settings.take("image_grid_pinpoints", ONEVISION_PINPOINTS))
    _same_tile(settings, tile)
    return AnyRes(tile=tile, pinpoints=pinpoints, **colours)


def _gemma3(settings: Settings) -> Geometry:
    colours = settings.colours("bilinear", HALF, HALF)
    height, width = square(settings.size("size", (224, 224)))
    if height != width:
        raise settings.error(f"size {height} x {width}; expected a square")
    least = int(settings.take("pan_and_scan_min_crop_size") or 256)
    most = int(settings.take("pan_and_scan_max_num_crops") or 4)
    ratio = float(settings.take("pan_and_scan_min_ratio_to_activate") or 1.2)
    scans = bool(settings.take("do_pan_and_scan", False))
    return PanAndScan(side=height, most=most if scans else 0, least=least, ratio=ratio, **colours)


def _ovis2(settings: Settings) -> Geometry:
    colours = settings.colours("bicubic", CLIP_MEAN, CLIP_STD)
    height, width = square(settings.size("size", (384, 384)))
    settings.take("min_patches")
    most = int(settings.take("max_patches", 12))
    settings.require("use_covering_area_grid", True)
    if height != width:
        raise settings.error(f"size {height} x {width}; expected a square")
    return Covering(tile=height, most=most if settings.take("crop_to_patches", False) else 1, **colours)


def _idefics3(settings: Settings) -> Geometry:
    colours = settings.colours("lanczos", HALF, HALF)
    settings.take("do_pad")  # pads the list of tiles of a batch
    tile = settings.longest("max_image_size", 364)
    longest = settings.longest("size", 4 * 364)
    splits = bool(settings.take("do_image_splitting", True))
    _same_tile(settings, tile)
    return Split(tile=tile, longest=longest, splits=splits, **colours)


def _aria(settings: Settings) -> Geometry:
    colours = settings.colours("bicubic", HALF, HALF)
    longest, least = (
        int(settings.take(f"{end}_image_size", side)) for end, side in (("max", 980), ("min", 336))
    )
    shapes = settings.take("split_resolutions", None) or ARIA_SHAPES
    splits = settings.take("split_image", False)
    pinpoints = tuple((int(height), int(width)) for height, width in shapes) if splits else ()
    return Trimmed(longest=longest, least=least, pinpoints=pinpoints, **colours)


def _got_ocr2(settings: Settings) -> Geometry:
    """One square, or the tiles of InternVL and Aya Vision."""
    colours = settings.colours("bicubic", CLIP_MEAN, CLIP_STD)
    size = square(settings.size("size", (384, 384)))
    least, most = (int(settings.take(f"{end}_patches", count)) for end, count in (("min", 1), ("max", 12)))
    if not settings.take("crop_to_patches", False):
        return Fixed(size=size, **colours)
    if size[0] != size[1]:
        raise settings.error(f"size is {size}; expected square tiles")
    _same_tile(settings, size[0])
    return Tiles(tile=size[0], least=least, most=most, **colours)


def _smart(settings: Settings) -> Geometry:
    """Whole cells within a budget of pixels, which files of the first releases call min_pixels and max_pixels."""
    own = SmartResize()
    wide = settings.kind == "VideoLlama3ImageProcessor"
    mean, std = (HALF, HALF) if wide else (CLIP_MEAN, CLIP_STD)
    colours = settings.colours("bicubic", mean, std)
    span = settings.take("temporal_patch_size", 1 if wide else 2)
    cell = int(settings.take("patch_size", 14)) * int(settings.take("merge_size", 1 if wide else 2))
    budget = settings.take("size", {})
    least = settings.take("min_pixels") or budget.get("shortest_edge", own.least)
    most = settings.take("max_pixels") or budget.get("longest_edge", own.most)
    smart = SmartResize(cell=cell, least=int(least), most=int(most), **colours)
    return smart.but(frames=int(span), grown=True) if settings.kind.startswith("Glm4") else smart


def _idefics2(settings: Settings) -> Geometry:
    colours = settings.colours("bilinear", HALF, HALF)
    settings.take("do_pad")  # pads the pictures of a batch
    size = settings.take("size", {"shortest_edge": 378, "longest_edge": 980})
    if not isinstance(size, Mapping) or set(size) != {"shortest_edge", "longest_edge"}:
        raise settings.error(f"size = {size!r}; expected a shortest_edge and a longest_edge")
    cell = int(settings.model.get("vision_config", {}).get("patch_size", 14))
    splits = bool(settings.take("do_image_splitting", False))
    shortest, longest = int(size["shortest_edge"]), int(size["longest_edge"])
    if shortest < cell or longest < shortest:
        raise settings.error(f"sides of {shortest} to {longest} pixels do not hold patches of {cell}")
    return Bounded(shortest=shortest, longest=longest, cell=cell, splits=splits, **colours)


def _minicpm_v(settings: Settings) -> Geometry:
    """Views of whole squares of patches that become one token. Numbers of pictures stand in the prompt's format."""
    colours = settings.colours("bicubic", HALF, HALF)
    settings.take("use_image_id")
    mode, patch = settings.take("downsample_mode", "16x"), int(settings.take("patch_size", 14))
    if mode not in ("4x", "16x"):
        raise settings.error(f"downsample_mode {mode!r}; expected 4x or 16x")
    side, most = int(settings.take("scale_resolution", 448)), int(settings.take("max_slice_nums", 9))
    slices = bool(settings.take("slice_mode", True))
    return Slices(
        side=side,
        most=most if slices else 1,
        cell=patch * (4 if mode == "16x" else 2),
        whole=("<image>", "</image>"),
        slice=("<slice>", "</slice>"),
        **colours,
    )


def _pixtral(settings: Settings) -> Geometry:
    """Shrunk to the longest edge where larger; the breaks of rows are the official `PixtralProcessor`'s."""
    colours = settings.colours("bicubic", CLIP_MEAN, CLIP_STD)
    settings.take("do_pad")  # pads the pictures of a batch
    longest, cell = settings.longest("size", 1024), square(settings.size("patch_size", (16, 16)))
    if cell[0] != cell[1]:
        raise settings.error(f"patch_size {cell}; expected square patches")
    merged = cell[0] * int(settings.model.get("spatial_merge_size", 1))
    size = (longest, longest)
    return Native(cell=merged, size=size, fit="within", newline="[IMG_BREAK]", end="[IMG_END]", **colours)


def _fuyu(settings: Settings) -> Geometry:
    """The breaks of rows are the official `FuyuProcessor`'s."""
    colours = settings.colours("bilinear", HALF, HALF)
    size, cell = settings.size("size", (1080, 1920)), settings.size("patch_size", (30, 30))
    if not isinstance(size, tuple) or not isinstance(cell, tuple) or cell[0] != cell[1]:
        raise settings.error(
            f"size {size} and patch_size {cell}; expected heights and widths, and square patches"
        )
    settings.require("do_pad", True)
    settings.require("padding_mode", "constant")
    grey = int(settings.take("padding_value", 1.0))
    return Native(cell=cell[0], size=size, background=(grey,) * 3, newline="|NEWLINE|", **colours)


def _idefics1(settings: Settings) -> Geometry:
    """`image_size` is an older name of `size`."""
    colours = settings.colours("bicubic", CLIP_MEAN, CLIP_STD)
    settings.take("image_num_channels")
    side = settings.take("image_size", 224)
    return Fixed(size=square(settings.size("size", (side, side))), **colours)


def _mllama(settings: Settings) -> Geometry:
    colours = settings.colours("bilinear", HALF, HALF)
    settings.require("do_pad", True)
    height, width = square(settings.size("size", (224, 224)))
    if height != width:
        raise settings.error(f"tiles of {height} x {width} pixels are not square")
    _same_tile(settings, height)
    return Canvas(tile=height, tiles=int(settings.take("max_image_tiles", 4)), **colours)


def _deepseek_vl(settings: Settings) -> Inside:
    """In the middle of a square of the mean colour, whatever background is written."""
    colours = settings.colours("bicubic", CLIP_MEAN, CLIP_STD)
    settings.require("do_pad", True)
    settings.take("background_color")
    side, least = square(settings.size("size", (384, 384)))[0], int(settings.take("min_size", 14))
    background = tuple(int(value * 255) for value in colours["mean"])
    return Inside(side=side, least=least, **(colours | {"background": background}))


def _deepseek_vl_hybrid(settings: Settings) -> Geometry:
    """The encoder of details has pixels of its own, from which those of the other one are scaled down."""
    prefix = "high_res_"
    own = {key: settings.take(prefix + key) for key in ("size", "resample", "image_mean", "image_std")}
    settings.take(prefix + "background_color")
    low = _deepseek_vl(settings)
    given = {"size": {"height": 1024, "width": 1024}} | {key: value for key, value in own.items() if value}
    high = _deepseek_vl(Settings(settings.kind, given | {"min_size": low.least}, settings.model))
    return Several(parts=(low.but(through=(high.side,)), high.but(scale=low.scale)))


def _same_tile(settings: Settings, tile: int) -> None:
    in_model = settings.model.get("vision_config", {}).get("image_size", tile)
    if in_model not in (tile, [tile, tile]):
        raise settings.error(f"tiles are {tile} pixels but the model's encoder takes {in_model}")


def _pinpoints(points: Any) -> tuple[Size, ...]:
    return tuple((int(height), int(width)) for height, width in points)


def _sam(settings: Settings) -> Geometry:
    """Padding is 0 behind the normalisation, which is the mean's colour but for rounding."""
    side = settings.longest("size", 1024)
    settings.require("do_pad", True)
    pad = settings.size("pad_size", (1024, 1024))
    if pad != (side, side):
        raise settings.error(f"pad_size {pad} is not the square of longest_edge {side}")
    for key in ("mask_size", "mask_pad_size"):
        settings.take(key)
    fields = settings.colours("bilinear", IMAGENET_MEAN, IMAGENET_STD)
    red, green, blue = (round(value / fields["scale"]) for value in fields["mean"])
    return Longest(size=side, background=(red, green, blue), **fields)


# transformers image_processing_aria.py, default_resolutions
ARIA_SHAPES = tuple(
    (490 * rows, 490 * columns)
    for rows, columns in (
        *((1, columns) for columns in range(2, 9)),
        *((2, 4), (2, 3), (2, 2), (2, 1), (3, 1), (3, 2), (4, 1), (4, 2)),
        *((rows, 1) for rows in range(5, 9)),
    )
)

READERS: dict[str, Callable[[Settings], Geometry]] = {
    "SamImageProcessor": _sam,
    "CLIPImageProcessor": _clip,
    "ChameleonImageProcessor": _chameleon,
    "ChineseCLIPImageProcessor": _clip,
    "LlavaImageProcessor": _clip,
    "SiglipImageProcessor": _siglip,
    "Siglip2ImageProcessor": _siglip2,
    "Pix2StructImageProcessor": pages_of,
    "Kosmos2_5ImageProcessor": filled_pages_of,
    "BlipImageProcessor": _blip,
    "OwlViTImageProcessor": _owlvit,
    "Owlv2ImageProcessor": _owlv2,
    "ViltImageProcessor": vilt,
    "BridgeTowerImageProcessor": vilt,
    "GroundingDinoImageProcessor": detr,
    "DetrImageProcessor": detr,
    "YolosImageProcessor": yolos,
    "DPTImageProcessor": dpt,
    "SegformerImageProcessor": segformer,
    "LayoutLMv3ImageProcessor": layoutlmv3,
    "FlavaImageProcessor": flava,
    "ConvNextImageProcessor": _convnext,
    "EfficientNetImageProcessor": _efficientnet,
    "BitImageProcessor": _clip,
    "ViTImageProcessor": _vit,
    "DeiTImageProcessor": _vit,
    "BeitImageProcessor": _vit,
    "LlavaNextImageProcessor": _llava_next,
    "LlavaNextVideoImageProcessor": _llava_next,
    "LlavaOnevisionImageProcessor": _llava_onevision,
    "Gemma3ImageProcessor": _gemma3,
    "Ovis2ImageProcessor": _ovis2,
    "GotOcr2ImageProcessor": _got_ocr2,
    "FuyuImageProcessor": _fuyu,
    "PixtralImageProcessor": _pixtral,
    "Qwen2VLImageProcessor": _smart,
    "Glm4vImageProcessor": _smart,
    "Glm46VImageProcessor": _smart,
    "VideoLlama3ImageProcessor": _smart,
    "IdeficsImageProcessor": _idefics1,
    "Idefics2ImageProcessor": _idefics2,
    "MiniCPMV4_6ImageProcessor": _minicpm_v,
    "AriaImageProcessor": _aria,
    "Idefics3ImageProcessor": _idefics3,
    "SmolVLMImageProcessor": _idefics3,
    "MllamaImageProcessor": _mllama,
    "DeepseekVLImageProcessor": _deepseek_vl,
    "JanusImageProcessor": _deepseek_vl,
    "DeepseekVLHybridImageProcessor": _deepseek_vl_hybrid,
    "VLMImageProcessor": deepseek_vlm,
    "MolmoImageProcessor": molmo,
    "Molmo2ImageProcessor": molmo_2,
}
