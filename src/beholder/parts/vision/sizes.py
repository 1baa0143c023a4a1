"""Published vision transformers, as data."""

from __future__ import annotations

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.vision.patches import Patches
from beholder.parts.vision.vit import Take, ViT

# openai/CLIP: model_configs/ViT-*.json of mlfoundations/open_clip. Features are the last layer's, not normed.
CLIP_B_32 = ViT(
    image_size=224,
    patch=32,
    dim=768,
    num_layers=12,
    attention=Attention(num_heads=12, qkv_bias=True, out_bias=True),
    mlp=FeedForward(hidden=3072, act="quick_gelu"),
    cls=True,
    patches=Patches(bias=False),
    pre_norm=True,
    pool="cls",
    take=Take(norm=False),
)
CLIP_B_16 = CLIP_B_32.but(patch=16)
CLIP_L_14 = CLIP_B_32.but(
    patch=14,
    dim=1024,
    num_layers=24,
    attention=CLIP_B_32.attention.but(num_heads=16),
    mlp=CLIP_B_32.mlp.but(hidden=4096),
)
CLIP_L_14_336 = CLIP_L_14.but(image_size=336)

# google-research/big_vision; model_configs/ViT-*-SigLIP*.json of mlfoundations/open_clip.
SIGLIP_B_16 = ViT(
    image_size=224,
    patch=16,
    dim=768,
    num_layers=12,
    attention=Attention(num_heads=12, qkv_bias=True, out_bias=True),
    mlp=FeedForward(hidden=3072, act="gelu_tanh"),
    norm=Norm("layer", 1e-6),
    pool="attention",
)
SIGLIP_L_16 = SIGLIP_B_16.but(
    dim=1024,
    num_layers=24,
    attention=SIGLIP_B_16.attention.but(num_heads=16),
    mlp=SIGLIP_B_16.mlp.but(hidden=4096),
)
SIGLIP_SO400M_14 = SIGLIP_B_16.but(
    patch=14,
    dim=1152,
    num_layers=27,
    attention=SIGLIP_B_16.attention.but(num_heads=16),
    mlp=SIGLIP_B_16.mlp.but(hidden=4304),
)
