"""GGUF files of decoder-only language models: a card from the file's own metadata, and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beholder.cards.schema import Card
from beholder.errors import UnknownName, WeightsError
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.prompts.tokenizer import Tokenizer
from beholder.weights.layout import Binding
from beholder.weights.layouts.decoders import GGUF_DECODER
from beholder.weights.lazy import LazyTensors
from beholder.weights.readers.fields import Fields

# architecture -> whether its query and key rows are permuted (llama.cpp convert_hf_to_gguf.py) and projections have biases
ARCHITECTURES: Mapping[str, tuple[bool, bool]] = {"llama": (True, False), "qwen2": (False, True)}


def gguf_card(path: Path, metadata: Mapping[str, Any], tensors: LazyTensors) -> Card:
    """The language model that a GGUF file holds, named like the file. Raises `UnknownName` for other architectures and
    `BeholderError` for metadata that is missing or cannot be.
    """
    architecture = str(metadata.get("general.architecture"))
    if architecture not in ARCHITECTURES:
        raise UnknownName(f"{path.name}: architecture", architecture, ARCHITECTURES)

    start = f"{architecture}."
    own = {key.removeprefix(start): value for key, value in metadata.items() if key.startswith(start)}
    fields = Fields(own, f"{path.name}: {architecture} metadata")
    for key in (
        "block_count",
        "embedding_length",
        "attention.head_count",
        "feed_forward_length",
        "context_length",
    ):
        fields.need(key)
    if "token_embd.weight" not in tensors or len(tensors["token_embd.weight"].shape) != 2:
        raise WeightsError(f"{path.name}: no matrix token_embd.weight; it is no whole language model")
    if fields.get("rope.scaling.type", "none") != "none" or "rope_freqs.weight" in tensors:
        raise WeightsError(
            f"{path.name}: scaled rotary positions of GGUF files are not supported; use safetensors"
        )
    dim, num_heads = fields.count("embedding_length", 1), fields.count("attention.head_count", 1)
    head_dim = fields.count("attention.key_length", None)
    if fields.count("rope.dimension_count", None) not in (None, head_dim or dim // num_heads):
        raise WeightsError(f"{path.name}: partial rotary positions are not supported; use safetensors")
    decoder = Decoder(
        vocab_size=tensors["token_embd.weight"].shape[0],
        dim=dim,
        num_layers=fields.layers("block_count", 1),
        attention=Attention(
            num_heads=num_heads,
            num_kv_heads=fields.count("attention.head_count_kv", num_heads),
            head_dim=head_dim,
            qkv_bias=ARCHITECTURES[architecture][1],
            rotary=Rotary(theta=fields.positive("rope.freq_base", 10000.0)),
        ),
        mlp=FeedForward(fields.count("feed_forward_length", 1), act="silu", gated=True, bias=False),
        norm=Norm("rms", fields.positive("attention.layer_norm_rms_epsilon")),
        tied="output.weight" not in tensors,
        context=fields.count("context_length", 1),
    )
    return Card(name=path.stem, language=decoder, heads=(NextToken(),))


def gguf_bindings(decoder: Decoder, architecture: str = "llama") -> tuple[Binding, ...]:
    """Where a GGUF file's tensors belong in a system whose main language part is `decoder`."""
    assert isinstance(decoder.attention, Attention)
    heads = {"num_heads": decoder.attention.num_heads, "num_kv_heads": decoder.attention.kv_heads}
    layout = GGUF_DECODER
    if not ARCHITECTURES[architecture][0]:
        plain: dict[str, str | None] = {
            f"blk.{{}}.attn_{leaf}.{kind}": f"blocks.{{}}.attn.{leaf}.{kind}"
            for leaf in "qkv"
            for kind in ("weight", "bias")
        }
        layout = layout.but(plain, name="GGUF decoder without permuted rows")
    return (Binding("", "languages.main.", layout, heads),)


def gguf_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer in a GGUF file's metadata; raises `BeholderError` for vocabularies other than byte-level BPE."""
    field = metadata.get
    return Tokenizer.from_gguf_fields(
        field("tokenizer.ggml.tokens", ()),
        field("tokenizer.ggml.merges", ()),
        field("tokenizer.ggml.token_type", ()),
        model=field("tokenizer.ggml.model", ""),
        pre=field("tokenizer.ggml.pre", ""),
        bos_id=field("tokenizer.ggml.bos_token_id"),
        eos_id=field("tokenizer.ggml.eos_token_id"),
        pad_id=field("tokenizer.ggml.padding_token_id"),
        add_bos=bool(field("tokenizer.ggml.add_bos_token", False)),
        chat_template=field("tokenizer.chat_template"),
    )
