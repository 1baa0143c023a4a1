"""SigLIP (2303.15343): two towers of equal width trained with a sigmoid loss."""

from beholder.cards.schema import Card, Source
from beholder.media.geometry import Fixed
from beholder.parts.connectors.projections import Pooled
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.similarity import Similarity
from beholder.parts.language import sizes as language
from beholder.parts.vision import sizes as vision

SIGLIP_B_16_224 = Card(
    name="siglip-b-16-224",
    system="siglip",
    paper="2303.15343",
    licence="Apache-2.0",
    vision=vision.SIGLIP_B_16,
    connector=Pooled(project=False),
    images=Fixed(size=(224, 224)),
    fusion=(Towers(),),
    language=language.SIGLIP_TEXT_768,
    heads=(Similarity(bias=-10.0),),
    weights=(Source("hub", "google/siglip-base-patch16-224"),),
)
SIGLIP_L_16_384 = SIGLIP_B_16_224.but(
    name="siglip-l-16-384",
    vision=vision.SIGLIP_L_16.but(image_size=384),
    images=Fixed(size=(384, 384)),
    language=language.SIGLIP_TEXT_1024,
    weights=(Source("hub", "google/siglip-large-patch16-384"),),
)
SIGLIP_SO400M_14_384 = SIGLIP_B_16_224.but(
    name="siglip-so400m-14-384",
    vision=vision.SIGLIP_SO400M_14.but(image_size=384),
    images=Fixed(size=(384, 384)),
    language=language.SIGLIP_TEXT_1152,
    weights=(Source("hub", "google/siglip-so400m-patch14-384"),),
)
SIGLIP_SO400M_14_224 = SIGLIP_SO400M_14_384.but(
    name="siglip-so400m-14-224",
    vision=vision.SIGLIP_SO400M_14,
    images=Fixed(size=(224, 224)),
    language=language.SIGLIP_TEXT_1152.but(context=16),
    weights=(Source("hub", "google/siglip-so400m-patch14-224"),),
)
