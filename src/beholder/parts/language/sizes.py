"""Published language models and text towers, as data."""

from __future__ import annotations

from typing import Any

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.rotary_scaling import Llama3Scaling
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.text_encoder import TextEncoder

SHORT = {
    "eps": "norm.eps",
    "theta": "attention.rotary.theta",
    "scaling": "attention.rotary.scaling",
    "qkv_bias": "attention.qkv_bias",
}


def llama(
    vocab_size: int,
    dim: int,
    num_layers: int,
    num_heads: int,
    hidden: int,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    /,
    **changes: Any,
) -> Decoder:
    """A row of this table. changes: to further fields, as in `but`, or by the names in `SHORT`."""
    width = head_dim if head_dim != dim // num_heads else None
    mlp = FeedForward(hidden, act="silu", gated=True, bias=False)
    row = Decoder(
        vocab_size,
        dim,
        num_layers,
        Attention(num_heads, kv_heads, width, rotary=Rotary()),
        mlp,
        Norm("rms", 1e-5),
    )
    return row.but(**{SHORT.get(name, name): value for name, value in changes.items()})


# meta-llama/Llama-2-7b-hf, Meta-Llama-3-8B and Meta-Llama-3.1-8B config.json, and their larger siblings
LLAMA_2_7B = llama(32000, 4096, 32, 32, 11008)
LLAMA_2_13B = llama(32000, 5120, 40, 40, 13824)
LLAMA_2_70B = llama(32000, 8192, 80, 64, 28672, 8)
LLAMA_3_8B = llama(128256, 4096, 32, 32, 14336, 8, theta=500000.0, context=8192)
LLAMA_3_70B = llama(128256, 8192, 80, 64, 28672, 8, theta=500000.0, context=8192)
LLAMA_3_1_SCALING = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_length=8192)
LLAMA_3_1_8B = LLAMA_3_8B.but(**{"attention.rotary.scaling": LLAMA_3_1_SCALING}, context=131072)

# mistralai/Mistral-7B-v0.1 and Mistral-7B-Instruct-v0.2 config.json
MISTRAL_7B = llama(32000, 4096, 32, 32, 14336, 8, context=32768, **{"attention.window": 4096})
MISTRAL_7B_V02 = llama(32000, 4096, 32, 32, 14336, 8, theta=1000000.0, context=32768)

# 01-ai/Yi-6B-Chat and Yi-34B config.json
YI_6B = llama(64000, 4096, 32, 32, 11008, 4, theta=5000000.0)
YI_34B = llama(64000, 7168, 60, 56, 20480, 8, theta=5000000.0)

# HuggingFaceTB/SmolLM2-135M, -360M and -1.7B config.json
SMOLLM2_135M = llama(49152, 576, 30, 9, 1536, 3, theta=100000.0, tied=True, context=8192)
SMOLLM2_360M = llama(49152, 960, 32, 15, 2560, 5, theta=100000.0, tied=True, context=8192)
SMOLLM2_1_7B = llama(49152, 2048, 24, 32, 8192, theta=130000.0, tied=True, context=8192)
# text_config of HuggingFaceTB/SmolVLM-Instruct config.json: the same model after training on longer texts
SMOLLM2_1_7B_16K = SMOLLM2_1_7B.but(**{"attention.rotary.theta": 273768.0}, context=16384)

# Text towers of openai/CLIP (ViT-B and ViT-L)
CLIP_TEXT_512 = TextEncoder(
    vocab_size=49408,
    dim=512,
    num_layers=12,
    attention=Attention(num_heads=8, qkv_bias=True, out_bias=True),
    mlp=FeedForward(hidden=2048, act="quick_gelu"),
    pool="highest",
)
CLIP_TEXT_768 = CLIP_TEXT_512.but(
    dim=768,
    attention=CLIP_TEXT_512.attention.but(num_heads=12),
    **{"mlp.hidden": 3072},
    projection=768,
)

# Those beside the residual nets and the larger towers of OpenCLIP: text_cfg of mlfoundations/open_clip model_configs
CLIP_TEXT_512_TO_1024 = CLIP_TEXT_512.but(projection=1024)
CLIP_TEXT_640 = CLIP_TEXT_512.but(dim=640, projection=640, **{"attention.num_heads": 10, "mlp.hidden": 2560})
CLIP_TEXT_1024 = CLIP_TEXT_512.but(
    dim=1024, projection=1024, **{"attention.num_heads": 16, "mlp.hidden": 4096}
)

# Text towers of SigLIP, of the same width as its picture tower
SIGLIP_TEXT_768 = TextEncoder(
    vocab_size=32000,
    dim=768,
    num_layers=12,
    attention=Attention(num_heads=12, qkv_bias=True, out_bias=True),
    mlp=FeedForward(hidden=3072, act="gelu_tanh"),
    norm=Norm("layer", 1e-6),
    context=64,
    causal=False,
    pool="last",
    projection=768,
    projection_bias=True,
)
SIGLIP_TEXT_1024 = SIGLIP_TEXT_768.but(
    dim=1024,
    num_layers=24,
    attention=SIGLIP_TEXT_768.attention.but(num_heads=16),
    **{"mlp.hidden": 4096},
    projection=1024,
)
SIGLIP_TEXT_1152 = SIGLIP_TEXT_768.but(
    dim=1152,
    num_layers=27,
    attention=SIGLIP_TEXT_768.attention.but(num_heads=16),
    **{"mlp.hidden": 4304},
    projection=1152,
)
