"""Molmo, as Ai2 names it: of 2024 (`FIRST_...`), and 2."""

from __future__ import annotations

from collections.abc import Mapping

from beholder.weights.layout import Layout
from beholder.weights.layouts.decoders import QKV, names
from beholder.weights.layouts.experts import experts
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
# allenai/molmo: olmo/image_vit.py `VisionTransformer`
CLIP = VISION.but({"class_embedding": "cls", **affine({"pre_ln": "pre_norm"})}, name="Molmo ViT")
CONNECTOR = Layout(
    {
        **affine({f"image_pooling_2d.{theirs}": f"attn.{own}" for own, theirs in _W.items()}),
        "image_projector.w3.weight": Fuse("then.layers.0.weight", 0, (1, 1)),
        "image_projector.w1.weight": Fuse("then.layers.0.weight", 1, (1, 1)),
        "image_projector.w2.weight": "then.layers.1.weight",
    },
    name="Molmo 2 pooling and projector",
)
PADDED_CONNECTOR = CONNECTOR.but({"pad_embed": "padding"}, name="Molmo pooling and projector")


def _decoder(norms: Mapping[str, str | None], attn: str = "self_attn.", mlp: str = "mlp.") -> Rules:
    """attn, mlp: where a layer's halves stand. numbers: words, further_words (of the two token tables that are one of ours)."""
    changes = {
        **{f"attn.{key}_norm": f"{attn}{key}_norm" for key in "qk"},
        "attn.out": f"{attn}attn_out",
        "mlp.gate": None,
        "mlp.up": None,
        "mlp.down": f"{mlp}ff_out",
        **norms,
    }
    rules = names(changes, layer="blocks.{}.", embedding="wte", norm="ln_f", fused={f"{attn}att_proj": QKV})
    share = ("words", "further_words")
    return {
        **{key: op for key, op in rules.items() if key != "wte.weight"},
        "wte.embedding": Fuse("embedding.weight", 0, share),
        "wte.new_embedding": Fuse("embedding.weight", 1, share),
        f"blocks.{{}}.{mlp}ff_proj.weight": Split(("blocks.{}.mlp.up.weight", "blocks.{}.mlp.gate.weight")),
    }


BEFORE = {"norm1": "attn_norm", "norm2": "ff_norm"}
AFTER = {"norm1": None, "norm2": None, "after1": "attn_norm", "after2": "ff_norm"}
DECODER = Layout(_decoder(BEFORE), name="Molmo 2 decoder")
DECODER_AFTER = Layout(_decoder(AFTER), name="Molmo 2 decoder with norms after")
# allenai/molmo: olmo/model.py `OLMoSequentialBlock`
FIRST_DECODER = Layout(_decoder(BEFORE, "", ""), name="Molmo decoder")
FIRST_DECODER_AFTER = Layout(_decoder(AFTER, "", ""), name="Molmo decoder with norms after")
_HALVES = {"norm1": "attn.attn_norm", "norm2": "mlp.ff_norm", "mlp.down": None}
# allenai/MolmoE-1B-0924: modeling_molmoe.py `MolmoeBlock`. numbers: also num_experts
FIRST_EXPERTS = Layout(
    {
        **{key: op for key, op in _decoder(_HALVES, "attn.", "").items() if "ff_proj" not in key},
        **experts("blocks.{}.mlp", "gate"),
    },
    name="MolmoE decoder",
)
