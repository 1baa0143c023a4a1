"""SigLIP 2 (2502.14786) for pictures of any size and proportions: NaFlex."""

from beholder.cards import siglip
from beholder.cards.schema import Source
from beholder.media.native import Native
from beholder.parts.language import sizes as language
from beholder.parts.vision import sizes as vision

# mlfoundations/open_clip: model_configs/ViT-*-16-SigLIP2-naflex.json; 256 patches are the official processor's default.
SIGLIP2_B_16_NAFLEX = siglip.SIGLIP_B_16_224.but(
    name="siglip2-b-16-naflex",
    paper="2502.14786",
    vision=vision.SIGLIP2_B_16_NAFLEX,
    images=Native(cell=16, size=(256, 256), fit="most", filter="bilinear"),
    language=language.SIGLIP_TEXT_768.but(vocab_size=256000),
    weights=(Source("hub", "google/siglip2-base-patch16-naflex"),),
)
SIGLIP2_SO400M_16_NAFLEX = SIGLIP2_B_16_NAFLEX.but(
    name="siglip2-so400m-16-naflex",
    vision=vision.SIGLIP2_SO400M_16_NAFLEX,
    language=language.SIGLIP_TEXT_1152.but(vocab_size=256000),
    weights=(Source("hub", "google/siglip2-so400m-patch16-naflex"),),
)
