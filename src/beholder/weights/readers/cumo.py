"""CuMo's files: LLaVA's settings for Mistral or Mixtral, with experts in the encoder and in the projector (SHI-Labs/CuMo
cumo/model: multimodal_encoder/clip_smoe.py and clip_encoder.py, multimodal_projector/builder.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.moe import Experts, Routing
from beholder.parts.connectors.experts import MlpExperts
from beholder.parts.fusion.splice import Splice
from beholder.parts.vision.multi_scale import MultiScale
from beholder.parts.vision.vit import ViT
from beholder.weights.layouts import expert_systems as layouts
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava_own import own_llava
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading

# of training, or read here
OWN = (
    *("scales", "num_experts", "num_selected", "mlp_smoe", "clip_smoe", "mm_projector_type"),
    *("num_layers", "training", "balance_loss_coef", "router_z_loss_coef", "local_rank"),
)


def _cumo(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Raises `BeholderError` for experts in one place alone, or another number of sizes than the projector takes."""
    if "mlp_smoe" not in fields:
        return own_llava(fields, name, geometry)
    both = fields.get("mlp_smoe", False) and fields.get("clip_smoe", False)
    if not both or fields.get("mm_projector_type", "smoe_mlp") != "smoe_mlp":
        raise BeholderError(
            f"{fields.name}: mlp_smoe is {fields.raw('mlp_smoe')}, clip_smoe {fields.raw('clip_smoe')}, mm_projector_type "
            f"{fields.raw('mm_projector_type')!r}; only experts in both places were released"
        )
    count, active = fields.count("num_experts", 4), fields.count("num_selected", 2)
    scales = fields.get("scales", [1, 3])
    if not scales or any(type(scale) is not int for scale in scales):
        raise BeholderError(f"{fields.name}: scales is {scales}; expected whole numbers")
    settings = {key: fields.raw(key) for key in list(fields) if key not in OWN}
    fields.ignore(*OWN)
    dense = own_llava(Fields(settings, fields.name), name, geometry)
    plain, language = dense.card.branch().encoders[0], dense.card.main
    assert isinstance(plain, ViT) and isinstance(plain.mlp, FeedForward) and language is not None
    mlp = Experts(
        count, plain.mlp.hidden, Routing(active, normalised=True), plain.mlp.act, gated=False, bias=True
    )
    vision = MultiScale(plain.but(mlp=mlp, post_norm=False), scales=tuple(scales), enlarged=True)
    card = dense.card.but(
        vision=vision, connector=MlpExperts(count, active), fusion=(Splice(token_id=language.vocab_size),)
    )
    numbers = {"num_experts": count}
    eyes, projector, *rest = dense.namings[0]
    naming = (
        replace(
            eyes,
            prefix="model.vision_tower.vision_model.",
            own_prefix=VISION + "encoder.",
            layout=layouts.CUMO_VISION,
            numbers=numbers,
        ),
        replace(projector, own_prefix=CONNECTOR, layout=layouts.CUMO_PROJECTOR, numbers=numbers),
        *rest,
    )
    return Reading(card, (naming,), dense.stages)


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "llava_mistral": _cumo,  # LLaVA's own files for Mistral have the same type
    "llava_mixtral": _cumo,
}
