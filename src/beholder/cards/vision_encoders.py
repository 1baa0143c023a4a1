"""Encoders of pictures that stand alone: ViT (2010.11929) with its labels, plain and behind a ResNet's first stages, and
AIMv2 (2411.14402) with its probe and its pre-training.
"""

from beholder.cards.schema import Card, LanguagePart, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.media.native import Native
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.projections import Linear, Pooled
from beholder.parts.fusion.splice import Splice
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.labels import Labels
from beholder.parts.heads.next_patch import NextPatch
from beholder.parts.heads.next_token import NextToken
from beholder.parts.heads.similarity import Similarity
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.text_encoder import TextEncoder
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.positions import Sinusoids
from beholder.prompts import formats

# Pictures as by the defaults of transformers: models/vit/image_processing_vit.py, with the size that the name of each file
# gives. The names of the labels, in their order, come with the weights.
VIT_B_16 = Card(
    name="vit-b-16",
    system="vit",
    paper="2010.11929",
    licence="Apache-2.0",
    vision=vision.VIT_B_16,
    images=Fixed(size=(224, 224), filter="bilinear"),
    heads=(Labels(dim=768, count=1000),),
    weights=(Source("hub", "google/vit-base-patch16-224"),),
)
VIT_B_32 = VIT_B_16.but(
    name="vit-b-32",
    vision=vision.VIT_B_32.but(image_size=384),
    images=Fixed(size=(384, 384), filter="bilinear"),
    weights=(Source("hub", "google/vit-base-patch32-384"),),
)
VIT_L_16 = VIT_B_16.but(
    name="vit-l-16",
    vision=vision.VIT_L_16,
    heads=(Labels(dim=1024, count=1000),),
    weights=(Source("hub", "google/vit-large-patch16-224"),),
)
VIT_H_14 = VIT_B_16.but(
    name="vit-h-14",
    vision=vision.VIT_H_14.but(pool="dense"),
    heads=(),
    weights=(Source("hub", "google/vit-huge-patch14-224-in21k"),),
)
# The hybrid at 384 pixels: huggingface/pytorch-image-models timm/models/vision_transformer_hybrid.py, vit_base_r50_s16_384.
VIT_R50_B_16 = VIT_B_16.but(
    name="vit-r50-b-16",
    vision=vision.VIT_R50_B_16.but(image_size=384),
    images=Fixed(size=(384, 384), filter="bilinear"),
    weights=(),
)

# AIMv2: mean and std as in huggingface/pytorch-image-models timm/models/vision_transformer.py. That pictures are cropped is
# not checked against a released file.
AIMV2_L_14 = Card(
    name="aimv2-l-14",
    system="aimv2",
    paper="2411.14402",
    licence="Apple AMLR",
    vision=vision.AIMV2_L_14,
    images=Fixed(size=(224, 224), fit="crop", mean=CLIP_MEAN, std=CLIP_STD),
    weights=(Source("hub", "apple/aimv2-large-patch14-224"),),
)
AIMV2_H_14 = AIMV2_L_14.but(
    name="aimv2-h-14",
    vision=vision.AIMV2_H_14,
    weights=(Source("hub", "apple/aimv2-huge-patch14-224"),),
)
AIMV2_1B_14 = AIMV2_L_14.but(
    name="aimv2-1b-14",
    vision=vision.AIMV2_1B_14,
    weights=(Source("hub", "apple/aimv2-1B-patch14-224"),),
)
AIMV2_3B_14 = AIMV2_L_14.but(
    name="aimv2-3b-14",
    vision=vision.AIMV2_3B_14,
    weights=(Source("hub", "apple/aimv2-3B-patch14-224"),),
)
# Pictures of any size; up to as many pixels as 448 a side is not checked against a released file.
AIMV2_L_14_NATIVE = AIMV2_L_14.but(
    name="aimv2-l-14-native",
    vision=vision.AIMV2_L_14.but(positions=Sinusoids()),
    images=Native(cell=14, size=(448, 448), fit="area", mean=CLIP_MEAN, std=CLIP_STD),
    weights=(Source("hub", "apple/aimv2-large-patch14-native"),),
)
# The attentive probe of section 4.1, over frozen features.
AIMV2_L_14_PROBE = AIMV2_L_14.but(
    name="aimv2-l-14-probe",
    vision=vision.AIMV2_L_14.but(pool="query"),
    heads=(Labels(dim=1024, count=1000),),
    stages=(
        Stage(
            "probe",
            rules=(Trains("branches.image.vision.pool.*", lr=1e-3), Trains("heads.*", lr=1e-3)),
            objective="labels",
        ),
    ),
    weights=(),
)
# Pre-training: 12 layers of width 1024, made as the encoder's, read patches, then text (section 2.1), and foretell both.
AIMV2_DECODER = Decoder(
    vocab_size=32000,
    dim=1024,
    num_layers=12,
    attention=Attention(num_heads=8),
    mlp=FeedForward(2816, act="silu", gated=True, bias=False),
    context=1024,
    embedding=TokenEmbedding(positions="learned"),
)
AIMV2_L_14_PRETRAINING = AIMV2_L_14.but(
    name="aimv2-l-14-pretraining",
    vision=vision.AIMV2_L_14.but(prefix=True),
    connector=Linear(),
    fusion=(Splice(token_id=32000),),
    languages=(LanguagePart(AIMV2_DECODER),),
    heads=(NextToken(), NextPatch(patch=14)),
    prompt=formats.PLAIN,
    stages=(Stage("pretraining", rules=(Trains("*", lr=1e-3),), objective="next-token, patches"),),
    weights=(),
)
AIMV2_WORDS = TextEncoder(
    vocab_size=49408,
    dim=768,
    num_layers=12,
    attention=Attention(num_heads=6),
    mlp=FeedForward(2048, act="silu", gated=True, bias=False),
    norm=Norm("rms", 1e-5),
    projection=512,
)
# With a tower of words trained beside it; sizes are the defaults of the official config class, whose weights these are.
AIMV2_L_14_LIT = AIMV2_L_14.but(
    name="aimv2-l-14-lit",
    vision=vision.AIMV2_L_14.but(pool="query"),
    connector=Pooled(project=True),
    fusion=(Towers(),),
    languages=(LanguagePart(AIMV2_WORDS),),
    heads=(Similarity(most=100.0),),
    weights=(Source("hub", "apple/aimv2-large-patch14-224-lit"),),
)
