"""Published sizes of encoders that were made for one task: reading screens and pages, and finding objects."""

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.rotary2d import AxialRotary
from beholder.parts.vision.layout import PageEncoder
from beholder.parts.vision.patches import Windows
from beholder.parts.vision.positions import BICUBIC, RowsColumns
from beholder.parts.vision.vit import Take, ViT

# google/pix2struct-large: vision_config; transformers: models/pix2struct
PIX2STRUCT_L = ViT(
    image_size=720,
    patch=16,
    dim=1536,
    num_layers=18,
    attention=Attention(24, scale=1.0),
    mlp=FeedForward(3968, "gelu_tanh", gated=True, bias=False),
    norm=Norm("rms", 1e-6),
    positions=RowsColumns(),
)
# Yuxin-CV/EVA-02: eva02_L_coco_det_sys_o365, as in eagle/model/multimodal_encoder/vision_models/eva_vit.py of NVlabs/EAGLE; the
# table of places has an entry for a class token besides, which is unused
EVA02_L_DETECTION = ViT(
    image_size=224,
    patch=16,
    dim=1024,
    num_layers=24,
    attention=Attention(16, qkv_bias=True, k_bias=False, out_bias=True, rotary=AxialRotary(pairs="adjacent")),
    mlp=FeedForward(2730, "silu", gated=True, inner_norm=Norm("layer", 1e-6)),
    norm=Norm("layer", 1e-6),
    positions=BICUBIC,
    post_norm=False,
    windows=Windows(16, full=(2, 5, 8, 11, 14, 17, 20, 23), stretched=16),
    take=Take(norm=False),
)
# microsoft/layoutlmv3-base, the class defaults of transformers' config, and -large (2204.08387, section 3.3)
LAYOUTLMV3_B = PageEncoder()
LAYOUTLMV3_L = PageEncoder(
    dim=1024, num_layers=24, attention=Attention(16, qkv_bias=True, out_bias=True), mlp=FeedForward(4096)
)
