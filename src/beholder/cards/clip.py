"""CLIP (2103.00020): a picture tower and a causal text tower that share a space."""

from beholder.cards.schema import Card, Source
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.connectors.projections import Pooled
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.similarity import Similarity
from beholder.parts.language import sizes as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision import sizes_hierarchical as resnets

CLIP_B_32 = Card(
    name="clip-b-32",
    system="clip",
    paper="2103.00020",
    licence="MIT",
    vision=vision.CLIP_B_32,
    connector=Pooled(project=True),
    images=Fixed(size=(224, 224), fit="crop", mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Towers(),),
    language=language.CLIP_TEXT_512,
    heads=(Similarity(),),
    weights=(Source("hub", "openai/clip-vit-base-patch32"),),
)
CLIP_B_16 = CLIP_B_32.but(
    name="clip-b-16", vision=vision.CLIP_B_16, weights=(Source("hub", "openai/clip-vit-base-patch16"),)
)
CLIP_L_14 = CLIP_B_32.but(
    name="clip-l-14",
    vision=vision.CLIP_L_14,
    language=language.CLIP_TEXT_768,
    weights=(Source("hub", "openai/clip-vit-large-patch14"),),
)
CLIP_L_14_336 = CLIP_L_14.but(
    name="clip-l-14-336",
    vision=vision.CLIP_L_14_336,
    images=Fixed(size=(336, 336), fit="crop", mean=CLIP_MEAN, std=CLIP_STD),
    weights=(Source("hub", "openai/clip-vit-large-patch14-336"),),
)

# The residual nets pool by attention, straight into the shared space; released in open_clip's layout.
CLIP_RN50 = CLIP_B_32.but(
    name="clip-rn50",
    vision=resnets.CLIP_RN50,
    connector=Pooled(project=False),
    language=language.CLIP_TEXT_512_TO_1024,
    weights=(Source("hub", "timm/resnet50_clip.openai"),),
)
CLIP_RN101 = CLIP_RN50.but(
    name="clip-rn101",
    vision=resnets.CLIP_RN101,
    language=language.CLIP_TEXT_512,
    weights=(Source("hub", "timm/resnet101_clip.openai"),),
)
CLIP_RN50X4 = CLIP_RN50.but(
    name="clip-rn50x4",
    vision=resnets.CLIP_RN50X4,
    images=Fixed(size=(288, 288), fit="crop", mean=CLIP_MEAN, std=CLIP_STD),
    language=language.CLIP_TEXT_640,
    weights=(Source("hub", "timm/resnet50x4_clip.openai"),),
)
CLIP_RN50X16 = CLIP_RN50.but(
    name="clip-rn50x16",
    vision=resnets.CLIP_RN50X16,
    images=Fixed(size=(384, 384), fit="crop", mean=CLIP_MEAN, std=CLIP_STD),
    language=language.CLIP_TEXT_768,
    weights=(Source("hub", "timm/resnet50x16_clip.openai"),),
)
CLIP_RN50X64 = CLIP_RN50.but(
    name="clip-rn50x64",
    vision=resnets.CLIP_RN50X64,
    images=Fixed(size=(448, 448), fit="crop", mean=CLIP_MEAN, std=CLIP_STD),
    language=language.CLIP_TEXT_1024,
    weights=(Source("hub", "timm/resnet50x64_clip.openai"),),
)
