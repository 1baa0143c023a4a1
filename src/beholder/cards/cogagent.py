"""CogAgent (2312.08914): CogVLM with a small encoder at high resolution, which narrow cross-attention of every layer reads.

Numbers: config.json of THUDM/cogagent-chat-hf, and vision.py and cross_visual.py beside it, whose encoder leaves out its
last layer.
"""

from beholder.cards import cogvlm
from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.connectors.glu import Glu, Places
from beholder.parts.fusion.memory import Memory
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.vit import Take
from beholder.prompts import formats

CROSS = (Trains("branches.details.*", lr=2e-5), Trains("languages.main.blocks.*.cross*", lr=2e-5))

COGAGENT_CHAT = Card(
    name="cogagent-chat",
    system="cogagent",
    paper="2312.08914",
    licence="CogAgent License",
    branches=(
        Branch(
            name="image",
            encoders=(cogvlm.EYES.but(image_size=224),),
            connector=Glu(hidden=11008, positions=256),
            geometry=Fixed(size=(224, 224), mean=CLIP_MEAN, std=CLIP_STD),
        ),
        Branch(
            name="details",
            encoders=(
                vision.EVA02_CLIP_L_14.but(
                    image_size=1120,
                    positions=GridTable("bicubic"),
                    pool=None,
                    take=Take(layers=(-2,), norm=False),
                ),
            ),
            connector=Places(count=6400),
            geometry=Fixed(size=(1120, 1120), mean=CLIP_MEAN, std=CLIP_STD),
        ),
    ),
    fusion=(*cogvlm.COGVLM_CHAT.fusion, Memory(branch="details")),
    language=language.LLAMA_2_7B.but(
        context=2048, cross=CrossAttention(num_heads=32, head_dim=32, memory_dim=1024)
    ),
    heads=(NextToken(),),
    prompt=formats.COGAGENT,
    stages=(
        Stage("cross", rules=CROSS, batch=4608),
        Stage("expert", rules=(*CROSS, *cogvlm.PARTS), batch=4608),
        Stage("tasks", rules=(Trains("*", lr=2e-5),), batch=1024),
    ),
    weights=(Source("hub", "THUDM/cogagent-chat-hf"),),
)
COGAGENT_VQA = COGAGENT_CHAT.but(
    name="cogagent-vqa", prompt=formats.COGVLM, weights=(Source("hub", "THUDM/cogagent-vqa-hf"),)
)
