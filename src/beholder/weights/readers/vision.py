"""Vision transformers. Defaults are those of the official config classes."""

from __future__ import annotations

from dataclasses import replace

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.vision.patches import Patches
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.layouts.vision import VIT
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Read, Readers, activation_name


def _clip_vision(fields: Fields) -> Read[ViT]:
    for key in ("projection_dim", "vocab_size"):
        fields.raw(key)
    vit = _vit(fields, image_size=224, patch=32, dim=768, hidden=3072, heads=12, act="quick_gelu", eps=1e-5)
    vit = replace(
        vit, cls=True, patches=Patches(bias=False), pre_norm=True, pool="cls", take=Take(norm=False)
    )
    return Read(vit, VIT, body=("vision_model.", ""))


def _siglip_vision(fields: Fields) -> Read[ViT]:
    vit = _vit(fields, image_size=224, patch=16, dim=768, hidden=3072, heads=12, act="gelu_tanh", eps=1e-6)
    vit = replace(vit, pool="attention" if fields.get("vision_use_head", True) else None)
    return Read(vit, VIT, body=("", "vision_model."))


def _idefics3_vision(fields: Fields) -> Read[ViT]:
    for key in ("max_image_size", "size", "tie_word_embeddings", "use_base_siglip"):
        fields.raw(key)
    vit = _vit(fields, image_size=224, patch=32, dim=1152, hidden=3072, heads=16, act="gelu_tanh", eps=1e-6)
    return Read(replace(vit, positions=GridTable("bucketed")), VIT, body=("",))


def _vit(
    fields: Fields, *, image_size: int, patch: int, dim: int, hidden: int, heads: int, act: str, eps: float
) -> ViT:
    return ViT(
        image_size=fields.count("image_size", image_size),
        patch=fields.count("patch_size", patch),
        dim=fields.count("hidden_size", dim),
        num_layers=fields.layers("num_hidden_layers", 12),
        attention=Attention(fields.count("num_attention_heads", heads), qkv_bias=True, out_bias=True),
        mlp=FeedForward(
            fields.count("intermediate_size", hidden), activation_name(fields, "hidden_act", act)
        ),
        norm=Norm("layer", fields.positive("layer_norm_eps", eps)),
    )


READERS: Readers = {
    "clip_vision_model": _clip_vision,
    "siglip_vision_model": _siglip_vision,
    "idefics3_vision": _idefics3_vision,
    "smolvlm_vision": _idefics3_vision,
    "idefics3": _idefics3_vision,  # the released Idefics3 and SmolVLM files call their encoder so
    "smolvlm": _idefics3_vision,
}
