"""Encoders of pictures that stand alone: ViT (2010.11929) with its labels, plain and behind a ResNet's first stages."""

from beholder.cards.schema import Card, Source
from beholder.media.geometry import Fixed
from beholder.parts.heads.labels import Labels
from beholder.parts.vision import sizes as vision

# preprocessor_config.json of google/vit-base-patch16-224; the names of the labels come with the weights.
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
# The hybrid of table 5, fine-tuned at 384 pixels.
VIT_R50_B_16 = VIT_B_16.but(
    name="vit-r50-b-16",
    vision=vision.VIT_R50_B_16.but(image_size=384),
    images=Fixed(size=(384, 384), filter="bilinear"),
    weights=(),
)
