"""Eagle 2 (2501.14818): in the largest one tiles are seen by SigLIP and a ConvNeXt of CLIP; the smaller ones have SigLIP alone.

Numbers: the paper's section on the tiled mixture of encoders; config.json and modeling_eagle_chat.py of nvidia/Eagle2-9B and
Eagle2-1B. Not compared with released code: the prompt, which is Qwen2.5's, word 151667 for pictures as in InternVL 2.5, frames
and rates.
"""

from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.clips import Frames
from beholder.media.tiles import Tiles
from beholder.parts.connectors.projections import Folded, Mlp
from beholder.parts.connectors.several import Concat, Squares, Way
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_llama as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision import sizes_hierarchical as hierarchical
from beholder.parts.vision.rescaled import Rescaled
from beholder.prompts import formats_several as formats

EYES = vision.SIGLIP_SO400M_14.but(image_size=448, pool=None)
TILES = Tiles(tile=448, most=12)
MAPPED = Mlp(depth=2, norm=True)
ALL = (Trains("branches.*", lr=2e-5), Trains("languages.*", lr=2e-5))

EAGLE_2_9B = Card(
    name="eagle2-9b",
    system="eagle-2",
    paper="2501.14818",
    licence="CC-BY-NC-4.0",
    branches=(
        Branch(
            encoders=(EYES, Rescaled(hierarchical.CLIP_CONVNEXT_XXL, 512, corners=True)),
            geometry=TILES,
            connector=Concat(ways=(Way((0,), Squares()), Way((1,))), then=MAPPED),
            frames=Frames(count=16),
        ),
    ),
    fusion=(Splice(token_id=151667, at="<IMG_CONTEXT>"),),
    language=language.QWEN2_5_7B,
    heads=(NextToken(),),
    prompt=formats.EAGLE_2,
    stages=(
        Stage("stage 1", rules=(Trains("branches.image.connector.*", lr=2e-4),), batch=1024),
        Stage("stage 1.5", rules=ALL, batch=1024),
        Stage("stage 2", rules=ALL, batch=256),
    ),
    weights=(Source("hub", "nvidia/Eagle2-9B"),),
)
EAGLE_2_2B = EAGLE_2_9B.but(
    name="eagle2-2b",
    branches=(
        Branch(encoders=(EYES,), geometry=TILES, connector=Folded(then=MAPPED), frames=Frames(count=16)),
    ),
    language=language.QWEN2_5_1_5B,
    weights=(Source("hub", "nvidia/Eagle2-2B"),),
)
EAGLE_2_1B = EAGLE_2_2B.but(
    name="eagle2-1b", language=language.QWEN2_5_0_5B, weights=(Source("hub", "nvidia/Eagle2-1B"),)
)
