"""Decoders of Llama's form. Defaults are those of the official config classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from beholder.errors import BeholderError
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.transformer import LayerKind
from beholder.parts.language.decoder import Decoder
from beholder.weights.layouts.decoders import DECODER
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Read, Readers, activation_name, head_dim, rotary


@dataclass(frozen=True)
class DecoderDefaults:
    """What the official config class of one decoder assumes where the file is silent."""

    vocab_size: int = 32000
    dim: int = 4096
    hidden: int = 11008
    num_layers: int = 32
    num_heads: int = 32
    num_kv_heads: int | None = None
    context: int = 2048
    eps: float = 1e-6
    window: int | None = None
    theta: float = 10000.0


LLAMA = DecoderDefaults()
MISTRAL = DecoderDefaults(hidden=14336, num_kv_heads=8, context=131072, window=4096)
QWEN2 = DecoderDefaults(vocab_size=151936, hidden=22016, num_kv_heads=32, context=32768, window=4096)


def decoder(fields: Fields, assumed: DecoderDefaults) -> Decoder:
    """A decoder of Llama's form: RMS norms before each half, gated MLP, rotary positions, no biases."""
    num_heads = fields.count("num_attention_heads", assumed.num_heads)
    dim = fields.count("hidden_size", assumed.dim)
    context = fields.count("max_position_embeddings", assumed.context)
    return Decoder(
        vocab_size=fields.count("vocab_size", assumed.vocab_size),
        dim=dim,
        num_layers=fields.layers("num_hidden_layers", assumed.num_layers),
        attention=Attention(
            num_heads=num_heads,
            num_kv_heads=fields.count("num_key_value_heads", assumed.num_kv_heads or num_heads),
            head_dim=head_dim(fields, dim, num_heads),
            rotary=rotary(fields, context, theta=assumed.theta),
        ),
        mlp=FeedForward(
            hidden=fields.count("intermediate_size", assumed.hidden),
            act=activation_name(fields, "hidden_act", "silu"),
            gated=True,
            bias=False,
        ),
        norm=Norm("rms", fields.positive("rms_norm_eps", assumed.eps)),
        tied=fields.get("tie_word_embeddings", False),
        context=context,
    )


def _llama(fields: Fields) -> Read[Decoder]:
    bias = fields.get("attention_bias", False)
    biases = {
        "attention.qkv_bias": bias,
        "attention.out_bias": bias,
        "mlp.bias": fields.get("mlp_bias", False),
    }
    return Read(decoder(fields, LLAMA).but(**biases), DECODER)


def _mistral(fields: Fields) -> Read[Decoder]:
    """A null `sliding_window` means none; an absent one the default."""
    window = fields.count("sliding_window", None if "sliding_window" in fields else MISTRAL.window)
    return Read(decoder(fields, MISTRAL).but(**{"attention.window": window}), DECODER)


def _qwen2(fields: Fields) -> Read[Decoder]:
    config = decoder(fields, QWEN2).but(**{"attention.qkv_bias": True})
    return Read(sliding(config, fields, window=4096, first=28), DECODER)


def sliding(config: Decoder, fields: Fields, *, window: int, first: int) -> Decoder:
    """With `use_sliding_window`, `layer_types` say which layers use the window, else those from `max_window_layers` on."""
    first, kinds = fields.get("max_window_layers", first), fields.get("layer_types", [])
    if not fields.get("use_sliding_window", False):
        fields.raw("sliding_window")
        return config
    width = fields.count("sliding_window", None if "sliding_window" in fields else window)
    if width is None:
        return config
    if not kinds:
        kinds = [
            "sliding_attention" if layer >= first else "full_attention" for layer in range(config.num_layers)
        ]
    return windowed(config, width, kinds, fields)


def windowed(config: Decoder, window: int, kinds: Sequence[Any], fields: Fields) -> Decoder:
    """`config` with a window in the layers that `kinds` (of `layer_types`) call sliding."""
    if len(kinds) != config.num_layers or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise BeholderError(
            f"{fields.name}: layer_types {kinds} for {config.num_layers} layers; expected full_attention or "
            "sliding_attention for each"
        )
    attention = config.attention
    assert isinstance(attention, Attention)
    return config.but(
        others=(LayerKind(attention.but(window=window)),),
        pattern=tuple(int(kind == "sliding_attention") for kind in kinds),
    )


READERS: Readers = {"llama": _llama, "mistral": _mistral, "qwen2": _qwen2}
