"""The largest plain vision transformers (2106.04560, 2209.06794), and stems without any layer behind."""

from __future__ import annotations

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.vision.conv_stem import ConvStem
from beholder.parts.vision.patches import Patches
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.vit import Take, ViT

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

# The first three stages of residual nets, one matrix, and places (SimVLM, 2108.10904)
STEM_101 = ViT(
    224,
    16,
    768,
    0,
    Attention(12),
    FeedForward(3072),
    patches=Patches(stem=ConvStem((3, 4, 23))),
    positions=GridTable("bicubic"),
    post_norm=False,
    take=Take((0,), norm=False),
)
STEM_152 = STEM_101.but(patches=Patches(stem=ConvStem((3, 8, 36))))
