"""SimVLM (2108.10904): patches behind the first stages of a residual net and a text's beginning are the prefix that an encoder
reads both ways; a decoder goes on from it.

Neither code nor weights were released. Widths are published (see `sizes_simvlm`); the stages are taken to be those of a
ResNet-101, and of a ResNet-152 at the largest size, in the form of ViT's hybrids.
"""

from beholder.cards.schema import Card
from beholder.media.geometry import Fixed
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_simvlm as language
from beholder.parts.vision import sizes_scaled as vision
from beholder.prompts.chat import ChatFormat

SIMVLM_B = Card(
    name="simvlm-b",
    system="simvlm",
    paper="2108.10904",
    vision=vision.STEM_101,
    images=Fixed(size=(224, 224)),
    fusion=(Splice(token_id=32128),),
    language=language.BASE,
    heads=(NextToken(),),
    prompt=ChatFormat("simvlm", system=None, image_place="first"),
)
SIMVLM_L = SIMVLM_B.but(name="simvlm-l", vision=vision.STEM_101.but(dim=1024), language=language.LARGE)
SIMVLM_H = SIMVLM_B.but(name="simvlm-h", vision=vision.STEM_152.but(dim=1280), language=language.HUGE)
