"""Published decoders of Llama's form, as data: Llama, Mistral, Yi, Qwen, InternLM and those trained from them.

Numbers are those of each release's config.json unless a comment names another source.
"""

from __future__ import annotations

from typing import Any

from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import QueryScale
from beholder.parts.blocks.rotary_scaling import DynamicScaling, Llama3Scaling, SteppedScaling
from beholder.parts.language import sizes
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.sizes import llama

# LLaMA (2302.13971, table 2), and Vicuna 1.1 and 1.3 trained from it
LLAMA_7B = llama(32000, 4096, 32, 32, 11008, eps=1e-6, context=2048)
LLAMA_13B = llama(32000, 5120, 40, 40, 13824, eps=1e-6, context=2048)
LLAMA_33B = llama(32000, 6656, 60, 52, 17920, eps=1e-6, context=2048)
LLAMA_65B = llama(32000, 8192, 80, 64, 22016, eps=1e-5, context=2048)
VICUNA_7B_V1_3, VICUNA_13B_V1_3 = LLAMA_7B, LLAMA_13B
VICUNA_7B_V0, VICUNA_13B_V0 = LLAMA_7B.but(vocab_size=32001), LLAMA_13B.but(vocab_size=32001)
VICUNA_7B_V1_5, VICUNA_13B_V1_5 = sizes.LLAMA_2_7B, sizes.LLAMA_2_13B
STABLE_VICUNA_13B = LLAMA_13B.but(vocab_size=32001)
CHINESE_ALPACA_7B = LLAMA_7B.but(vocab_size=49954)
XGEN_7B = llama(51200, 4096, 32, 32, 11008, eps=1e-6, context=8192)
TINYLLAMA_1_1B = llama(32000, 2048, 22, 32, 5632, 4, context=2048)
# mtgv/MobileVLM_V2-1.7B and -3B config.json
MOBILELLAMA_1_4B = llama(32000, 2048, 24, 16, 5632, eps=1e-6, context=2048)
MOBILELLAMA_2_7B = llama(32000, 2560, 32, 32, 6912, eps=1e-6, context=2048)

ORCA_2_7B, ORCA_2_13B = sizes.LLAMA_2_7B.but(vocab_size=32003), sizes.LLAMA_2_13B.but(vocab_size=32003)
NOUS_HERMES_LLAMA_2_13B = sizes.LLAMA_2_13B.but(vocab_size=32032)
LLAMA_3_1_70B = sizes.LLAMA_3_70B.but(**{"attention.rotary.scaling": sizes.LLAMA_3_1_SCALING}, context=131072)
LLAMA_3_1_405B = llama(
    128256, 16384, 126, 128, 53248, 8, theta=500000.0, scaling=sizes.LLAMA_3_1_SCALING, context=131072
)
_LLAMA_3_2_SCALING = Llama3Scaling(
    factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_length=8192
)
_LLAMA_3_2: dict[str, Any] = {
    "theta": 500000.0,
    "scaling": _LLAMA_3_2_SCALING,
    "tied": True,
    "context": 131072,
}
LLAMA_3_2_1B = llama(128256, 2048, 16, 32, 8192, 8, **_LLAMA_3_2)
LLAMA_3_2_3B = llama(128256, 3072, 28, 24, 8192, 8, **_LLAMA_3_2)

# Mistral and those trained from it
ZEPHYR_7B = sizes.MISTRAL_7B
OPENHERMES_2_5_MISTRAL_7B = sizes.MISTRAL_7B.but(vocab_size=32002)
MISTRAL_7B_V03 = sizes.MISTRAL_7B_V02.but(vocab_size=32768)
MISTRAL_NEMO_12B = llama(131072, 5120, 40, 32, 14336, 8, 128, theta=1e6, context=131072)

YI_9B = sizes.YI_6B.but(num_layers=48)
YI_1_5_6B, YI_1_5_9B, YI_1_5_34B = (yi.but(**{"norm.eps": 1e-6}) for yi in (sizes.YI_6B, YI_9B, sizes.YI_34B))
NOUS_HERMES_2_YI_34B = sizes.YI_34B

DEEPSEEK_LLM_1_3B = llama(102400, 2048, 24, 16, 5632, eps=1e-6, context=16384)  # of DeepSeek-VL
DEEPSEEK_LLM_7B = llama(102400, 4096, 30, 32, 11008, eps=1e-6)
DEEPSEEK_LLM_67B = llama(102400, 8192, 95, 64, 22016, 8, eps=1e-6)


def _qwen1(vocab_size: int, dim: int, layers: int, heads: int, hidden: int, trained: int) -> Decoder:
    """trained: the length from which positions and queries are scaled."""
    qwen = llama(vocab_size, dim, layers, heads, hidden, eps=1e-6, qkv_bias=True, context=8192)
    scales = {"rotary.scaling": SteppedScaling(trained), "query_scale": QueryScale(trained)}
    return qwen.but(**{f"attention.{name}": value for name, value in scales.items()})


QWEN_1_8B = _qwen1(151936, 2048, 24, 16, 5504, 8192)
QWEN_7B = _qwen1(151936, 4096, 32, 32, 11008, 8192)
QWEN_7B_2K = _qwen1(151936, 4096, 32, 32, 11008, 2048)  # as first released, and in Qwen-VL
QWEN_14B = _qwen1(152064, 5120, 40, 40, 13696, 2048)
QWEN_72B = llama(152064, 8192, 80, 64, 24576, eps=1e-6, theta=1e6, qkv_bias=True, context=32768)

_QWEN: dict[str, Any] = {"eps": 1e-6, "theta": 1e6, "qkv_bias": True, "context": 32768}
QWEN1_5_0_5B = llama(151936, 1024, 24, 16, 2816, tied=True, **_QWEN)
QWEN1_5_1_8B = llama(151936, 2048, 24, 16, 5504, **_QWEN)
QWEN1_5_4B = llama(151936, 2560, 40, 20, 6912, **(_QWEN | {"theta": 5e6}))
QWEN1_5_7B = llama(151936, 4096, 32, 32, 11008, **_QWEN)
QWEN1_5_14B = llama(152064, 5120, 40, 40, 13696, **_QWEN)
QWEN1_5_32B = llama(152064, 5120, 64, 40, 27392, 8, **_QWEN)
QWEN1_5_72B = llama(152064, 8192, 80, 64, 24576, **_QWEN)
QWEN2_0_5B = llama(151936, 896, 24, 14, 4864, 2, tied=True, **_QWEN)
QWEN2_1_5B = llama(151936, 1536, 28, 12, 8960, 2, tied=True, **_QWEN)
QWEN2_7B = llama(152064, 3584, 28, 28, 18944, 4, **_QWEN)
QWEN2_72B = llama(152064, 8192, 80, 64, 29568, 8, **_QWEN)
QWEN2_5_0_5B, QWEN2_5_1_5B, QWEN2_5_7B = QWEN2_0_5B, QWEN2_1_5B, QWEN2_7B
QWEN2_5_3B = llama(151936, 2048, 36, 16, 11008, 2, tied=True, **_QWEN)
# Lightning-AI/litgpt: litgpt/config.py (eps)
QWEN2_5_14B = llama(152064, 5120, 48, 40, 13824, 8, **(_QWEN | {"eps": 1e-5}))
QWEN2_5_32B = llama(152064, 5120, 64, 40, 27648, 8, **(_QWEN | {"eps": 1e-5}))
QWEN2_5_72B = QWEN2_72B.but(**{"norm.eps": 1e-5})

_QWEN3: dict[str, Any] = {
    "eps": 1e-6,
    "theta": 1e6,
    "context": 40960,
    "attention.qk_norm": Norm("rms", 1e-6),
}
QWEN3_0_6B = llama(151936, 1024, 28, 16, 3072, 8, 128, tied=True, **_QWEN3)
QWEN3_1_7B = llama(151936, 2048, 28, 16, 6144, 8, 128, tied=True, **_QWEN3)
QWEN3_4B = llama(151936, 2560, 36, 32, 9728, 8, 128, tied=True, **_QWEN3)
QWEN3_8B = llama(151936, 4096, 36, 32, 12288, 8, 128, **_QWEN3)
QWEN3_14B = llama(151936, 5120, 40, 40, 17408, 8, 128, **_QWEN3)
QWEN3_32B = llama(151936, 5120, 64, 64, 25600, 8, 128, **_QWEN3)

INTERNLM_7B = llama(
    103168, 4096, 32, 32, 11008, eps=1e-6, qkv_bias=True, context=2048, **{"attention.out_bias": True}
)
INTERNLM_20B = llama(103168, 5120, 60, 40, 13824, eps=1e-6)
_INTERNLM2: dict[str, Any] = {"theta": 1e6, "context": 32768}
INTERNLM2_1_8B = llama(92544, 2048, 24, 16, 8192, 8, **_INTERNLM2)
INTERNLM2_7B = llama(92544, 4096, 32, 32, 14336, 8, **_INTERNLM2)
INTERNLM2_20B = llama(92544, 6144, 48, 48, 16384, 8, **_INTERNLM2)
INTERNLM2_5_7B = INTERNLM2_7B.but(**{"attention.rotary.scaling": DynamicScaling(2.0, 32768)})
INTERNLM3_8B = llama(
    128512, 4096, 48, 32, 10240, 2, theta=5e7, scaling=DynamicScaling(6.0, 32768), context=32768
)
BAICHUAN_7B = llama(64000, 4096, 32, 32, 11008, eps=1e-6)
