"""Published decoders of GPT's form, as data."""

from __future__ import annotations

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Alibi, Rotary
from beholder.parts.blocks.transformer import Arrangement, LayerKind
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding

LAYER_NORM = Norm("layer", 1e-5)
ONE_NORM, TWO_NORMS = Arrangement(parallel="one norm"), Arrangement(parallel="two norms")

# openai-community/gpt2, gpt2-medium, gpt2-large and gpt2-xl config.json
GPT2 = Decoder(
    vocab_size=50257,
    dim=768,
    num_layers=12,
    attention=Attention(num_heads=12, qkv_bias=True, out_bias=True),
    mlp=FeedForward(hidden=3072, act="gelu_tanh"),
    norm=LAYER_NORM,
    tied=True,
    context=1024,
    embedding=TokenEmbedding(positions="learned"),
)
GPT2_MEDIUM = GPT2.but(dim=1024, num_layers=24, **{"attention.num_heads": 16, "mlp.hidden": 4096})
GPT2_LARGE = GPT2.but(dim=1280, num_layers=36, **{"attention.num_heads": 20, "mlp.hidden": 5120})
GPT2_XL = GPT2.but(dim=1600, num_layers=48, **{"attention.num_heads": 25, "mlp.hidden": 6400})

# EleutherAI/gpt-neo-125m, -1.3B and -2.7B config.json: every second layer sees 256 tokens
_GLOBAL = Attention(num_heads=12, out_bias=True, scale=1.0)
GPT_NEO_125M = GPT2.but(
    attention=_GLOBAL, others=(LayerKind(_GLOBAL.but(window=256)),), pattern=(0, 1), context=2048
)
_GLOBAL_16 = _GLOBAL.but(num_heads=16)
GPT_NEO_1_3B = GPT_NEO_125M.but(
    dim=2048,
    num_layers=24,
    attention=_GLOBAL_16,
    others=(LayerKind(_GLOBAL_16.but(window=256)),),
    **{"mlp.hidden": 8192},
)
_GLOBAL_20 = _GLOBAL.but(num_heads=20)
GPT_NEO_2_7B = GPT_NEO_125M.but(
    dim=2560,
    num_layers=32,
    attention=_GLOBAL_20,
    others=(LayerKind(_GLOBAL_20.but(window=256)),),
    **{"mlp.hidden": 10240},
)

# EleutherAI/gpt-j-6b config.json
GPT_J_6B = Decoder(
    vocab_size=50400,
    dim=4096,
    num_layers=28,
    attention=Attention(num_heads=16, rotary=Rotary(pairs="adjacent", share=0.25)),
    mlp=FeedForward(hidden=16384, act="gelu_tanh"),
    norm=LAYER_NORM,
    context=2048,
    arrangement=ONE_NORM,
    head_bias=True,
)

# EleutherAI/pythia-70m to -12b and gpt-neox-20b config.json (also table 1 of 2304.01373, appendix of 2204.06745)
PYTHIA_70M = Decoder(
    vocab_size=50304,
    dim=512,
    num_layers=6,
    attention=Attention(num_heads=8, qkv_bias=True, out_bias=True, rotary=Rotary(share=0.25)),
    mlp=FeedForward(hidden=2048),
    norm=LAYER_NORM,
    context=2048,
    arrangement=TWO_NORMS,
)
PYTHIA_160M = PYTHIA_70M.but(dim=768, num_layers=12, **{"attention.num_heads": 12, "mlp.hidden": 3072})
PYTHIA_410M = PYTHIA_70M.but(dim=1024, num_layers=24, **{"attention.num_heads": 16, "mlp.hidden": 4096})
PYTHIA_1B = PYTHIA_70M.but(dim=2048, num_layers=16, **{"mlp.hidden": 8192})
PYTHIA_1_4B = PYTHIA_70M.but(dim=2048, num_layers=24, **{"attention.num_heads": 16, "mlp.hidden": 8192})
PYTHIA_2_8B = PYTHIA_70M.but(dim=2560, num_layers=32, **{"attention.num_heads": 32, "mlp.hidden": 10240})
PYTHIA_6_9B = PYTHIA_2_8B.but(vocab_size=50432, dim=4096, **{"mlp.hidden": 16384})
PYTHIA_12B = PYTHIA_70M.but(
    vocab_size=50688, dim=5120, num_layers=36, **{"attention.num_heads": 40, "mlp.hidden": 20480}
)
GPT_NEOX_20B = PYTHIA_70M.but(
    vocab_size=50432,
    dim=6144,
    num_layers=44,
    **{"attention.num_heads": 64, "mlp.hidden": 24576, "mlp.act": "gelu_tanh"},
)

# togethercomputer/RedPajama-INCITE-Base-3B-v1 as in Lightning-AI/litgpt litgpt/config.py, before it was dropped there: halves
# in turn, all channels turn, vocabulary up to a multiple of 256
REDPAJAMA_3B = PYTHIA_2_8B.but(vocab_size=50432, arrangement=Arrangement(), **{"attention.rotary": Rotary()})

# facebook/opt-125m to opt-66b config.json (also table 1 of 2205.01068)
OPT_125M = Decoder(
    vocab_size=50272,
    dim=768,
    num_layers=12,
    attention=Attention(num_heads=12, qkv_bias=True, out_bias=True),
    mlp=FeedForward(hidden=3072, act="relu"),
    norm=LAYER_NORM,
    tied=True,
    context=2048,
    embedding=TokenEmbedding(positions="learned", offset=2),
)
OPT_350M = OPT_125M.but(
    dim=1024,
    num_layers=24,
    arrangement=Arrangement("post"),
    final_norm=False,
    **{"attention.num_heads": 16, "mlp.hidden": 4096, "embedding.width": 512},
)
OPT_1_3B = OPT_125M.but(dim=2048, num_layers=24, **{"attention.num_heads": 32, "mlp.hidden": 8192})
OPT_2_7B = OPT_125M.but(dim=2560, num_layers=32, **{"attention.num_heads": 32, "mlp.hidden": 10240})
OPT_6_7B = OPT_125M.but(dim=4096, num_layers=32, **{"attention.num_heads": 32, "mlp.hidden": 16384})
OPT_13B = OPT_125M.but(dim=5120, num_layers=40, **{"attention.num_heads": 40, "mlp.hidden": 20480})
OPT_30B = OPT_125M.but(dim=7168, num_layers=48, **{"attention.num_heads": 56, "mlp.hidden": 28672})
OPT_66B = OPT_125M.but(dim=9216, num_layers=64, **{"attention.num_heads": 72, "mlp.hidden": 36864})

# mosaicml/mpt-7b and mpt-30b config.json
MPT_7B = Decoder(
    vocab_size=50432,
    dim=4096,
    num_layers=32,
    attention=Attention(num_heads=32, alibi=Alibi()),
    mlp=FeedForward(hidden=16384, bias=False),
    norm=LAYER_NORM.but(bias=False),
    tied=True,
    context=2048,
)
MPT_30B = MPT_7B.but(
    dim=7168, num_layers=48, context=8192, **{"attention.num_heads": 64, "mlp.hidden": 28672}
)
# mosaicml/mpt-7b-storywriter config.json
MPT_7B_STORYWRITER = MPT_7B.but(
    context=65536, **{"attention.alibi": Alibi(max_bias=16.0), "attention.clip": 6.0}
)
# mosaicml/mpt-1b-redpajama-200b config.json
MPT_1B = MPT_7B.but(
    vocab_size=50368,
    dim=2048,
    num_layers=24,
    attention=Attention(16, alibi=Alibi(), qk_norm=LAYER_NORM.but(bias=False), qk_norm_over="all"),
    **{"mlp.hidden": 8192},
)

# tiiuae/falcon-7b, falcon-40b and falcon-rw-1b config.json
FALCON_7B = Decoder(
    vocab_size=65024,
    dim=4544,
    num_layers=32,
    attention=Attention(num_heads=71, num_kv_heads=1, rotary=Rotary()),
    mlp=FeedForward(hidden=18176, bias=False),
    norm=LAYER_NORM,
    tied=True,
    context=2048,
    arrangement=ONE_NORM,
)
FALCON_40B = FALCON_7B.but(
    dim=8192,
    num_layers=60,
    arrangement=TWO_NORMS,
    attention=Attention(num_heads=128, num_kv_heads=8, rotary=Rotary()),
    **{"mlp.hidden": 32768},
)
# 2311.16867, table 1 and section 4; Lightning-AI/litgpt: litgpt/config.py
FALCON_180B = FALCON_40B.but(
    dim=14848,
    num_layers=80,
    attention=Attention(num_heads=232, num_kv_heads=8, rotary=Rotary()),
    **{"mlp.hidden": 59392},
)
FALCON_RW_1B = FALCON_7B.but(
    vocab_size=50304,
    dim=2048,
    num_layers=24,
    arrangement=Arrangement(),
    attention=Attention(32, qkv_bias=True, out_bias=True, alibi=Alibi(factor=0.125, rounded=True)),
    mlp=FeedForward(hidden=8192),
)

# adept/persimmon-8b-base config.json
PERSIMMON_8B = Decoder(
    vocab_size=262144,
    dim=4096,
    num_layers=36,
    attention=Attention(
        num_heads=64,
        qkv_bias=True,
        out_bias=True,
        rotary=Rotary(theta=25000.0, share=0.5),
        qk_norm=LAYER_NORM,
    ),
    mlp=FeedForward(hidden=16384, act="relu2"),
    norm=LAYER_NORM,
    context=16384,
)

# bigscience/bloom-560m to bloom config.json (also table 3 of 2211.05100)
BLOOM_560M = Decoder(
    vocab_size=250880,
    dim=1024,
    num_layers=24,
    attention=Attention(num_heads=16, qkv_bias=True, out_bias=True, alibi=Alibi()),
    mlp=FeedForward(hidden=4096, act="gelu_tanh"),
    norm=LAYER_NORM,
    tied=True,
    context=2048,
    embedding=TokenEmbedding(norm=LAYER_NORM),
)
BLOOM_1_1B = BLOOM_560M.but(dim=1536, **{"mlp.hidden": 6144})
BLOOM_1_7B = BLOOM_560M.but(dim=2048, **{"mlp.hidden": 8192})
BLOOM_3B = BLOOM_560M.but(dim=2560, num_layers=30, **{"attention.num_heads": 32, "mlp.hidden": 10240})
BLOOM_7_1B = BLOOM_3B.but(dim=4096, **{"mlp.hidden": 16384})
BLOOM_176B = BLOOM_560M.but(dim=14336, num_layers=70, **{"attention.num_heads": 112, "mlp.hidden": 57344})
