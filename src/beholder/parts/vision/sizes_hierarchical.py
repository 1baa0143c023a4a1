"""Published convolutional nets and hierarchical vision transformers, as data."""

from __future__ import annotations

from beholder.parts.vision.convnext import ConvNext
from beholder.parts.vision.davit import DaVit
from beholder.parts.vision.efficientnet import EfficientNet
from beholder.parts.vision.focalnet import FocalNet
from beholder.parts.vision.hiera import Hiera, Pyramid
from beholder.parts.vision.nfnet import NfNet
from beholder.parts.vision.resnet import ResNet
from beholder.parts.vision.swin import Swin
from beholder.parts.vision.vitdet import VitDet

# 1512.03385 table 1; pytorch/vision: torchvision/models/resnet.py
RESNET_50 = ResNet()
RESNET_101 = RESNET_50.but(depths=(3, 4, 23, 3))
RESNET_152 = RESNET_50.but(depths=(3, 8, 36, 3))
RESNET_18 = RESNET_50.but(reduction=1, dims=(64, 128, 256, 512), depths=(2, 2, 2, 2))
RESNET_34 = RESNET_18.but(depths=(3, 4, 6, 3))

# openai/CLIP: clip/model.py; mlfoundations/open_clip: model_configs/RN*.json
CLIP_RN50 = ResNet(stride="averages", deep_stem=True, pool_heads=32, pool_dim=1024)
CLIP_RN101 = CLIP_RN50.but(depths=(3, 4, 23, 3), pool_dim=512)
CLIP_RN50X4 = CLIP_RN50.but(
    image_size=288, stem=80, dims=(320, 640, 1280, 2560), depths=(4, 6, 10, 6), pool_heads=40, pool_dim=640
)
CLIP_RN50X16 = CLIP_RN50.but(
    image_size=384, stem=96, dims=(384, 768, 1536, 3072), depths=(6, 8, 18, 8), pool_heads=48, pool_dim=768
)
CLIP_RN50X64 = CLIP_RN50.but(
    image_size=448, stem=128, dims=(512, 1024, 2048, 4096), depths=(3, 15, 36, 10), pool_heads=64
)

# facebookresearch/ConvNeXt: models/convnext.py
CONVNEXT_T = ConvNext()
CONVNEXT_S = CONVNEXT_T.but(depths=(3, 3, 27, 3))
CONVNEXT_B = CONVNEXT_S.but(dims=(128, 256, 512, 1024))
CONVNEXT_L = CONVNEXT_S.but(dims=(192, 384, 768, 1536))
CONVNEXT_XL = CONVNEXT_S.but(dims=(256, 512, 1024, 2048))
# facebookresearch/ConvNeXt-V2: models/convnextv2.py
CONVNEXT_V2_T = CONVNEXT_T.but(responses=True)
CONVNEXT_V2_B = CONVNEXT_B.but(responses=True)
CONVNEXT_V2_L = CONVNEXT_L.but(responses=True)
CONVNEXT_V2_H = CONVNEXT_V2_B.but(dims=(352, 704, 1408, 2816))
# mlfoundations/open_clip: model_configs/convnext_{base_w,large_d,large_d_320,xxlarge}.json; timm/models/convnext.py
CLIP_CONVNEXT_B = CONVNEXT_B.but(image_size=256)
CLIP_CONVNEXT_L = CONVNEXT_L.but(image_size=256)
CLIP_CONVNEXT_L_320 = CONVNEXT_L.but(image_size=320)
CLIP_CONVNEXT_XXL = ConvNext(
    image_size=256, dims=(384, 768, 1536, 3072), depths=(3, 4, 30, 3), eps=1e-5, last_eps=1e-5
)
# facebookresearch/dinov3: the four ConvNeXt distilled from the ViT-7B
DINOV3_CONVNEXT_T = CONVNEXT_T.but(norm_tokens=True)
DINOV3_CONVNEXT_S = CONVNEXT_S.but(norm_tokens=True)
DINOV3_CONVNEXT_B = CONVNEXT_B.but(norm_tokens=True)
DINOV3_CONVNEXT_L = CONVNEXT_L.but(norm_tokens=True)

# tensorflow/tpu: models/official/efficientnet/efficientnet_builder.py `efficientnet_params`
EFFICIENTNET_B0 = EfficientNet()
EFFICIENTNET_B1 = EfficientNet(image_size=240, depth=1.1)
EFFICIENTNET_B2 = EfficientNet(image_size=260, width=1.1, depth=1.2, head=1408)
EFFICIENTNET_B3 = EfficientNet(image_size=300, width=1.2, depth=1.4, head=1536)
EFFICIENTNET_B4 = EfficientNet(image_size=380, width=1.4, depth=1.8, head=1792)
EFFICIENTNET_B5 = EfficientNet(image_size=456, width=1.6, depth=2.2, head=2048)
EFFICIENTNET_B6 = EfficientNet(image_size=528, width=1.8, depth=2.6, head=2304)
EFFICIENTNET_B7 = EfficientNet(image_size=600, width=2.0, depth=3.1, head=2560)

# 2101.08692 section 5 (Frozen's encoder); 2102.06171 table 1, pictures of the size that is tested
NF_RESNET_50 = NfNet()
NFNET_F0 = NfNet(
    image_size=256,
    dims=(256, 512, 1536, 1536),
    depths=(1, 2, 6, 3),
    stem=128,
    inner=0.5,
    group=128,
    twice=True,
    gate=0.5,
    deep_stem=True,
    averages=True,
    head=3072,
    act="gelu_tanh",
)
NFNET_F1 = NFNET_F0.but(image_size=320, depths=(2, 4, 12, 6))
NFNET_F2 = NFNET_F0.but(image_size=352, depths=(3, 6, 18, 9))
NFNET_F3 = NFNET_F0.but(image_size=416, depths=(4, 8, 24, 12))
NFNET_F4 = NFNET_F0.but(image_size=512, depths=(5, 10, 30, 15))
NFNET_F5 = NFNET_F0.but(image_size=544, depths=(6, 12, 36, 18))
NFNET_F6 = NFNET_F0.but(image_size=576, depths=(7, 14, 42, 21))

# microsoft/Swin-Transformer: configs/swin/*.yaml, configs/swinv2/*.yaml
SWIN_T = Swin()
SWIN_S = SWIN_T.but(depths=(2, 2, 18, 2))
SWIN_B = SWIN_S.but(width=128, heads=(4, 8, 16, 32))
SWIN_B_384 = SWIN_B.but(image_size=384, window=12)
SWIN_L = SWIN_S.but(width=192, heads=(6, 12, 24, 48))
SWIN_L_384 = SWIN_L.but(image_size=384, window=12)
SWIN_V2_T = SWIN_T.but(image_size=256, window=8, cosine=True)
SWIN_V2_S = SWIN_V2_T.but(depths=(2, 2, 18, 2))
SWIN_V2_B = SWIN_V2_S.but(width=128, heads=(4, 8, 16, 32))
SWIN_V2_L = SWIN_V2_S.but(width=192, heads=(6, 12, 24, 48), image_size=192, window=12)

# microsoft/Florence-2-base and -large: config.json `vision_config`
DAVIT_B = DaVit()
DAVIT_L = DaVit(dims=(256, 512, 1024, 2048), heads=(8, 16, 32, 64), groups=(8, 16, 32, 64))

# microsoft/FocalNet: classification/focalnet.py; `srf` has 2 levels, `lrf` 3
FOCALNET_T_SRF = FocalNet()
FOCALNET_T = FocalNet(levels=(3, 3, 3, 3))
FOCALNET_L = FocalNet(
    width=192, depths=(2, 2, 18, 2), levels=(4, 4, 4, 4), overlap=True, after=True, scaled=True
)

# facebookresearch/hiera: hiera/hiera.py
HIERA_T = Hiera(depths=(1, 2, 7, 2))
HIERA_S = HIERA_T.but(depths=(1, 2, 11, 2))
HIERA_B = HIERA_T.but(depths=(2, 3, 16, 3))
HIERA_B_PLUS = HIERA_B.but(dims=(112, 224, 448, 896), heads=(2, 4, 8, 16))
HIERA_L = HIERA_T.but(dims=(144, 288, 576, 1152), depths=(2, 6, 36, 4), heads=(2, 4, 8, 16))
HIERA_H = HIERA_L.but(dims=(256, 512, 1024, 2048), heads=(4, 8, 16, 32))
# facebookresearch/sam2: sam2/configs/sam2.1/sam2.1_hiera_{t,s,b+,l}.yaml
SAM2_HIERA_T = HIERA_T.but(
    image_size=1024,
    windows=(8, 4, 14, 7),
    whole=(5, 7, 9),
    background=7,
    norm_pooled=False,
    pyramid=Pyramid(),
)
SAM2_HIERA_S = SAM2_HIERA_T.but(depths=(1, 2, 11, 2), whole=(7, 10, 13))
SAM2_HIERA_B_PLUS = SAM2_HIERA_T.but(
    dims=HIERA_B_PLUS.dims, depths=(2, 3, 16, 3), heads=(2, 4, 8, 16), whole=(12, 16, 20), background=14
)
SAM2_HIERA_L = SAM2_HIERA_T.but(
    dims=HIERA_L.dims, depths=(2, 6, 36, 4), heads=(2, 4, 8, 16), windows=(8, 4, 16, 8), whole=(23, 33, 43)
)


# facebookresearch/segment-anything: segment_anything/build_sam.py
def _sam(width: int, num_layers: int, heads: int) -> VitDet:
    """Four layers, the last of each quarter, see the whole map."""
    windowed = tuple(n for n in range(num_layers) if (n + 1) % (num_layers // 4))
    return VitDet(width=width, num_layers=num_layers, heads=heads, hidden=4 * width, windowed=windowed)


SAM_B = _sam(768, 12, 12)
SAM_L = _sam(1024, 24, 16)
SAM_H = _sam(1280, 32, 16)
