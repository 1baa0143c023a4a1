"""Official settings of processors that keep a picture whole and in its own proportions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beholder.media.geometry import CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, IMAGENET_STD, Geometry
from beholder.media.official import Settings, channels
from beholder.media.several import Several
from beholder.media.shapes import Inside, Whole


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


def grounding_dino(settings: Settings) -> Geometry:
    """In its own proportions; padding makes a batch, boxes in files are of training."""
    colours = settings.colours("bilinear", IMAGENET_MEAN, IMAGENET_STD)
    for key in ("do_pad", "do_convert_annotations", "format", "pad_size"):
        settings.take(key)
    size = settings.take("size", {"shortest_edge": 800, "longest_edge": 1333})
    if not isinstance(size, Mapping) or set(size) != {"shortest_edge", "longest_edge"}:
        raise settings.error(f"size = {size!r}; expected a shortest_edge and a longest_edge")
    edge, limit = int(size["shortest_edge"]), int(size["longest_edge"])
    return Whole(edge=edge, limit=limit, shortened=True, **colours)


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
