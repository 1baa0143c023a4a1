"""`config.json` files of LLaVA-NeXT's code with Qwen2: LLaVA-OneVision and LLaVA-Video as lmms-lab releases them.

Names: LLaVA-VL/LLaVA-NeXT llava/model (multimodal_encoder/siglip_encoder.py, llava_arch.py). Their type is LLaVA's or that of
their language model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from beholder.cards import card
from beholder.errors import UnknownName
from beholder.media.geometry import Geometry
from beholder.parts.connectors.pooling import GridPool, TileCap
from beholder.parts.contracts import ConnectorConfig
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.kin import frames_of
from beholder.weights.readers.alone import ALONE
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.glamm import READERS as LLAVA
from beholder.weights.readers.llava_own import architecture, own_llava
from beholder.weights.readers.reading import Reading

OWN = "LlavaQwenForCausalLM"
PROJECTOR = "model.mm_projector."


def _next(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """LLaVA's reading, with SigLIP cut before its last layer, and frames of recordings pooled behind the projector."""
    way, factor = fields.get("mm_spatial_pool_mode", "bilinear"), fields.count("mm_spatial_pool_stride", 2)
    if way not in ("bilinear", "average"):
        raise UnknownName("config.json: mm_spatial_pool_mode", way, ("bilinear", "average"))
    reading = own_llava(fields, name, geometry)
    branch = reading.card.branch()
    eyes = branch.encoders[0]
    if isinstance(eyes, ViT) and not eyes.cls:
        eyes = eyes.but(num_layers=eyes.num_layers - 1, take=Take(norm=False))

    def pooled(then: ConnectorConfig) -> GridPool:
        return GridPool(then, factor=factor, way=way, after=True, frames=True)

    connector = branch.connector
    assert connector is not None
    connector = (
        connector.but(then=pooled(connector.then)) if isinstance(connector, TileCap) else pooled(connector)
    )
    branch = branch.but(encoders=(eyes,), connector=connector)
    branch = branch.but(frames=frames_of(branch, card("llava-onevision-7b").branch()))
    namings = tuple(
        tuple(
            replace(each, own_prefix=each.own_prefix + "then.") if each.prefix == PROJECTOR else each
            for each in naming
        )
        for naming in reading.namings
    )
    return Reading(reading.card.but(branches=(branch,)), namings, reading.stages)


def _llava(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    ours = "mm_vision_tower" in fields and architecture(fields) == OWN
    return (_next if ours else LLAVA["llava"])(fields, name, geometry)


def _qwen2(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    return (_next if "mm_vision_tower" in fields else ALONE["qwen2"])(fields, name, geometry)


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "llava": _llava,
    "llava_qwen": _next,
    "qwen2": _qwen2,
}
