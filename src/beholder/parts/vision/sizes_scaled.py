"""The largest plain vision transformers (2106.04560, 2209.06794)."""

from __future__ import annotations

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.vit import ViT

# google-research/big_vision big_vision/models/vit.py, sizes G and e, as PaLI takes them: all patches, none in front
VIT_G_14 = ViT(
    224,
    14,
    1664,
    48,
    Attention(16, qkv_bias=True, out_bias=True),
    FeedForward(8192, "gelu_tanh"),
    norm=Norm("layer", 1e-6),
    positions=GridTable("bicubic"),
)
VIT_E_14 = VIT_G_14.but(dim=1792, num_layers=56, **{"mlp.hidden": 15360})
