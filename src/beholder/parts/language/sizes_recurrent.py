"""Published state-space, recurrent and linear-attention models and their hybrids, as data."""

from __future__ import annotations

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.gated_delta import GatedDelta, GatedHeadAttention
from beholder.parts.blocks.hyena import Hyena
from beholder.parts.blocks.lightning import Lightning
from beholder.parts.blocks.mamba import Mamba
from beholder.parts.blocks.mamba2 import Mamba2
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.moe import Experts, Routing
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.recurrence import ENDLESS
from beholder.parts.blocks.rg_lru import RgLru
from beholder.parts.blocks.short_conv import ShortConv
from beholder.parts.blocks.transformer import Arrangement, LayerKind
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding

# state-spaces/mamba-130m-hf ... -2.8b-hf config.json; 2312.00752, table 12
MAMBA_130M = Decoder(
    vocab_size=50280,
    dim=768,
    num_layers=24,
    attention=Mamba(inner=1536, rank=48),
    mlp=None,
    tied=True,
    context=ENDLESS,
)
MAMBA_370M = MAMBA_130M.but(dim=1024, num_layers=48, attention=Mamba(inner=2048, rank=64))
MAMBA_790M = MAMBA_370M.but(dim=1536, attention=Mamba(inner=3072, rank=96))
MAMBA_1_4B = MAMBA_370M.but(dim=2048, attention=Mamba(inner=4096, rank=128))
MAMBA_2_8B = MAMBA_130M.but(dim=2560, num_layers=64, attention=Mamba(inner=5120, rank=160))

# tiiuae/falcon-mamba-7b config.json
FALCON_MAMBA_7B = MAMBA_2_8B.but(
    vocab_size=65024,
    dim=4096,
    attention=Mamba(inner=8192, rank=256, inner_norm=Norm("rms", 1e-6, learned=False)),
    tied=False,
)

# state-spaces/mamba2-130m ... -2.7b config.json: d_model, n_layer, pad_vocab_size_multiple 16
MAMBA2_130M = MAMBA_130M.but(vocab_size=50288, attention=Mamba2(num_heads=24))
MAMBA2_370M = MAMBA2_130M.but(dim=1024, num_layers=48, attention=Mamba2(num_heads=32))
MAMBA2_780M = MAMBA2_370M.but(dim=1536, attention=Mamba2(num_heads=48))
MAMBA2_1_3B = MAMBA2_370M.but(dim=2048, attention=Mamba2(num_heads=64))
MAMBA2_2_7B = MAMBA2_130M.but(dim=2560, num_layers=64, attention=Mamba2(num_heads=80))

# mistralai/Mamba-Codestral-7B-v0.1 config.json
CODESTRAL_MAMBA_7B = MAMBA2_2_7B.but(
    vocab_size=32768, dim=4096, attention=Mamba2(num_heads=128, num_groups=8), tied=False
)

# ibm-ai-platform/Bamba-9B config.json: attention in layers 9, 18 and 27
BAMBA_9B = Decoder(
    vocab_size=128256,
    dim=4096,
    num_layers=32,
    attention=Mamba2(num_heads=128),
    mlp=FeedForward(14336, act="silu", gated=True, bias=False),
    others=(LayerKind(Attention(num_heads=32, num_kv_heads=8, rotary=Rotary(share=0.5))),),
    pattern=(*(0,) * 9, 1, *(0,) * 8, 1, *(0,) * 8, 1, *(0,) * 4),
    context=262144,
)

# ai21labs/Jamba-v0.1 config.json: attention in every eighth layer, experts in every second
_JAMBA_MAMBA = Mamba(inner=8192, rank=256, inner_norm=Norm("rms", 1e-6))
_JAMBA_EXPERTS = Experts(16, hidden=14336, routing=Routing(active=2))
JAMBA_52B = Decoder(
    vocab_size=65536,
    dim=4096,
    num_layers=32,
    attention=_JAMBA_MAMBA,
    mlp=FeedForward(14336, act="silu", gated=True, bias=False),
    norm=Norm("rms", 1e-6),
    others=(LayerKind(mlp=_JAMBA_EXPERTS), LayerKind(Attention(num_heads=32, num_kv_heads=8))),
    pattern=(0, 1, 0, 1, 2, 1, 0, 1),
    context=262144,
)

# MiniMaxAI/MiniMax-Text-01 config.json: softmax attention in every eighth layer, half of whose channels turn
MINIMAX_TEXT_01 = Decoder(
    vocab_size=200064,
    dim=6144,
    num_layers=80,
    attention=Lightning(num_heads=64, head_dim=128, depth=80),
    mlp=Experts(32, hidden=9216, routing=Routing(active=2, normalised=True)),
    others=(
        LayerKind(
            Attention(num_heads=64, num_kv_heads=8, head_dim=128, rotary=Rotary(theta=10000000.0, share=0.5))
        ),
    ),
    pattern=(0, 0, 0, 0, 0, 0, 0, 1),
    arrangement=Arrangement("normed", skip=3.5565588200778455),
    context=10240000,
)

# google/recurrentgemma-2b and -9b config.json; sqrt(2560) rounded to bfloat16
RECURRENT_GEMMA_2B = Decoder(
    vocab_size=256000,
    dim=2560,
    num_layers=26,
    attention=RgLru(inner=2560, num_blocks=10),
    mlp=FeedForward(7680, act="gelu_tanh", gated=True),
    norm=Norm("rms", 1e-6, offset=1.0),
    tied=True,
    context=ENDLESS,
    others=(
        LayerKind(
            Attention(num_heads=10, num_kv_heads=1, out_bias=True, rotary=Rotary(share=0.5), window=2048)
        ),
    ),
    pattern=(0, 0, 1),
    embedding=TokenEmbedding(scale=50.5),
    logit_softcap=30.0,
)
RECURRENT_GEMMA_9B = RECURRENT_GEMMA_2B.but(
    dim=4096,
    num_layers=38,
    attention=RgLru(inner=4096, num_blocks=16),
    mlp=FeedForward(12288, act="gelu_tanh", gated=True),
    others=(
        LayerKind(
            Attention(num_heads=16, num_kv_heads=1, out_bias=True, rotary=Rotary(share=0.5), window=2048)
        ),
    ),
    embedding=TokenEmbedding(scale=64.0),
)

# togethercomputer/StripedHyena-Nous-7B config.json (stripedhyena: configs/7b-sh-32k-v1.yml)
STRIPED_HYENA_7B = Decoder(
    vocab_size=32000,
    dim=4096,
    num_layers=32,
    attention=Hyena(num_blocks=32),
    mlp=FeedForward(14336, act="silu", gated=True, bias=False),
    others=(LayerKind(Attention(num_heads=32, num_kv_heads=8, rotary=Rotary(theta=500000.0))),),
    pattern=(0, 1),
    context=32768,
)

# Qwen/Qwen3-Next-80B-A3B-Instruct config.json: attention in every fourth layer
QWEN3_NEXT_80B = Decoder(
    vocab_size=151936,
    dim=2048,
    num_layers=48,
    attention=GatedDelta(num_heads=32, num_key_heads=16),
    mlp=Experts(512, hidden=512, routing=Routing(active=10, normalised=True), shared=512, shared_gate=True),
    norm=Norm("rms", 1e-6, offset=1.0),
    others=(
        LayerKind(
            GatedHeadAttention(
                num_heads=16,
                num_kv_heads=2,
                head_dim=256,
                rotary=Rotary(theta=10000000.0, share=0.25),
                qk_norm=Norm("rms", 1e-6, offset=1.0),
            )
        ),
    ),
    pattern=(0, 0, 0, 1),
    context=262144,
)

# LiquidAI/LFM2-350M, -700M and -1.2B config.json: attention in layers 2, 5, 8, 10, 12 and 14
_LFM2_ATTENTION = Attention(
    num_heads=16, num_kv_heads=8, rotary=Rotary(theta=1000000.0), qk_norm=Norm("rms", 1e-5)
)
LFM2_350M = Decoder(
    vocab_size=65536,
    dim=1024,
    num_layers=16,
    attention=ShortConv(),
    mlp=FeedForward(4608, act="silu", gated=True, bias=False),
    tied=True,
    context=128000,
    others=(LayerKind(_LFM2_ATTENTION),),
    pattern=(0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0),
)
LFM2_700M = LFM2_350M.but(
    dim=1536, others=(LayerKind(_LFM2_ATTENTION.but(num_heads=24)),), **{"mlp.hidden": 6912}
)
LFM2_1_2B = LFM2_350M.but(
    dim=2048, others=(LayerKind(_LFM2_ATTENTION.but(num_heads=32)),), **{"mlp.hidden": 8192}
)
