"""Published language models and text towers, as data."""

from __future__ import annotations

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.rotary_scaling import Llama3Scaling
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.text_encoder import TextEncoder

# meta-llama/Llama-2-7b-hf config.json
LLAMA_2_7B = Decoder(
    vocab_size=32000,
    dim=4096,
    num_layers=32,
    attention=Attention(num_heads=32, rotary=Rotary()),
    mlp=FeedForward(hidden=11008, act="silu", gated=True, bias=False),
)
LLAMA_2_13B = LLAMA_2_7B.but(
    dim=5120,
    num_layers=40,
    attention=LLAMA_2_7B.attention.but(num_heads=40),
    **{"mlp.hidden": 13824},
)
LLAMA_2_70B = LLAMA_2_7B.but(
    dim=8192,
    num_layers=80,
    attention=LLAMA_2_7B.attention.but(num_heads=64, num_kv_heads=8),
    **{"mlp.hidden": 28672},
)

# meta-llama/Meta-Llama-3-8B and -3.1-8B config.json
LLAMA_3_8B = LLAMA_2_7B.but(
    vocab_size=128256,
    attention=Attention(num_heads=32, num_kv_heads=8, rotary=Rotary(theta=500000.0)),
    **{"mlp.hidden": 14336},
    context=8192,
)
LLAMA_3_70B = LLAMA_2_70B.but(
    vocab_size=128256, attention=LLAMA_3_8B.attention.but(num_heads=64), context=8192
)
LLAMA_3_1_SCALING = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_length=8192)
LLAMA_3_1_8B = LLAMA_3_8B.but(
    attention=LLAMA_3_8B.attention.but(rotary=Rotary(theta=500000.0, scaling=LLAMA_3_1_SCALING)),
    context=131072,
)

# mistralai/Mistral-7B-v0.1 and Mistral-7B-Instruct-v0.2 config.json
MISTRAL_7B = LLAMA_2_7B.but(
    attention=Attention(num_heads=32, num_kv_heads=8, rotary=Rotary(), window=4096),
    **{"mlp.hidden": 14336},
    context=32768,
)
MISTRAL_7B_V02 = MISTRAL_7B.but(
    attention=MISTRAL_7B.attention.but(rotary=Rotary(theta=1000000.0), window=None)
)

# 01-ai/Yi-6B-Chat and Yi-34B config.json
YI_6B = LLAMA_2_7B.but(
    vocab_size=64000, attention=Attention(num_heads=32, num_kv_heads=4, rotary=Rotary(theta=5000000.0))
)
YI_34B = YI_6B.but(
    dim=7168,
    num_layers=60,
    attention=YI_6B.attention.but(num_heads=56, num_kv_heads=8),
    **{"mlp.hidden": 20480},
)

# HuggingFaceTB/SmolLM2-135M, -360M and -1.7B config.json
SMOLLM2_135M = LLAMA_2_7B.but(
    vocab_size=49152,
    dim=576,
    num_layers=30,
    attention=Attention(num_heads=9, num_kv_heads=3, rotary=Rotary(theta=100000.0)),
    **{"mlp.hidden": 1536},
    tied=True,
    context=8192,
)
SMOLLM2_360M = SMOLLM2_135M.but(
    dim=960,
    num_layers=32,
    attention=SMOLLM2_135M.attention.but(num_heads=15, num_kv_heads=5),
    **{"mlp.hidden": 2560},
)
SMOLLM2_1_7B = SMOLLM2_135M.but(
    dim=2048,
    num_layers=24,
    attention=Attention(num_heads=32, rotary=Rotary(theta=130000.0)),
    **{"mlp.hidden": 8192},
)
# text_config of HuggingFaceTB/SmolVLM-Instruct config.json: the same model after training on longer texts
SMOLLM2_1_7B_16K = SMOLLM2_1_7B.but(
    attention=Attention(num_heads=32, rotary=Rotary(theta=273768.0)), context=16384
)

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
