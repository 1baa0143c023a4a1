"""SPHINX under its authors' names (Alpha-VLLM/LLaMA2-Accessory accessory/model/LLM/llama_ens.py, mixtral_sparse_ens5.py)."""

from __future__ import annotations

from collections.abc import Mapping

from beholder.weights.layout import Layout
from beholder.weights.layouts.decoders import names
from beholder.weights.layouts.rules import affine
from beholder.weights.layouts.vision import OPEN_CLIP
from beholder.weights.ops import Leading, Reshape, RopePermute, Transpose

_LAYER: Mapping[str, str | None] = {
    **{f"attn.{part}": f"attention.w{part}" for part in "qkv"},
    "attn.out": "attention.wo",
    "norm1": "attention_norm",
    "norm2": "ffn_norm",
    "mlp.gate": "feed_forward.w1",
    "mlp.up": "feed_forward.w3",
    "mlp.down": "feed_forward.w2",
}
# pairs that rotate stand side by side; numbers: num_heads, num_kv_heads
DECODER = Layout(
    {
        **names(_LAYER, embedding="tok_embeddings"),
        "layers.{}.attention.wq.weight": RopePermute("blocks.{}.attn.q.weight", "num_heads"),
        "layers.{}.attention.wk.weight": RopePermute("blocks.{}.attn.k.weight", "num_kv_heads"),
    },
    name="LLaMA2-Accessory decoder",
)
# rows of all experts follow each other, those of the map down as of the maps up; numbers: also dim
EXPERTS = DECODER.but(
    {
        "layers.{}.feed_forward.gate.weight": "blocks.{}.mlp.router.weight",
        "layers.{}.feed_forward.w1": Reshape("blocks.{}.mlp.gate", (-1, "dim")),
        "layers.{}.feed_forward.w3": Reshape("blocks.{}.mlp.up", (-1, "dim")),
        "layers.{}.feed_forward.w2": Reshape(Transpose("blocks.{}.mlp.down", (0, 2, 1)), (-1, "dim")),
    },
    name="LLaMA2-Accessory decoder with experts",
)
# open_clip's whole model without the layers of its text tower
CLIP = Layout(
    {
        **{f"visual.{key}": op for key, op in OPEN_CLIP.rules.items()},
        "visual.proj": None,
        **{f"{name}.*": None for name in ("token_embedding", "ln_final")},
        **dict.fromkeys(("positional_embedding", "text_projection", "logit_scale", "attn_mask")),
    },
    name="SPHINX CLIP",
)
ENDS = Layout({"start_img": Leading("begin", 2), "end_img": Leading("end", 2)}, name="SPHINX ends of views")


def way(number: int, matrix: str) -> Layout:
    """torch's `Sequential` of a matrix and a norm. number: of the connector's way; matrix: where it stands in it."""
    return Layout(affine({"0": f"ways.{number}.{matrix}", "1": f"norms.{number}"}), name="SPHINX way")
