"""Official settings of processors that keep a picture whole, most of them in its own proportions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beholder.media.geometry import CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, IMAGENET_STD, Fixed, Geometry
from beholder.media.official import Settings, channels, square
from beholder.media.plan import Size
from beholder.media.several import Several
from beholder.media.shapes import Inside, Near, Whole


def vilt(settings: Settings) -> Geometry:
    """In its own proportions, in whole patches; the longer side is at most 1333 pixels where the shorter one is 800.
    BridgeTower cuts a square out of the middle.
    """
    bridges = settings.kind == "BridgeTowerImageProcessor"
    mean, std = (CLIP_MEAN, CLIP_STD) if bridges else (HALF, HALF)
    colours = settings.colours("bicubic", mean, std)
    settings.take("do_pad")  # pads the pictures of a batch
    edge = settings.size("size", 288 if bridges else 384)
    cut = settings.size("crop_size", 288) if bridges and settings.take("do_center_crop", True) else 0
    if isinstance(edge, tuple) or isinstance(cut, tuple):
        raise settings.error(f"size is {edge}, crop_size {cut}; expected a shortest_edge")
    multiple = settings.take("size_divisor", 32)
    return Whole(
        edge=edge, limit=int(1333 / 800 * edge), multiple=multiple, squeezed=True, cut=cut, **colours
    )


def _edges(settings: Settings) -> tuple[Size | None, tuple[int, int]]:
    """Height and width, where files give them; the shorter side, and what the longer one is at most. Older files give two
    numbers.
    """
    older = settings.take("max_size", 1333)
    size = settings.take("size", {"shortest_edge": 800, "longest_edge": 1333})
    if isinstance(size, int):
        size = {"shortest_edge": size, "longest_edge": older}
    keys = set(size) if isinstance(size, Mapping) else set()
    if keys == {"height", "width"}:
        return (int(size["height"]), int(size["width"])), (0, 0)
    if keys == {"shortest_edge", "longest_edge"}:
        return None, (int(size["shortest_edge"]), int(size["longest_edge"]))
    raise settings.error(f"size = {size!r}; expected a shortest_edge and a longest_edge")


def detr(settings: Settings, multiple: int = 1) -> Geometry:
    """In its own proportions, or squeezed to one size; padding makes a batch, boxes in files are of training. multiple: of
    sides, which are squeezed to it.
    """
    colours = settings.colours("bilinear", IMAGENET_MEAN, IMAGENET_STD)
    for key in ("do_pad", "do_convert_annotations", "format", "pad_size"):
        settings.take(key)
    size, (edge, limit) = _edges(settings)
    if size is not None:
        return Fixed(size=size, **colours)
    return Whole(edge=edge, limit=limit, shortened=True, multiple=multiple, squeezed=multiple > 1, **colours)


def yolos(settings: Settings) -> Geometry:
    """As DETR's, sides squeezed to whole patches (`get_size_with_aspect_ratio_yolos`)."""
    return detr(settings, multiple=16)


def dpt(settings: Settings) -> Geometry:
    """Scaled as little as possible so that one side has its size, in whole patches (Depth Anything), or squeezed."""
    colours = settings.colours("bicubic", HALF, HALF)
    for key in ("do_reduce_labels", "size_divisor"):
        settings.take(key)
    settings.require("do_pad", False)
    size = square(settings.size("size", (384, 384)))
    cell, keeps = int(settings.take("ensure_multiple_of", 1)), settings.take("keep_aspect_ratio", False)
    return Near(size=size, cell=cell, keeps=bool(keeps), **colours)


def deepseek_vlm(settings: Settings) -> Geometry:
    """In the middle of a square (deepseek-ai/DeepSeek-VL deepseek_vl/models/image_processing_vlm.py). Where the model has
    colours of its own for its encoders (clip_encoder.py), they are used here; the one of the whole sees what the other sees,
    scaled down.
    """
    side, least = int(settings.take("image_size", 384)), int(settings.take("min_size", 14))
    background = tuple(settings.take("background_color", (127, 127, 127)))
    colours = settings.colours("bicubic", CLIP_MEAN, CLIP_STD)
    params = settings.model.get("vision_config", {}).get("params", {})
    towers = [params[key] for key in ("low_res_cfg", "high_res_cfg") if key in params] or [params]
    normed = colours["std"] != (1.0, 1.0, 1.0)
    parts = []
    for tower in towers:
        own: dict[str, Any] = {
            key: channels(tower[f"pixel_{key}"]) for key in ("mean", "std") if tower.get(f"pixel_{key}")
        }
        if own and normed:
            raise settings.error("colours are scaled here and in the model too; set do_normalize to false")
        pixels = int(tower.get("image_size", side))
        through = () if pixels == side else (side,)
        fields = colours | own | {"background": background}
        parts.append(Inside(side=pixels, least=least, through=through, **fields))
    return parts[0] if len(parts) == 1 else Several(parts=tuple(parts))
