"""What proves that a card computes a mechanism of the catalogue: a fact about the card, and the property test behind it.

A fact is `Class`, `Class.field=value` or `Class.field` (set to something), found anywhere in the card as data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from beholder.cards.schema import Card
from beholder.config import Config

KINDS = ("vision", "connector", "fusion", "language", "head", "processing")


class Proof(NamedTuple):
    """facts: all must hold. test: the start of its node id; every test it names must pass."""

    facts: tuple[str, ...]
    test: str


PROOFS: dict[str, Proof] = {
    "linear-projector": Proof(("PixelShuffle",), "tests/parts/test_connectors.py::test_pixel_shuffle"),
    "mlp-projector": Proof(("Mlp",), "tests/parts/test_connectors.py::test_mlp"),
    "pixel-shuffle": Proof(("PixelShuffle",), "tests/parts/test_connectors.py::test_pixel_shuffle"),
    "tile-unpad": Proof(("AnyRes",), "tests/media/test_geometry.py::test_anyres"),
    "modality-token-splicing": Proof(("Splice",), "tests/parts/test_fusion.py::test_splice"),
    "zero-shot-classifier": Proof(("Similarity",), "tests/parts/test_heads.py::test_similarity"),
    "bidirectional-text-encoder": Proof(
        ("TextEncoder.causal=False",), "tests/parts/test_text_encoder.py::test_bidirectional"
    ),
    "causal-text-encoder": Proof(
        ("TextEncoder.causal=True",), "tests/parts/test_text_encoder.py::test_causal"
    ),
    "eot-pooling": Proof(("TextEncoder.pool=highest",), "tests/parts/test_text_encoder.py::test_pool"),
    "causal-decoder": Proof(("Decoder",), "tests/parts/test_decoder.py::test_later_tokens_change_nothing"),
    "gqa": Proof(("Attention.num_kv_heads",), "tests/parts/test_attention.py::test_grouped"),
    "rmsnorm": Proof(("Norm.kind=rms",), "tests/parts/test_blocks.py::test_rms"),
    "rope": Proof(("Rotary",), "tests/parts/test_positions.py::test_scores_depend_on_distance"),
    "rope-base-scaling": Proof(("Rotary.theta",), "tests/parts/test_positions.py::test_wavelengths"),
    "sliding-window-attention": Proof(("Attention.window",), "tests/parts/test_attention.py::test_window"),
    "swiglu-ffn": Proof(
        ("FeedForward.act=silu", "FeedForward.gated=True"), "tests/parts/test_blocks.py::test_gated"
    ),
    "anyres-tiling": Proof(("AnyRes",), "tests/media/test_geometry.py::test_anyres"),
    "chat-template": Proof(("ChatFormat",), "tests/prompts/test_formats.py"),
    "global-thumbnail": Proof((), "tests/media/test_geometry.py"),
    "image-newline-token": Proof((), "tests/media/test_geometry.py"),
    "image-splitting": Proof(("Split",), "tests/media/test_geometry.py::test_split"),
    "multi-image-interleave": Proof(("Splice",), "tests/generate"),
    "tile-tags-row-col": Proof(("Split",), "tests/media/test_geometry.py::test_split"),
    "clip-vit-encoder": Proof(("ViT.cls=True", "ViT.pre_norm=True"), "tests/parts/test_vit.py"),
    "siglip-vit-encoder": Proof(("ViT.cls=False",), "tests/parts/test_vit.py"),
    "vit-encoder": Proof(("ViT",), "tests/parts/test_vit.py"),
    "map-attention-pooling": Proof(("ViT.pool=attention",), "tests/parts/test_vit.py"),
    "penultimate-layer-features": Proof(("Take.layers=(-2,)",), "tests/parts/test_vit.py"),
    "quick-gelu": Proof(("FeedForward.act=quick_gelu",), "tests/parts/test_blocks.py::test_quick_gelu"),
}


def facts(card: Card) -> set[str]:
    """Everything that `Proof.facts` may name of a card."""
    return set(_facts(card))


def _facts(value: Any) -> Iterator[str]:
    if isinstance(value, Config):
        kind = type(value).__name__
        yield kind
        for name in value.__dataclass_fields__:
            inner = getattr(value, name, None)
            if inner is not None:
                yield f"{kind}.{name}"
                yield f"{kind}.{name}={inner}"
                yield from _facts(inner)
    elif isinstance(value, tuple):
        for item in value:
            yield from _facts(item)
