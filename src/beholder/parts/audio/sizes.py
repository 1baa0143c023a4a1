"""Published encoders of sound, the decoders of those that write text, and ImageBind's trunks, as data."""

from __future__ import annotations

from beholder.parts.audio.attention import ExtraKeyAttention, GatedAttention, RelativeAttention
from beholder.parts.audio.positions import ConvPositions, SignalTable
from beholder.parts.audio.stems import FrameConvs, PlaneConvs, SignalPatches, WaveConvs
from beholder.parts.audio.transformer import SignalTransformer
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.relative import RelativeBuckets
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.text_encoder import TextEncoder

FULL = Attention(12, qkv_bias=True, out_bias=True)

# openai/whisper: whisper/model.py and the dimensions in each checkpoint; openai/whisper-* config.json
WHISPER_TINY = SignalTransformer(
    stem=FrameConvs(),
    size=(80, 3000),
    dim=384,
    num_layers=4,
    attention=Attention(6, qkv_bias=True, k_bias=False, out_bias=True),
    mlp=FeedForward(1536),
    positions=SignalTable(),
)
WHISPER_BASE = WHISPER_TINY.but(dim=512, num_layers=6, **{"attention.num_heads": 8, "mlp.hidden": 2048})
WHISPER_SMALL = WHISPER_TINY.but(dim=768, num_layers=12, **{"attention.num_heads": 12, "mlp.hidden": 3072})
WHISPER_MEDIUM = WHISPER_TINY.but(dim=1024, num_layers=24, **{"attention.num_heads": 16, "mlp.hidden": 4096})
WHISPER_LARGE_V2 = WHISPER_TINY.but(
    dim=1280, num_layers=32, **{"attention.num_heads": 20, "mlp.hidden": 5120}
)
WHISPER_LARGE_V3 = WHISPER_LARGE_V2.but(size=(128, 3000))
# Qwen/Qwen2-Audio-7B: its encoder takes means of two before the last norm
QWEN2_AUDIO = WHISPER_LARGE_V3.but(shrink=2)

WHISPER_TINY_DECODER = Decoder(
    vocab_size=51865,
    dim=384,
    num_layers=4,
    attention=WHISPER_TINY.attention,
    mlp=WHISPER_TINY.mlp,
    norm=Norm(),
    tied=True,
    context=448,
    embedding=TokenEmbedding(positions="learned"),
    cross=CrossAttention(6, qkv_bias=True, k_bias=False, out_bias=True),
)
WHISPER_TINY_EN_DECODER = WHISPER_TINY_DECODER.but(vocab_size=51864)
WHISPER_BASE_DECODER = WHISPER_TINY_DECODER.but(
    dim=512, num_layers=6, **{"attention.num_heads": 8, "cross.num_heads": 8, "mlp.hidden": 2048}
)
WHISPER_SMALL_DECODER = WHISPER_TINY_DECODER.but(
    dim=768, num_layers=12, **{"attention.num_heads": 12, "cross.num_heads": 12, "mlp.hidden": 3072}
)
WHISPER_MEDIUM_DECODER = WHISPER_TINY_DECODER.but(
    dim=1024, num_layers=24, **{"attention.num_heads": 16, "cross.num_heads": 16, "mlp.hidden": 4096}
)
WHISPER_LARGE_V2_DECODER = WHISPER_TINY_DECODER.but(
    dim=1280, num_layers=32, **{"attention.num_heads": 20, "cross.num_heads": 20, "mlp.hidden": 5120}
)
WHISPER_LARGE_V3_DECODER = WHISPER_LARGE_V2_DECODER.but(vocab_size=51866)
WHISPER_LARGE_V3_TURBO_DECODER = WHISPER_LARGE_V3_DECODER.but(num_layers=4)

# MIT/ast-finetuned-audioset-10-10-0.4593 config.json
AST = SignalTransformer(
    stem=SignalPatches(stride=(10, 10)),
    size=(128, 1024),
    dim=768,
    num_layers=12,
    attention=FULL,
    mlp=FeedForward(3072),
    norm=Norm("layer", 1e-12),
    positions=SignalTable(),
    cls=2,
    pool="cls",
)

# facebook/wav2vec2-base, wav2vec2-large and wav2vec2-large-lv60 config.json
WAV2VEC2_BASE = SignalTransformer(
    stem=WaveConvs(),
    size=(1, 16000),
    dim=768,
    num_layers=12,
    attention=FULL,
    mlp=FeedForward(3072),
    arrangement=Arrangement("post"),
    positions=ConvPositions(),
    first_norm=True,
    last_norm=False,
    mask_token=True,
)
WAV2VEC2_LARGE = WAV2VEC2_BASE.but(dim=1024, num_layers=24, **{"attention.num_heads": 16, "mlp.hidden": 4096})
WAV2VEC2_LARGE_LV60 = WAV2VEC2_LARGE.but(
    stem=WaveConvs(norms="all", bias=True), arrangement=Arrangement(), first_norm=False, last_norm=True
)
# facebook/hubert-base-ls960, hubert-large-ll60k and hubert-xlarge-ll60k config.json
HUBERT_BASE = WAV2VEC2_BASE
HUBERT_LARGE = WAV2VEC2_LARGE_LV60
HUBERT_XLARGE = HUBERT_LARGE.but(dim=1280, num_layers=48, **{"mlp.hidden": 5120})
# microsoft/wavlm-base, wavlm-base-plus and wavlm-large config.json
WAVLM_BASE = WAV2VEC2_BASE.but(
    attention=GatedAttention(12, qkv_bias=True, out_bias=True, relative=RelativeBuckets(320, 800))
)
WAVLM_LARGE = WAV2VEC2_LARGE_LV60.but(
    attention=WAVLM_BASE.attention.but(num_heads=16), **{"stem.bias": False}
)

# microsoft/unilm: beats/BEATs.py, and the settings in BEATs_iter3_plus_AS2M.pt; alpha of deep norm (2203.00555) is
# (2 layers)^(1/4)
BEATS = SignalTransformer(
    stem=SignalPatches(bias=False, by_time=True, width=512, norm=Norm()),
    size=(128, 1024),
    dim=768,
    num_layers=12,
    attention=GatedAttention(
        12, qkv_bias=True, out_bias=True, relative=RelativeBuckets(320, 800), gate_of="query"
    ),
    mlp=FeedForward(3072),
    arrangement=Arrangement("post", skip=24**0.25),
    positions=ConvPositions(),
    first_norm=True,
    last_norm=False,
)

# VITA-MLLM/VITA: vita/model/multimodal_encoder/whale, with the settings of the audio encoder of VITA/VITA
VITA_AUDIO = SignalTransformer(
    stem=PlaneConvs(scale=32.0),
    size=(80, 3000),
    dim=1024,
    num_layers=24,
    attention=RelativeAttention(16, qkv_bias=True, out_bias=True, shifted=False),
    mlp=FeedForward(4096, "relu"),
)

# facebookresearch/ImageBind: imagebind/models/imagebind_model.py `imagebind_huge`
IMAGEBIND_VISION = SignalTransformer(
    stem=SignalPatches(patch=(14, 14), stride=(14, 14), channels=3, frames=2, bias=False),
    size=(224, 224),
    dim=1280,
    num_layers=32,
    attention=FULL.but(num_heads=16),
    mlp=FeedForward(5120),
    norm=Norm("layer", 1e-6),
    positions=SignalTable(),
    cls=1,
    first_norm=True,
    pool="cls",
)
IMAGEBIND_AUDIO = IMAGEBIND_VISION.but(
    stem=SignalPatches(stride=(10, 10), bias=False, norm=Norm()),
    size=(128, 204),
    dim=768,
    num_layers=12,
    attention=ExtraKeyAttention(12, qkv_bias=True, out_bias=True),
    mlp=FeedForward(3072),
    first_norm=False,
)
IMAGEBIND_THERMAL = IMAGEBIND_AUDIO.but(size=(224, 224), **{"stem.stride": (16, 16)})
IMAGEBIND_DEPTH = IMAGEBIND_THERMAL.but(dim=384, **{"attention.num_heads": 8, "mlp.hidden": 1536})
# Six channels of an inertial sensor, 2000 samples, read eight at a time
IMAGEBIND_IMU = IMAGEBIND_AUDIO.but(
    stem=SignalPatches(patch=(6, 8), stride=(6, 8), bias=False, norm=Norm()),
    size=(6, 2000),
    dim=512,
    num_layers=6,
    **{"attention.num_heads": 8, "mlp.hidden": 2048},
)
IMAGEBIND_TEXT = TextEncoder(
    vocab_size=49408,
    dim=1024,
    num_layers=24,
    attention=FULL.but(num_heads=16),
    mlp=FeedForward(4096),
    norm=Norm("layer", 1e-6),
    pool="highest",
    projection=1024,
)
