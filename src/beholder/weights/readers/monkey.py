"""Monkey's files: Qwen-VL's, whose encoder sees each tile with changes of its own (Yuliang-Liu/Monkey monkey_model)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Geometry
from beholder.media.slices import Cut
from beholder.parts.vision.tile_lora import TileLora
from beholder.parts.vision.vit import ViT
from beholder.weights.layout import Binding
from beholder.weights.layouts.resampled import tile_changes
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.reading import VISION, Reading
from beholder.weights.readers.resampled_own import READERS as RESAMPLED

TILE = 448  # pixels of a side, in visual.py
ARCHITECTURES = ("MonkeyLMHeadModel", "QWenLMHeadModel")  # TextMonkey's files have the same type


def _monkey(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Raises `UnknownName` for TextMonkey, whose encoder is another, and `BeholderError` for tiles that do not fit."""
    written = fields.raw("architectures") or ARCHITECTURES[:1]
    if written[0] not in ARCHITECTURES:
        raise UnknownName("config.json: architectures of Monkey", str(written[0]), ARCHITECTURES)
    fields.need("visual")
    eyes: dict[str, Any] = dict(fields.raw("visual"))
    own = Fields(eyes, f"{fields.name}: visual")
    tiles, side = own.count("lora_repeat_num", 4), own.count("image_size", 896)
    rows = side // TILE
    if side % TILE or rows**2 != tiles:
        raise BeholderError(
            f"config.json: visual: image_size is {side}, lora_repeat_num {tiles}; expected a tile of {TILE} x {TILE} pixels "
            "for each of the changes"
        )
    settings: dict[str, Any] = {key: fields.raw(key) for key in list(fields)}
    eyes = {key: value for key, value in eyes.items() if key != "lora_repeat_num"}
    qwen = Fields({**settings, "model_type": "qwen", "visual": eyes}, fields.name)
    images = geometry or Cut(tile=TILE, rows=rows, columns=rows, last=True, mean=CLIP_MEAN, std=CLIP_STD)
    base = RESAMPLED["qwen"](qwen, name, images)
    qwen.finish()
    vision = base.card.branch().encoders[0]
    assert isinstance(vision, ViT)
    (naming,) = base.namings
    changes = Binding(
        "transformer.visual.",
        VISION + "tiles.",
        tile_changes(tiles),
        {"num_heads": vision.attention.num_heads},
    )
    moved = (
        replace(each, own_prefix=VISION + "base.") if each.own_prefix == VISION else each for each in naming
    )
    return Reading(
        base.card.but(vision=TileLora(base=vision, tiles=tiles)), ((*moved, changes),), base.stages
    )


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"monkey": _monkey}
