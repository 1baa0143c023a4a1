"""Published vision transformers, as data."""

from __future__ import annotations

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.rotary2d import AxialRotary
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.vision.conv_stem import ConvStem
from beholder.parts.vision.patches import Patches, Windows
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.vit import Take, ViT

# google-research/vision_transformer and facebookresearch/mae: models of timm/models/vision_transformer.py.
VIT_B_16 = ViT(
    image_size=224,
    patch=16,
    dim=768,
    num_layers=12,
    attention=Attention(num_heads=12, qkv_bias=True, out_bias=True),
    mlp=FeedForward(hidden=3072),
    norm=Norm("layer", 1e-6),
    cls=True,
    positions=GridTable("bicubic"),
    pool="cls",
)
VIT_L_16 = VIT_B_16.but(dim=1024, num_layers=24, **{"attention.num_heads": 16, "mlp.hidden": 4096})
VIT_H_14 = VIT_B_16.but(patch=14, dim=1280, num_layers=32, **{"attention.num_heads": 16, "mlp.hidden": 5120})
VIT_B_32 = VIT_B_16.but(patch=32)
VIT_L_32 = VIT_L_16.but(patch=32)
# google-research/vision_transformer: vit_jax/configs/models.py, R50+ViT-B_16.
VIT_R50_B_16 = VIT_B_16.but(patches=Patches(stem=ConvStem()))
# facebookresearch/dino: vision_transformer.py.
DINO_S_16 = VIT_B_16.but(
    dim=384, positions=GridTable("bicubic", offset=0.1), **{"attention.num_heads": 6, "mlp.hidden": 1536}
)
DINO_B_16 = VIT_B_16.but(positions=GridTable("bicubic", offset=0.1))
DINO_B_8 = DINO_B_16.but(patch=8)
# facebookresearch/deit: models.py, with the distillation token.
DEIT_B_16 = VIT_B_16.but(registers=1, positions=GridTable("bicubic", registers=True))
# microsoft/unilm: beit/modeling_finetune.py.
BEIT_B_16 = VIT_B_16.but(
    attention=Attention(num_heads=12, qkv_bias=True, k_bias=False, out_bias=True),
    arrangement=Arrangement(layer_scale=0.1),
    positions=None,
    relative="layers",
    pool="mean",
    take=Take(norm=False),
)
BEIT_L_16 = BEIT_B_16.but(dim=1024, num_layers=24, **{"attention.num_heads": 16, "mlp.hidden": 4096})

# facebook/dinov2-*: config.json. The tables are resized as in the official library; dinov2's own code has offset=0.1.
DINOV2_B_14 = VIT_B_16.but(
    image_size=518, patch=14, arrangement=Arrangement(layer_scale=1.0), mask_token=True
)
DINOV2_S_14 = DINOV2_B_14.but(dim=384, **{"attention.num_heads": 6, "mlp.hidden": 1536})
DINOV2_L_14 = DINOV2_B_14.but(dim=1024, num_layers=24, **{"attention.num_heads": 16, "mlp.hidden": 4096})
DINOV2_G_14 = DINOV2_B_14.but(
    dim=1536, num_layers=40, mlp=FeedForward(4096, "silu", gated=True), **{"attention.num_heads": 24}
)
REGISTERS = {"registers": 4, "positions": GridTable("bicubic", antialias=True)}
DINOV2_S_14_REGISTERS = DINOV2_S_14.but(**REGISTERS)
DINOV2_B_14_REGISTERS = DINOV2_B_14.but(**REGISTERS)
DINOV2_L_14_REGISTERS = DINOV2_L_14.but(**REGISTERS)
DINOV2_G_14_REGISTERS = DINOV2_G_14.but(**REGISTERS)
# facebook/dinov3-vit*: transformers' convert_dinov3_vit_to_hf.py.
DINOV3_S_16 = DINOV2_S_14.but(
    image_size=224,
    patch=16,
    norm=Norm("layer", 1e-5),
    registers=4,
    positions=None,
    **{"attention.k_bias": False, "attention.rotary": AxialRotary(100.0, centred=True)},
)
DINOV3_S_PLUS_16 = DINOV3_S_16.but(mlp=FeedForward(1536, "silu", gated=True))
DINOV3_B_16 = DINOV3_S_16.but(dim=768, **{"attention.num_heads": 12, "mlp.hidden": 3072})
DINOV3_L_16 = DINOV3_B_16.but(dim=1024, num_layers=24, **{"attention.num_heads": 16, "mlp.hidden": 4096})
DINOV3_H_PLUS_16 = DINOV3_S_PLUS_16.but(
    dim=1280, num_layers=32, **{"attention.num_heads": 20, "mlp.hidden": 5120}
)
DINOV3_7B_16 = DINOV3_S_PLUS_16.but(
    dim=4096,
    num_layers=40,
    **{"attention.num_heads": 32, "attention.qkv_bias": False, "mlp.hidden": 8192},
)

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
    patch=14, dim=1024, num_layers=24, **{"attention.num_heads": 16, "mlp.hidden": 4096}
)
CLIP_L_14_336 = CLIP_L_14.but(image_size=336)
# laion/CLIP-ViT-*: ViT-H-14.json, ViT-g-14.json, ViT-bigG-14.json of open_clip; MetaCLIP's have OpenAI's activation.
OPEN_CLIP_L_14 = CLIP_L_14.but(**{"mlp.act": "gelu"})
OPEN_CLIP_H_14 = OPEN_CLIP_L_14.but(dim=1280, num_layers=32, **{"mlp.hidden": 5120})
OPEN_CLIP_G_14 = OPEN_CLIP_L_14.but(dim=1408, num_layers=40, **{"mlp.hidden": 6144})
OPEN_CLIP_BIGG_14 = OPEN_CLIP_L_14.but(dim=1664, num_layers=48, **{"mlp.hidden": 8192})
METACLIP_H_14 = OPEN_CLIP_H_14.but(**{"mlp.act": "quick_gelu"})
METACLIP_BIGG_14 = OPEN_CLIP_BIGG_14.but(**{"mlp.act": "quick_gelu"})
# DeepGlint-AI/mlcd-vit-bigG-patch14-336: transformers' class defaults.
MLCD_BIGG_14_336 = OPEN_CLIP_BIGG_14.but(
    image_size=336, positions=None, **{"attention.rotary": AxialRotary(learned_cls=True)}
)
# Qwen/Qwen-VL: config.json and visual.py. The table of 16 x 16 is resized; the norm behind is the resampler's.
QWEN_VL = OPEN_CLIP_BIGG_14.but(
    norm=Norm("layer", 1e-6), cls=False, positions=GridTable("bicubic"), post_norm=False, pool=None
)

# QuanSun/EVA-CLIP: EVA-CLIP/rei/eva_clip/model_configs/EVA0*.json and eva_vit_model.py of baaivision/EVA.
EVA_CLIP_G_14 = ViT(
    image_size=224,
    patch=14,
    dim=1408,
    num_layers=40,
    attention=Attention(num_heads=16, qkv_bias=True, k_bias=False, out_bias=True),
    mlp=FeedForward(hidden=6144),
    norm=Norm("layer", 1e-6),
    cls=True,
    pool="cls",
)
# salesforce/LAVIS: models/eva_vit.py `create_eva_vit_g`, read by Q-Formers: all tokens, a layer less and no norm behind.
EVA_CLIP_G_14_BLIP2 = EVA_CLIP_G_14.but(
    num_layers=39, post_norm=False, pool=None, take=Take(norm=False, front=True)
)
EVA02_CLIP_L_14 = EVA_CLIP_G_14.but(
    dim=1024,
    num_layers=24,
    attention=Attention(
        num_heads=16,
        qkv_bias=True,
        k_bias=False,
        out_bias=True,
        rotary=AxialRotary(pairs="adjacent", reference=16),
        inner_norm=Norm("layer", 1e-6),
    ),
    mlp=FeedForward(2730, "silu", gated=True, inner_norm=Norm("layer", 1e-6)),
)
EVA02_CLIP_L_14_336 = EVA02_CLIP_L_14.but(image_size=336)
EVA02_CLIP_B_16 = EVA02_CLIP_L_14.but(
    patch=16, dim=768, num_layers=12, **{"attention.num_heads": 12, "mlp.hidden": 2048}
)
EVA02_CLIP_E_14 = EVA_CLIP_G_14.but(
    dim=1792, num_layers=64, arrangement=Arrangement("after"), **{"mlp.hidden": 15360}
)
# BAAI/EVA-CLIP-8B and 18B: EVA-CLIP-18B/shinji/eva_clip/model_configs.
EVA_CLIP_8B_14 = EVA_CLIP_G_14.but(
    dim=4096,
    num_layers=32,
    norm=Norm("rms", 1e-6),
    attention=Attention(num_heads=32, out_bias=True),
    **{"mlp.hidden": 20480},
)
EVA_CLIP_18B_14 = EVA_CLIP_8B_14.but(
    dim=5120,
    num_layers=48,
    arrangement=Arrangement("after"),
    **{"attention.num_heads": 40, "mlp.hidden": 25600},
)

# google-research/big_vision; model_configs/ViT-*-SigLIP*.json of mlfoundations/open_clip. SigLIP 2 has the same sizes.
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
SIGLIP_L_16 = SIGLIP_B_16.but(dim=1024, num_layers=24, **{"attention.num_heads": 16, "mlp.hidden": 4096})
SIGLIP_SO400M_14 = SIGLIP_L_16.but(patch=14, dim=1152, num_layers=27, **{"mlp.hidden": 4304})
SIGLIP2_SO400M_16 = SIGLIP_SO400M_14.but(image_size=256, patch=16)
SIGLIP2_G_16 = SIGLIP_L_16.but(image_size=256, dim=1536, num_layers=40, **{"mlp.hidden": 6144})
# google/siglip2-*-naflex: any size, 256 places resized to each.
NAFLEX = {"image_size": 256, "positions": GridTable("bilinear", antialias=True)}
SIGLIP2_B_16_NAFLEX = SIGLIP_B_16.but(**NAFLEX)
SIGLIP2_SO400M_16_NAFLEX = SIGLIP2_SO400M_16.but(**NAFLEX)

# OpenGVLab/InternViT-*: config.json. 45 layers of the 6B are used since V1-2.
INTERN_VIT_6B_224 = ViT(
    image_size=224,
    patch=14,
    dim=3200,
    num_layers=48,
    attention=Attention(num_heads=25, out_bias=True, qk_norm=Norm("rms", 1e-6), qk_norm_over="all"),
    mlp=FeedForward(12800),
    arrangement=Arrangement(layer_scale=0.1),
    norm=Norm("rms", 1e-6),
    cls=True,
    post_norm=False,
    positions=GridTable("bicubic"),
    pool="cls",
    take=Take(norm=False),
)
INTERN_VIT_6B_448 = INTERN_VIT_6B_224.but(image_size=448, num_layers=45)
INTERN_VIT_300M_448 = INTERN_VIT_6B_448.but(
    dim=1024,
    num_layers=24,
    attention=Attention(num_heads=16, qkv_bias=True, out_bias=True),
    norm=Norm("layer", 1e-6),
    **{"mlp.hidden": 4096},
)

# apple/aimv2-*-patch14-224: configuration_aimv2.py, aim/v2 of apple/ml-aim.
AIMV2_L_14 = ViT(
    image_size=224,
    patch=14,
    dim=1024,
    num_layers=24,
    attention=Attention(num_heads=8),
    mlp=FeedForward(2816, "silu", gated=True, bias=False),
    norm=Norm("rms", 1e-5),
    patches=Patches(norm=True),
)
AIMV2_H_14 = AIMV2_L_14.but(dim=1536, **{"attention.num_heads": 12, "mlp.hidden": 4096})
AIMV2_1B_14 = AIMV2_L_14.but(dim=2048, **{"attention.num_heads": 16, "mlp.hidden": 5632})
AIMV2_3B_14 = AIMV2_L_14.but(dim=3072, **{"attention.num_heads": 24, "mlp.hidden": 8192})

# mistralai/Pixtral-12B-2409: configuration_pixtral.py.
PIXTRAL = ViT(
    image_size=1024,
    patch=16,
    dim=1024,
    num_layers=24,
    attention=Attention(num_heads=16, rotary=AxialRotary(dealt=True)),
    mlp=FeedForward(4096, "silu", gated=True, bias=False),
    norm=Norm("rms", 1e-5),
    patches=Patches(bias=False),
    pre_norm=True,
    post_norm=False,
    positions=None,
)
# Qwen/Qwen2-VL-*, Qwen/Qwen2.5-VL-*: config.json; the 72B's encoder is a little wider inside.
QWEN2_VL = ViT(
    image_size=14,
    patch=14,
    dim=1280,
    num_layers=32,
    attention=Attention(num_heads=16, qkv_bias=True, out_bias=True, rotary=AxialRotary()),
    mlp=FeedForward(5120, "quick_gelu"),
    norm=Norm("layer", 1e-6),
    patches=Patches(bias=False, frames=2),
    post_norm=False,
    positions=None,
)
QWEN2_5_VL = QWEN2_VL.but(
    mlp=FeedForward(3420, "silu", gated=True),
    norm=Norm("rms", 1e-6),
    windows=Windows(8, (7, 15, 23, 31)),
)
QWEN2_5_VL_72B = QWEN2_5_VL.but(**{"mlp.hidden": 3456})
# microsoft/layoutlmv3-base: patches with their places, for a joint encoder.
LAYOUTLMV3_PATCHES = VIT_B_16.but(num_layers=0, positions=GridTable(), pool=None)
