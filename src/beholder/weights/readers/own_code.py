"""Decoders whose code is published beside their weights. Defaults are those of the config classes there."""

from __future__ import annotations

from dataclasses import replace

from beholder.errors import BeholderError
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import QueryScale, Rotary
from beholder.parts.blocks.rotary_scaling import DynamicScaling, SteppedScaling
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.weights.layouts import decoders as layouts
from beholder.weights.readers.decoders import DecoderDefaults, attention_of, biased, decoder
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Read, Readers

YI = DecoderDefaults(vocab_size=64000, num_kv_heads=4, context=4096, eps=1e-5, theta=5e6)
INTERNLM = DecoderDefaults(vocab_size=103168)
INTERNLM2 = replace(INTERNLM, eps=1e-6)
MINICPM = DecoderDefaults(tied=True)
BAICHUAN = DecoderDefaults(vocab_size=64000, context=4096)

UNUSED = (  # switches of kernels and of training, and what other fields say
    "attn_dropout_prob",
    "emb_dropout_prob",
    "scale_attn_weights",
    "use_cache_kernel",
    "use_cache_quantization",
    "use_flash_attn",
    "softmax_in_fp32",
    "bf16",
    "fp16",
    "fp32",
    "onnx_safe",
    "no_bias",
    "rotary_pct",
    "attn_implementation",
    "apply_query_key_layer_scaling",
    "attention_softmax_in_fp32",
    "bias_dropout_fusion",
    "classifier_dropout",
    "fp32_residual_connection",
    "interleaved_qkv",
    "original_rope",
    "pre_seq_len",
    "prefix_projection",
    "quantization_bit",
    "torch_dtype",
    "tokenizer_type",
    "model_max_length",
)


def _old_yi(fields: Fields) -> Read[Decoder]:
    """Yi-6B and Yi-34B as first released (`configuration_yi.py`)."""
    return Read(decoder(fields, YI), layouts.OLD_YI)


def _internlm(fields: Fields) -> Read[Decoder]:
    """InternLM (`configuration_internlm.py`): Llama with biases in attention. Some files of InternLM2 have this type."""
    if "num_key_value_heads" in fields:
        return _internlm2(fields)
    fields.ignore(*UNUSED)
    bias = fields.get("bias", True)
    config = biased(decoder(fields, INTERNLM), qkv=bias, out=bias)
    turned = fields.part("rotary")  # of later files
    base, kind = turned.positive("base", 10000.0), turned.get("type", "origin")
    if kind not in ("origin", "dynamic"):
        raise BeholderError(f"{turned.name}: type is {kind!r}; expected origin or dynamic")
    if base != 10000.0 or kind == "dynamic":
        scaling = DynamicScaling(turned.positive("scaling_factor", 1.0), config.context)
        rotary = Rotary(theta=base, scaling=scaling if kind == "dynamic" else None)
        config = config.but(**{"attention.rotary": rotary})
    return Read(config, layouts.DECODER)


def _internlm2(fields: Fields) -> Read[Decoder]:
    """InternLM2 (2403.17297, `configuration_internlm2.py`)."""
    fields.ignore(*UNUSED)
    bias = fields.get("bias", True)
    config = biased(decoder(fields, INTERNLM2), qkv=bias, out=bias)
    numbers = {"num_kv_heads": attention_of(config).kv_heads}
    return Read(config, layouts.INTERNLM2, numbers, head="output.")


def _minicpm(fields: Fields) -> Read[Decoder]:
    """MiniCPM (2404.06395, `configuration_minicpm.py`): width-independent scales of embeddings, layers and logits."""
    bias = fields.get("attention_bias", False)
    config = biased(decoder(fields, MINICPM), qkv=bias, out=bias)
    fields.ignore("rope_scaling_factor")
    depth = fields.positive("scale_depth", 1.0)
    return Read(
        config.but(
            embedding=TokenEmbedding(scale=fields.positive("scale_emb", 1.0)),
            arrangement=Arrangement(scale=depth / config.num_layers**0.5),
            logit_scale=fields.count("dim_model_base", 1) / config.dim,
        ),
        layouts.DECODER,
    )


def _baichuan(fields: Fields) -> Read[Decoder]:
    """Baichuan-7B (`configuration_baichuan.py`). Not the 13B models, which have ALiBi, nor Baichuan 2, which norms its
    output matrix.
    """
    alibi = fields.raw("model_max_length") is not None and "max_position_embeddings" not in fields
    config = decoder(fields, BAICHUAN)
    if alibi or config.vocab_size == 125696:
        raise BeholderError(
            f"{fields.name}: of Baichuan's models only the first with 7B parameters is supported"
        )
    return Read(config, layouts.BAICHUAN)


def _qwen(fields: Fields) -> Read[Decoder]:
    """Qwen 1 (2309.16609, `configuration_qwen.py`). `intermediate_size` is that of gate and up projection together."""
    fields.ignore(*UNUSED)
    dim, num_heads = fields.count("hidden_size", 4096), fields.count("num_attention_heads", 32)
    trained = fields.count("seq_length", 2048)
    width = fields.count("kv_channels", 128)
    rotary = Rotary(
        theta=fields.positive("rotary_emb_base", 10000.0),
        scaling=SteppedScaling(trained) if fields.get("use_dynamic_ntk", True) else None,
    )
    attention = Attention(
        num_heads=num_heads,
        head_dim=width if width * num_heads != dim else None,
        qkv_bias=True,
        rotary=rotary,
        query_scale=QueryScale(trained) if fields.get("use_logn_attn", True) else None,
    )
    config = Decoder(
        vocab_size=fields.count("vocab_size", 151936),
        dim=dim,
        num_layers=fields.layers("num_hidden_layers", 32),
        attention=attention,
        mlp=FeedForward(fields.count("intermediate_size", 22016) // 2, act="silu", gated=True, bias=False),
        norm=Norm("rms", fields.positive("layer_norm_epsilon", 1e-6)),
        tied=fields.get("tie_word_embeddings", False),
        context=fields.count("max_position_embeddings", 8192),
    )
    return Read(config, layouts.QWEN, body=("transformer.",))


def _chatglm(fields: Fields) -> Read[Decoder]:
    """ChatGLM2, ChatGLM3 and GLM-4 (2406.12793, `configuration_chatglm.py`). Not ChatGLM-6B, whose positions have two axes."""
    for key in ("multi_query_group_num", "padded_vocab_size"):
        fields.need(key)
    fields.ignore(*UNUSED)
    post = fields.get("apply_residual_connection_post_layernorm", False)
    if post or not fields.get("rmsnorm", True) or not fields.get("post_layer_norm", True):
        raise BeholderError(
            f"{fields.name}: rmsnorm and post_layer_norm must be true, "
            "apply_residual_connection_post_layernorm false; others were never published"
        )
    dim, num_heads = fields.count("hidden_size", 4096), fields.count("num_attention_heads", 32)
    width, bias = fields.count("kv_channels", 128), fields.get("add_bias_linear", False)
    shared = fields.count("multi_query_group_num", 1)
    theta = 10000.0 * fields.positive("rope_ratio", 1.0)
    attention = Attention(
        num_heads=num_heads,
        num_kv_heads=shared if fields.get("multi_query_attention", False) else num_heads,
        head_dim=width if width * num_heads != dim else None,
        qkv_bias=bias or fields.get("add_qkv_bias", False),
        out_bias=bias,
        rotary=Rotary(theta=theta, share=0.5, pairs="adjacent"),
    )
    config = Decoder(
        vocab_size=fields.count("padded_vocab_size", fields.count("vocab_size", 65024)),
        dim=dim,
        num_layers=fields.layers("num_layers", 28),
        attention=attention,
        mlp=FeedForward(fields.count("ffn_hidden_size", 13696), act="silu", gated=True, bias=bias),
        norm=Norm("rms", fields.positive("layernorm_epsilon", 1e-5)),
        tied=fields.get("tie_word_embeddings", False),
        context=fields.count("seq_length", 2048),
    )
    return Read(config, layouts.CHATGLM, body=("transformer.",), head="transformer.output_layer.")


READERS: Readers = {
    "Yi": _old_yi,
    "internlm": _internlm,
    "internlm2": _internlm2,
    "minicpm": _minicpm,
    "baichuan": _baichuan,
    "qwen": _qwen,
    "chatglm": _chatglm,
}
