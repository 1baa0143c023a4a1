"""Florence-2 (2311.06242): DaViT's tokens and the prompt go through BART's encoder; regions are written in location tokens.

Numbers of the base are those of a config.json saved again from microsoft/Florence-2-base-ft. Not checked against a released
file: the large one's, and the padded vocabulary, with the placeholder inside, of the florence-community releases.
"""

from beholder.cards.schema import Card, Source
from beholder.media.geometry import IMAGENET_MEAN, IMAGENET_STD, Fixed
from beholder.parts.connectors.placed import Placed
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_text as language
from beholder.parts.vision import sizes_hierarchical as vision
from beholder.prompts import tasks
from beholder.prompts.chat import ChatFormat, Turn
from beholder.prompts.coordinates import Coordinates

FLORENCE_2_BASE = Card(
    name="florence-2-base",
    system="florence-2",
    paper="2311.06242",
    licence="MIT",
    vision=vision.DAVIT_B,
    connector=Placed(),
    images=Fixed(size=(768, 768), mean=IMAGENET_MEAN, std=IMAGENET_STD),
    fusion=(Splice(token_id=51289),),
    language=language.BART_BASE.but(
        **{"encoder.vocab_size": 51328, "decoder.vocab_size": 51328, "decoder.head_bias": False}
    ),
    heads=(NextToken(),),
    prompt=ChatFormat(
        "florence-2",
        system=None,
        user=Turn("", "{eos}"),
        image_place="first",
        image_suffix="{bos}",
        boxes=Coordinates("<loc_{x0}><loc_{y0}><loc_{x1}><loc_{y1}>", between=""),
    ),
    tasks=tasks.FLORENCE_2,
    weights=(
        Source("hub", "florence-community/Florence-2-base"),
        Source("hub", "microsoft/Florence-2-base", note="vocabulary of 51289 words"),
    ),
)
FLORENCE_2_LARGE = FLORENCE_2_BASE.but(
    name="florence-2-large",
    vision=vision.DAVIT_L,
    language=language.BART_LARGE.but(
        **{
            "encoder.vocab_size": 51328,
            "decoder.vocab_size": 51328,
            "encoder.context": 4096,
            "decoder.context": 4096,
            "decoder.head_bias": False,
        }
    ),
    weights=(
        Source("hub", "florence-community/Florence-2-large"),
        Source("hub", "microsoft/Florence-2-large", note="vocabulary of 51289 words"),
    ),
)
