"""Official settings of single parts, by `model_type`. Defaults are those of the official config classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import LinearScaling, Llama3Scaling, Rotary
from beholder.parts.contracts import LanguageConfig
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.text_encoder import TextEncoder
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.readers.fields import Fields

ACTIVATION_NAMES = {"gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh", "swish": "silu"}


def activation_name(fields: Fields, key: str, default: str) -> str:
    """Our name of an official activation."""
    name = fields.get(key, default)
    return ACTIVATION_NAMES.get(name, name)


def rotary(fields: Fields, context: int) -> Rotary:
    """`rope_parameters` of new files, `rope_theta` with `rope_scaling` of older ones."""
    settings = fields.part("rope_parameters" if fields.raw("rope_parameters") else "rope_scaling")
    theta = settings.positive("rope_theta", fields.positive("rope_theta", 10000.0))
    kind = settings.raw("rope_type") or settings.raw("type") or "default"
    scaling: Llama3Scaling | LinearScaling | None = None
    if kind == "linear":
        scaling = LinearScaling(settings.positive("factor"))
    elif kind == "llama3":
        scaling = Llama3Scaling(
            factor=settings.positive("factor"),
            low_freq_factor=settings.positive("low_freq_factor"),
            high_freq_factor=settings.positive("high_freq_factor"),
            original_length=settings.count("original_max_position_embeddings", context),
        )
    elif kind != "default":
        raise UnknownName(f"{fields.name}: rope type", str(kind), ("default", "linear", "llama3"))
    settings.finish()
    return Rotary(theta=theta, scaling=scaling)


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


LLAMA = DecoderDefaults()
MISTRAL = DecoderDefaults(hidden=14336, num_kv_heads=8, context=131072, window=4096)
QWEN2 = DecoderDefaults(vocab_size=151936, hidden=22016, num_kv_heads=32, context=32768, window=4096)


def _decoder(fields: Fields, assumed: DecoderDefaults) -> Decoder:
    num_heads = fields.count("num_attention_heads", assumed.num_heads)
    context = fields.count("max_position_embeddings", assumed.context)
    return Decoder(
        vocab_size=fields.count("vocab_size", assumed.vocab_size),
        dim=fields.count("hidden_size", assumed.dim),
        num_layers=fields.layers("num_hidden_layers", assumed.num_layers),
        attention=Attention(
            num_heads=num_heads,
            num_kv_heads=fields.count("num_key_value_heads", assumed.num_kv_heads or num_heads),
            head_dim=fields.count("head_dim", None),
            rotary=rotary(fields, context),
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


def _llama(fields: Fields) -> Decoder:
    bias = fields.get("attention_bias", False)
    biases = {
        "attention.qkv_bias": bias,
        "attention.out_bias": bias,
        "mlp.bias": fields.get("mlp_bias", False),
    }
    return _decoder(fields, LLAMA).but(**biases)


def _mistral(fields: Fields) -> Decoder:
    """A null `sliding_window` means none; an absent one the default."""
    window = fields.count("sliding_window", None if "sliding_window" in fields else MISTRAL.window)
    return _decoder(fields, MISTRAL).but(**{"attention.window": window})


def _qwen2(fields: Fields) -> Decoder:
    """With `use_sliding_window`, `layer_types` say which layers use the window, else those from `max_window_layers` on."""
    config = _decoder(fields, QWEN2).but(**{"attention.qkv_bias": True})
    window = fields.count("sliding_window", None if "sliding_window" in fields else QWEN2.window)
    first, kinds = fields.get("max_window_layers", 28), fields.get("layer_types", [])
    if not fields.get("use_sliding_window", False) or window is None:
        return config
    windowed = kinds.count("sliding_attention") if kinds else max(0, config.num_layers - first)
    full = config.num_layers - windowed
    if kinds and kinds != ["full_attention"] * full + ["sliding_attention"] * windowed:
        raise BeholderError(
            f"{fields.name}: layer_types {kinds} for {config.num_layers} layers; only windows in the last "
            "layers are supported"
        )
    return config.but(**{"attention.window": window}, windowed=windowed)


def _clip_vision(fields: Fields) -> ViT:
    for key in ("projection_dim", "vocab_size"):
        fields.raw(key)
    return replace(
        _vit(fields, image_size=224, patch=32, dim=768, hidden=3072, heads=12, act="quick_gelu", eps=1e-5),
        cls=True,
        patch_bias=False,
        pre_norm=True,
        pool="cls",
        take=Take(norm=False),
    )


def _siglip_vision(fields: Fields) -> ViT:
    vit = _vit(fields, image_size=224, patch=16, dim=768, hidden=3072, heads=12, act="gelu_tanh", eps=1e-6)
    return replace(vit, pool="attention" if fields.get("vision_use_head", True) else None)


def _idefics3_vision(fields: Fields) -> ViT:
    for key in ("max_image_size", "size", "tie_word_embeddings", "use_base_siglip"):
        fields.raw(key)
    vit = _vit(fields, image_size=224, patch=32, dim=1152, hidden=3072, heads=16, act="gelu_tanh", eps=1e-6)
    return replace(vit, positions="bucketed")


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


def _text_tower(
    fields: Fields, *, vocab: int, dim: int, hidden: int, heads: int, context: int, act: str, eps: float
) -> TextEncoder:
    width = fields.count("hidden_size", dim)
    return TextEncoder(
        vocab_size=fields.count("vocab_size", vocab),
        dim=width,
        num_layers=fields.layers("num_hidden_layers", 12),
        attention=Attention(fields.count("num_attention_heads", heads), qkv_bias=True, out_bias=True),
        mlp=FeedForward(
            fields.count("intermediate_size", hidden), activation_name(fields, "hidden_act", act)
        ),
        norm=Norm("layer", fields.positive("layer_norm_eps", eps)),
        context=fields.count("max_position_embeddings", context),
        projection=width,
    )


def _clip_text(fields: Fields) -> TextEncoder:
    """Files with the end id 2 date from before it was corrected; their texts end at the largest id."""
    end_id = fields.get("eos_token_id", 49407)
    fields.raw("tie_word_embeddings")  # a tower has no output matrix to tie
    projection = fields.count("projection_dim", 512)
    sizes = {"vocab": 49408, "dim": 512, "hidden": 2048, "heads": 8, "context": 77}
    tower = _text_tower(fields, **sizes, act="quick_gelu", eps=1e-5)
    return replace(tower, pool="highest" if end_id == 2 else "end", end_id=end_id, projection=projection)


def _siglip_text(fields: Fields) -> TextEncoder:
    sizes = {"vocab": 32000, "dim": 768, "hidden": 3072, "heads": 12, "context": 64}
    tower = _text_tower(fields, **sizes, act="gelu_tanh", eps=1e-6)
    return replace(
        tower,
        causal=False,
        pool="last",
        projection=fields.count("projection_size", tower.dim),
        projection_bias=True,
    )


LANGUAGE: Mapping[str, Callable[[Fields], LanguageConfig]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "clip_text_model": _clip_text,
    "siglip_text_model": _siglip_text,
}
VISION: Mapping[str, Callable[[Fields], ViT]] = {
    "clip_vision_model": _clip_vision,
    "siglip_vision_model": _siglip_vision,
    "idefics3_vision": _idefics3_vision,
    "smolvlm_vision": _idefics3_vision,
    "idefics3": _idefics3_vision,  # the released Idefics3 and SmolVLM files call their encoder so
    "smolvlm": _idefics3_vision,
}


def read_decoder(fields: Fields) -> Decoder:
    """A decoder-only language model; raises `UnknownName` for a type that is none."""
    config = _read(fields, LANGUAGE)
    if not isinstance(config, Decoder):
        raise BeholderError(f"{fields.name}: model_type {fields.raw('model_type')!r} is not a decoder")
    return config


def read_text_encoder(fields: Fields) -> TextEncoder:
    """A text tower; raises `UnknownName` for a type that is none."""
    config = _read(fields, LANGUAGE)
    if not isinstance(config, TextEncoder):
        raise BeholderError(f"{fields.name}: model_type {fields.raw('model_type')!r} is not a text tower")
    return config


def read_vision(fields: Fields) -> ViT:
    """A vision encoder; raises `UnknownName` for an unknown type."""
    return _read(fields, VISION)


def _read(fields: Fields, readers: Mapping[str, Callable[[Fields], Any]]) -> Any:
    kind = str(fields.raw("model_type"))
    if kind not in readers:
        raise UnknownName(f"{fields.name}: model_type", kind, readers)
    config = readers[kind](fields)
    fields.finish()
    return config
