"""Molmo 2."""

from __future__ import annotations

from collections.abc import Mapping

from beholder.weights.layout import Layout
from beholder.weights.layouts.decoders import QKV, names
from beholder.weights.layouts.rules import Rules, affine
from beholder.weights.ops import Fuse, Reshape, Split, Transpose

_W = {"q": "wq", "k": "wk", "v": "wv", "out": "wo"}

# allenai/Molmo2-8B: modeling_molmo2.py; a patch's values are its rows of pixels of 3 colours. numbers: patch_values
VISION = Layout(
    {
        "positional_embedding": "positions",
        "patch_embedding.weight": Reshape(Transpose("patch.weight", (0, 3, 1, 2)), (-1, "patch_values")),
        "patch_embedding.bias": "patch.bias",
        **affine(
            {
                f"transformer.resblocks.{{}}.{key}": f"blocks.{{}}.{own}"
                for key, own in {
                    **{f"attention.{theirs}": f"attn.{own}" for own, theirs in _W.items()},
                    "attention_norm": "norm1",
                    "feed_forward.w1": "mlp.up",
                    "feed_forward.w2": "mlp.down",
                    "ffn_norm": "norm2",
                }.items()
            }
        ),
    },
    name="Molmo 2 ViT",
)
CONNECTOR = Layout(
    {
        **affine({f"image_pooling_2d.{theirs}": f"attn.{own}" for own, theirs in _W.items()}),
        "image_projector.w3.weight": Fuse("then.layers.0.weight", 0, (1, 1)),
        "image_projector.w1.weight": Fuse("then.layers.0.weight", 1, (1, 1)),
        "image_projector.w2.weight": "then.layers.1.weight",
    },
    name="Molmo 2 pooling and projector",
)


def _decoder(norms: Mapping[str, str | None]) -> Rules:
    """numbers: words, further_words (of the two token tables that are one of ours)."""
    changes = {
        "attn.out": "self_attn.attn_out",
        "mlp.gate": None,
        "mlp.up": None,
        "mlp.down": "mlp.ff_out",
        **norms,
    }
    rules = names(
        changes, layer="blocks.{}.", embedding="wte", norm="ln_f", fused={"self_attn.att_proj": QKV}
    )
    share = ("words", "further_words")
    return {
        **{key: op for key, op in rules.items() if key != "wte.weight"},
        "wte.embedding": Fuse("embedding.weight", 0, share),
        "wte.new_embedding": Fuse("embedding.weight", 1, share),
        "blocks.{}.mlp.ff_proj.weight": Split(("blocks.{}.mlp.up.weight", "blocks.{}.mlp.gate.weight")),
    }


DECODER = Layout(_decoder({"norm1": "attn_norm", "norm2": "ff_norm"}), name="Molmo 2 decoder")
DECODER_AFTER = Layout(
    _decoder({"norm1": None, "norm2": None, "after1": "attn_norm", "after2": "ff_norm"}),
    name="Molmo 2 decoder with norms after",
)
