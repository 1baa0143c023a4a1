"""Files of Monkey and TextMonkey: Qwen-VL's, whose encoder sees each tile with changes of its own, or tiles that look at each
other (Yuliang-Liu/Monkey monkey_model; text_monkey/visual_text.py, modeling_textmonkey.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Geometry
from beholder.media.slices import Cut
from beholder.parts.connectors.kept_tokens import KeptTokens
from beholder.parts.vision.tile_lora import TileLora
from beholder.parts.vision.tile_windows import TileWindows
from beholder.parts.vision.vit import ViT
from beholder.weights.layout import Binding
from beholder.weights.layouts.resampled import KEPT_TOKENS, TILE_WINDOWS, tile_changes
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import expect, side
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading
from beholder.weights.readers.resampled_own import READERS as RESAMPLED

TILE = 448  # pixels of a side, in visual.py
QUERIES = 256  # of a view, in visual_text.py
ARCHITECTURES = ("MonkeyLMHeadModel", "QWenLMHeadModel", "TextMonkeyLMHeadModel")
CHOICES = ("add_window", "use_global", "resampler")  # of TextMonkey's, which the released one makes


def _monkey(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Raises `BeholderError` for tiles that do not fit, and for a TextMonkey that sees in another way than the released one."""
    written = fields.raw("architectures") or ARCHITECTURES[:1]
    if written[0] not in ARCHITECTURES:
        raise UnknownName("config.json: architectures of Monkey", str(written[0]), ARCHITECTURES)
    fields.need("visual")
    eyes: dict[str, Any] = dict(fields.raw("visual"))
    if written[0] == ARCHITECTURES[-1] or CHOICES[0] in eyes:
        return _textmonkey(fields, eyes, name, geometry)
    own = Fields(eyes, f"{fields.name}: visual")
    tiles, size = own.count("lora_repeat_num", 4), side(own, "image_size", 896)
    rows = size // TILE
    if size % TILE or rows**2 != tiles:
        raise BeholderError(
            f"config.json: visual: image_size is {size}, lora_repeat_num {tiles}; expected a tile of {TILE} x {TILE} pixels "
            "for each of the changes"
        )
    base = _qwen(fields, eyes, name, geometry or _cut(rows))
    vision = _vision(base)
    changes = Binding(
        "transformer.visual.",
        VISION + "tiles.",
        tile_changes(tiles),
        {"num_heads": vision.attention.num_heads},
    )
    moved = _moved(base, {VISION: VISION + "base."})
    return Reading(
        base.card.but(vision=TileLora(base=vision, tiles=tiles)), ((*moved, changes),), base.stages
    )


def _textmonkey(fields: Fields, eyes: dict[str, Any], name: str, geometry: Geometry | None) -> Reading:
    """Tiles without changes of their own, as finetune/finetune_textmonkey.sh trains them."""
    own = Fields(eyes, f"{fields.name}: visual")
    size, kept = side(own, "image_size", 896), own.count("r", 512)
    for key in CHOICES:
        expect(own, key, None, True)
    expect(own, "lora_repeat_num", 0, 0)
    if size % TILE:
        raise BeholderError(
            f"config.json: visual: image_size is {size}; expected tiles of {TILE} x {TILE} pixels"
        )
    tokens = own.count("n_queries", kept + QUERIES)
    if tokens != kept + QUERIES:
        raise BeholderError(
            f"config.json: visual: n_queries is {tokens}; expected r + {QUERIES}, which is {kept + QUERIES}"
        )
    rows = size // TILE
    base = _qwen(fields, {**eyes, "n_queries": QUERIES}, name, geometry or _cut(rows))
    eyes_of, connector = TileWindows(base=_vision(base), side=rows), base.card.branch().connector
    namings = (
        *_moved(base, {VISION: VISION + "base.", CONNECTOR: CONNECTOR + "then."}),
        Binding("transformer.visual.", VISION, TILE_WINDOWS),
        Binding("transformer.visual.downresampler.", CONNECTOR, KEPT_TOKENS),
    )
    assert connector is not None
    card = base.card.but(vision=eyes_of, connector=KeptTokens(kept=kept, then=connector))
    return Reading(card, (namings,), base.stages)


def _cut(rows: int) -> Geometry:
    return Cut(tile=TILE, rows=rows, columns=rows, last=True, mean=CLIP_MEAN, std=CLIP_STD)


def _qwen(fields: Fields, eyes: Mapping[str, Any], name: str, geometry: Geometry) -> Reading:
    """Without what Monkeys have besides."""
    settings: dict[str, Any] = {key: fields.raw(key) for key in list(fields)}
    kept = {key: value for key, value in eyes.items() if key not in ("lora_repeat_num", "r", *CHOICES)}
    qwen = Fields({**settings, "model_type": "qwen", "visual": kept}, fields.name)
    base = RESAMPLED["qwen"](qwen, name, geometry)
    qwen.finish()
    return base


def _vision(base: Reading) -> ViT:
    vision = base.card.branch().encoders[0]
    assert isinstance(vision, ViT)
    return vision


def _moved(base: Reading, prefixes: Mapping[str, str]) -> tuple[Binding, ...]:
    """What names Qwen-VL's weights, where other parts hold its own."""
    (naming,) = base.namings
    return tuple(replace(each, own_prefix=prefixes.get(each.own_prefix, each.own_prefix)) for each in naming)


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"monkey": _monkey}
