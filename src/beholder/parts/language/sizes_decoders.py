"""Published decoders with choices of their own, as data: Gemma, Phi, StableLM, OLMo, Cohere, GLM and MiniCPM.

Numbers are those of each release's config.json unless a comment names another source.
"""

from __future__ import annotations

import math
from typing import Any

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.rotary_scaling import LinearScaling, LongRope, RotaryScaling, Yarn
from beholder.parts.blocks.transformer import Arrangement, LayerKind
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.sizes import llama


def _gemma(vocab_size: int, dim: int, layers: int, heads: tuple[int, int, int], hidden: int) -> Decoder:
    """heads: of queries, of keys, and the width of each."""
    attention = Attention(*heads, rotary=Rotary())
    mlp = FeedForward(hidden, act="gelu_tanh", gated=True, bias=False)
    return Decoder(
        vocab_size,
        dim,
        layers,
        attention if heads[0] * heads[2] != dim else attention.but(head_dim=None),
        mlp,
        Norm("rms", 1e-6, offset=1.0),
        tied=True,
        context=8192,
        embedding=TokenEmbedding(scale=math.sqrt(dim)),
    )


# google/gemma_pytorch: gemma/config.py
GEMMA_2B = _gemma(256000, 2048, 18, (8, 1, 256), 16384)
GEMMA_7B = _gemma(256000, 3072, 28, (16, 16, 256), 24576)


def _gemma2(dim: int, layers: int, heads: tuple[int, int, int], hidden: int, scalar: float) -> Decoder:
    """scalar: scores are divided by its square root."""
    gemma = _gemma(256000, dim, layers, heads, hidden).but(
        arrangement=Arrangement("both"), logit_softcap=30.0
    )
    assert isinstance(gemma.attention, Attention)
    full = gemma.attention.but(scale=scalar**-0.5, softcap=50.0)
    return gemma.but(attention=full, others=(LayerKind(full.but(window=4096)),), pattern=(1, 0))


GEMMA_2_2B = _gemma2(2304, 26, (8, 4, 256), 9216, 256)
GEMMA_2_9B = _gemma2(3584, 42, (16, 8, 256), 14336, 256)
GEMMA_2_27B = _gemma2(4608, 46, (32, 16, 128), 36864, 144)


def _gemma3(
    dim: int,
    layers: int,
    heads: tuple[int, int, int],
    hidden: int,
    window: int,
    *,
    vocab_size: int = 262208,
    scalar: float = 256,
    scaling: RotaryScaling | None = None,
    context: int = 131072,
) -> Decoder:
    gemma = _gemma(vocab_size, dim, layers, heads, hidden)
    gemma = gemma.but(arrangement=Arrangement("both"), context=context)
    assert isinstance(gemma.attention, Attention)
    full = gemma.attention.but(
        rotary=Rotary(theta=1e6, scaling=scaling), scale=scalar**-0.5, qk_norm=gemma.norm
    )
    near = LayerKind(full.but(rotary=Rotary(), window=window))
    return gemma.but(attention=full, others=(near,), pattern=(1, 1, 1, 1, 1, 0))


GEMMA_3_270M = _gemma3(640, 18, (4, 1, 256), 2048, 512, vocab_size=262144, context=32768)
GEMMA_3_1B = _gemma3(1152, 26, (4, 1, 256), 6912, 512, vocab_size=262144, context=32768)
GEMMA_3_4B = _gemma3(2560, 34, (8, 4, 256), 10240, 1024, scaling=LinearScaling(8.0))
GEMMA_3_12B = _gemma3(3840, 48, (16, 8, 256), 15360, 1024, scaling=LinearScaling(8.0))
GEMMA_3_27B = _gemma3(5376, 62, (32, 16, 128), 21504, 1024, scalar=168, scaling=LinearScaling(8.0))

PHI_1_5 = Decoder(
    51200,
    2048,
    24,
    Attention(32, qkv_bias=True, out_bias=True, rotary=Rotary(share=0.5)),
    FeedForward(8192, act="gelu_tanh"),
    Norm("layer", 1e-5),
    context=2048,
    arrangement=Arrangement(parallel="one norm"),
    head_bias=True,
)
PHI_2 = PHI_1_5.but(dim=2560, num_layers=32, **{"attention.rotary.share": 0.4, "mlp.hidden": 10240})


def _long_rope(short: str, long: str) -> LongRope:
    """Factors of texts up to 4096 tokens and of longer ones, up to 131072."""
    few, many = (tuple(map(float, numbers.split())) for numbers in (short, long))
    return LongRope(few, many, 4096, attention_factor=math.sqrt(1 + math.log(32) / math.log(4096)))


# microsoft/Phi-3-vision-128k-instruct, the same as in the first Phi-3-mini-128k-instruct
PHI_3_LONG_ROPE = _long_rope(
    """1.05 1.05 1.05 1.1 1.1 1.1 1.2500000000000002 1.2500000000000002 1.4000000000000004 1.4500000000000004
    1.5500000000000005 1.8500000000000008 1.9000000000000008 2.000000000000001 2.000000000000001 2.000000000000001
    2.000000000000001 2.000000000000001 2.000000000000001 2.000000000000001 2.000000000000001 2.000000000000001
    2.000000000000001 2.000000000000001 2.000000000000001 2.000000000000001 2.000000000000001 2.000000000000001
    2.000000000000001 2.000000000000001 2.000000000000001 2.000000000000001 2.1000000000000005 2.1000000000000005
    2.2 2.3499999999999996 2.3499999999999996 2.3499999999999996 2.3499999999999996 2.3999999999999995
    2.3999999999999995 2.6499999999999986 2.6999999999999984 2.8999999999999977 2.9499999999999975 3.049999999999997
    3.049999999999997 3.049999999999997""",
    """1.0299999713897705 1.0499999523162842 1.0499999523162842 1.0799999237060547 1.2299998998641968
    1.2299998998641968 1.2999999523162842 1.4499999284744263 1.5999999046325684 1.6499998569488525 1.8999998569488525
    2.859999895095825 3.68999981880188 5.419999599456787 5.489999771118164 5.489999771118164 9.09000015258789
    11.579999923706055 15.65999984741211 15.769999504089355 15.789999961853027 18.360000610351562 21.989999771118164
    23.079999923706055 30.009998321533203 32.35000228881836 32.590003967285156 35.56000518798828 39.95000457763672
    53.840003967285156 56.20000457763672 57.95000457763672 59.29000473022461 59.77000427246094 59.920005798339844
    61.190006256103516 61.96000671386719 62.50000762939453 63.3700065612793 63.48000717163086 63.48000717163086
    63.66000747680664 63.850006103515625 64.08000946044922 64.760009765625 64.80001068115234 64.81001281738281
    64.81001281738281""",
)
# microsoft/Phi-3.5-mini-instruct
PHI_3_5_LONG_ROPE = _long_rope(
    """1.0 1.0199999809265137 1.0299999713897705 1.0299999713897705 1.0499999523162842 1.0499999523162842
    1.0499999523162842 1.0499999523162842 1.0499999523162842 1.0699999332427979 1.0999999046325684 1.1099998950958252
    1.1599998474121094 1.1599998474121094 1.1699998378753662 1.2899998426437378 1.339999794960022 1.679999828338623
    1.7899998426437378 1.8199998140335083 1.8499997854232788 1.8799997568130493 1.9099997282028198 1.9399996995925903
    1.9899996519088745 2.0199997425079346 2.0199997425079346 2.0199997425079346 2.0199997425079346 2.0199997425079346
    2.0199997425079346 2.0299997329711914 2.0299997329711914 2.0299997329711914 2.0299997329711914 2.0299997329711914
    2.0299997329711914 2.0299997329711914 2.0299997329711914 2.0299997329711914 2.0799996852874756 2.0899996757507324
    2.189999580383301 2.2199995517730713 2.5899994373321533 2.729999542236328 2.749999523162842 2.8399994373321533""",
    """1.0800000429153442 1.1100000143051147 1.1399999856948853 1.340000033378601 1.5899999141693115 1.600000023841858
    1.6200000047683716 2.620000123977661 3.2300000190734863 3.2300000190734863 4.789999961853027 7.400000095367432
    7.700000286102295 9.09000015258789 12.199999809265137 17.670000076293945 24.46000099182129 28.57000160217285
    30.420001983642578 30.840002059936523 32.590003967285156 32.93000411987305 42.320003509521484 44.96000289916992
    50.340003967285156 50.45000457763672 57.55000305175781 57.93000411987305 58.21000289916992 60.1400032043457
    62.61000442504883 62.62000274658203 62.71000289916992 63.1400032043457 63.1400032043457 63.77000427246094
    63.93000411987305 63.96000289916992 63.970001220703125 64.02999877929688 64.06999969482422 64.08000183105469
    64.12000274658203 64.41000366210938 64.4800033569336 64.51000213623047 64.52999877929688 64.83999633789062""",
)
PHI_3_MINI_4K = llama(32064, 3072, 32, 32, 8192, **{"attention.window": 2047})
_PHI_3_LONG: dict[str, Any] = {"attention.window": 262144, "context": 131072}
PHI_3_MINI_128K = PHI_3_MINI_4K.but(**{"attention.rotary.scaling": PHI_3_LONG_ROPE}, **_PHI_3_LONG)
PHI_3_5_MINI = PHI_3_MINI_4K.but(**{"attention.rotary.scaling": PHI_3_5_LONG_ROPE}, **_PHI_3_LONG)
PHI_3_MEDIUM_4K = llama(32064, 5120, 40, 40, 17920, 10, **{"attention.window": 2047})

_LAYER_NORM = Norm("layer", 1e-5)
STABLELM_3B = llama(50304, 2560, 32, 32, 6912, norm=_LAYER_NORM, **{"attention.rotary.share": 0.25})
STABLELM_2_1_6B = STABLELM_3B.but(
    vocab_size=100352, dim=2048, num_layers=24, **{"attention.qkv_bias": True, "mlp.hidden": 5632}
)
STABLELM_2_12B = llama(
    100352,
    5120,
    40,
    32,
    13824,
    8,
    norm=_LAYER_NORM.but(bias=False),
    arrangement=Arrangement(parallel="one norm"),
    **{
        "attention.rotary.share": 0.25,
        "attention.qk_norm": _LAYER_NORM.but(bias=False),
        "attention.qk_norm_over": "heads",
    },
)

_BARE = Norm("layer", 1e-5, learned=False)
OLMO_1B = llama(50304, 2048, 16, 16, 8192, tied=True, norm=_BARE, context=2048)
OLMO_7B = llama(50304, 4096, 32, 32, 11008, norm=_BARE, context=2048)
OLMO_7B_0424 = OLMO_7B.but(**{"attention.clip": 8.0}, context=4096)
_OLMO2: dict[str, Any] = {
    "eps": 1e-6,
    "theta": 500000.0,
    "arrangement": Arrangement("after"),
    "attention.qk_norm": Norm("rms", 1e-6),
    "attention.qk_norm_over": "all",
}
OLMO_2_1B = llama(100352, 2048, 16, 16, 8192, **_OLMO2)
OLMO_2_7B = llama(100352, 4096, 32, 32, 11008, **_OLMO2)
OLMO_2_13B = llama(100352, 5120, 40, 40, 13824, **_OLMO2)
OLMO_2_32B = llama(100352, 5120, 64, 40, 27648, 8, **_OLMO2)
_OLMO3_NEAR = Attention(
    32, rotary=Rotary(theta=500000.0), window=4096, qk_norm=Norm("rms", 1e-6), qk_norm_over="all"
)
OLMO_3_7B = llama(
    100278,
    4096,
    32,
    32,
    11008,
    **_OLMO2,
    scaling=Yarn(8.0, 8192, attention_factor=1.2079441541679836),
    context=65536,
    others=(LayerKind(_OLMO3_NEAR),),
    pattern=(1, 1, 1, 0),
)

_COHERE: dict[str, Any] = {
    "tied": True,
    "norm": Norm("layer", 1e-5, bias=False),
    "arrangement": Arrangement(parallel="one norm"),
    "attention.rotary.pairs": "adjacent",
}
COMMAND_R = llama(256000, 8192, 40, 64, 22528, theta=8e6, context=131072, logit_scale=0.0625, **_COHERE)
COMMAND_R_PLUS = llama(
    256000, 12288, 64, 96, 33792, 8, theta=75e6, context=131072, logit_scale=0.8333333333333334, **_COHERE
).but(**{"attention.qk_norm": _COHERE["norm"], "attention.qk_norm_over": "heads"})
AYA_23_8B = llama(256000, 4096, 32, 32, 14336, 8, context=8192, logit_scale=0.0625, **_COHERE)
_COMMAND_R7B_NEAR = Attention(32, 8, rotary=Rotary(theta=50000.0, pairs="adjacent"), window=4096)
COMMAND_R7B = AYA_23_8B.but(
    logit_scale=0.25,
    context=132096,
    **{"attention.rotary": None},
    others=(LayerKind(_COMMAND_R7B_NEAR),),
    pattern=(1, 1, 1, 0),
)

_GLM: dict[str, Any] = {"attention.rotary.share": 0.5, "attention.rotary.pairs": "adjacent", "qkv_bias": True}
CHATGLM2_6B = llama(65024, 4096, 28, 32, 13696, 2, context=32768, **_GLM)
CHATGLM3_6B = CHATGLM2_6B.but(context=8192)
GLM_4_9B = llama(151552, 4096, 40, 32, 13696, 2, eps=1.5625e-07, context=8192, **_GLM)
GLM_4_9B_CHAT = GLM_4_9B.but(**{"attention.rotary.theta": 5e6}, context=131072)  # rope_ratio 500
# openbmb/MiniCPM-2B-sft-bf16, and the language model of MiniCPM-V 2
MINICPM_2B = llama(
    122753,
    2304,
    40,
    36,
    5760,
    tied=True,
    embedding=TokenEmbedding(scale=12.0),
    arrangement=Arrangement(scale=1.4 / math.sqrt(40)),
    logit_scale=256 / 2304,
)
