"""Dual encoders under the names of openai/CLIP and what was made from it."""

from __future__ import annotations

from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.parts.audio.stems import SignalPatches
from beholder.parts.audio.transformer import SignalTransformer
from beholder.parts.vision.vit import ViT
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts import audio
from beholder.weights.layouts.common import CLIP_SCALE
from beholder.weights.layouts.hierarchical import CLIP_RESNET
from beholder.weights.layouts.rules import Rules, affine
from beholder.weights.layouts.vision import OPEN_CLIP, OPEN_CLIP_PROJECTION
from beholder.weights.ops import Split, Transpose

IMAGEBIND_BRANCHES = {
    "image": "vision",
    "audio": "audio",
    "depth": "depth",
    "thermal": "thermal",
    "imu": "imu",
}


def imagebind_names(card: Card) -> tuple[Binding, ...]:
    """facebookresearch/ImageBind: all names of a checkpoint, for a card of its five branches and its text tower."""
    bindings: list[Binding] = []
    for branch in card.branches:
        (encoder,) = branch.encoders
        if not isinstance(encoder, SignalTransformer) or not isinstance(encoder.stem, SignalPatches):
            raise BeholderError(f"branch {branch.name} of {card.name} is no encoder of ImageBind's")
        rows, columns = encoder.stem.patch
        numbers = {"positions": encoder.table_rows, "dim": encoder.dim, "inputs": rows * columns}
        published, own = IMAGEBIND_BRANCHES[branch.name], f"branches.{branch.name}."
        bindings.append(Binding("", f"{own}vision.", audio.imagebind(published), numbers))
        bindings.append(Binding("", f"{own}connector.", audio.imagebind_vector(published)))
    context = {"positions": 0 if card.main is None else card.main.context}
    bindings.append(Binding("", "languages.main.", audio.IMAGEBIND_TEXT, context))
    return (*bindings, Binding("", "heads.0.", audio.IMAGEBIND_SCALE))


_IN_PROJ = "transformer.resblocks.{}.attn.in_proj"


def _together(joint: str) -> Rules:
    """Queries, keys and values as one matrix called `joint` and one bias."""
    return {
        f"{_IN_PROJ}{joint}{leaf}": Split(
            tuple(f"blocks.{{}}.attn.{part}.{leaf}" for part in ("q", "k", "v"))
        )
        for leaf in ("weight", "bias")
    }


# SunzeY/AlphaCLIP alpha_clip/model.py `VisionTransformer`: the joint map is a module of its own there
ALPHA_CLIP = Layout(
    {
        **{
            key: op
            for key, op in OPEN_CLIP.rules.items()
            if not key.startswith((_IN_PROJ, "transformer.resblocks.{}.ls"))
        },
        **_together("."),
        "conv1_alpha.weight": "patch.mask.weight",
    },
    name="Alpha-CLIP ViT",
)
# microsoft/LLM2CLIP llm2clip/eva_clip/model.py `TextProj` of four blocks
TEXT_ADAPTER = Layout(
    affine(
        {
            "text_adaptor.{}.ln": "blocks.{}.norm",
            "text_adaptor.{}.fn.0": "blocks.{}.mlp.up",
            "text_adaptor.{}.fn.3": "blocks.{}.mlp.down",
            "text_adaptor.4": "norm",
            "text_adaptor.5": "linear",
        }
    ),
    name="LLM2CLIP text adapter",
)
# openai/CLIP clip/model.py `CLIP`: the text tower, whose names stand beside `visual`
OPENAI_TEXT = Layout(
    {
        "token_embedding.weight": "embedding.weight",
        "positional_embedding": "embedding.positions",
        "text_projection": Transpose("projection.weight"),
        **_together("_"),
        **affine(
            {
                "transformer.resblocks.{}.ln_1": "blocks.{}.norm1",
                "transformer.resblocks.{}.ln_2": "blocks.{}.norm2",
                "transformer.resblocks.{}.attn.out_proj": "blocks.{}.attn.out",
                "transformer.resblocks.{}.mlp.c_fc": "blocks.{}.mlp.up",
                "transformer.resblocks.{}.mlp.c_proj": "blocks.{}.mlp.down",
                "ln_final": "norm",
            }
        ),
    },
    name="openai/CLIP text tower",
)


def openai_names(card: Card) -> tuple[Binding, ...]:
    """openai/CLIP clip/model.py `CLIP`, or SunzeY/AlphaCLIP's: all names of a checkpoint, for a card of two towers."""
    (branch,) = card.branches
    (encoder,) = branch.encoders
    own = "branches.image."
    tower: tuple[Binding, ...] = (Binding("visual.", f"{own}vision.", CLIP_RESNET),)
    if isinstance(encoder, ViT):
        layout = ALPHA_CLIP if encoder.reads_masks else OPEN_CLIP
        tower = (
            Binding("visual.", f"{own}vision.", layout),
            Binding("visual.", f"{own}connector.", OPEN_CLIP_PROJECTION),
        )
    return (*tower, Binding("", "languages.main.", OPENAI_TEXT), Binding("", "heads.0.", CLIP_SCALE))
