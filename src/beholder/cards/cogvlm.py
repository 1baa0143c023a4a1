"""CogVLM (2311.03079) and CogVLM2 (2408.16500): a decoder whose layers have a second set of weights for pictures. GLM-4V and
CogVLM2-Video (2408.16500): the same encoder and connector, and a plain decoder.

Numbers: config.json of THUDM/cogvlm-chat-hf, cogvlm2-llama3-chat-19B, glm-4v-9b and cogvlm2-video-llama3-chat; the base and
grounding models are taken to differ in the size of pictures alone. Stages: 2311.03079, sections 2.2 and 2.3, tables 5 and 6;
2408.16500, sections 3.2 and 4.2, which tell no rates of CogVLM2's and GLM-4V's first stage: these are ours. CogVLM2-Video:
frames as video_demo/inference.py of THUDM/CogVLM2 takes them, but spread over recordings of more than 24 seconds, of which it
sees the first 24; its model's code was not read: that a frame's features share one position is taken from CogVLM2, that a
frame's second stands behind it from the paper.
"""

from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.clips import Frames
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.connectors.glu import Glu
from beholder.parts.fusion.experts import OnePosition, VisualExpert
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.language.sizes_decoders import GLM_4_9B
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.vit import Take
from beholder.prompts import formats
from beholder.prompts.formats_tiled import GLM_4V

# EVA2-CLIP-E without its last layer and its last norm; every projection has a bias
EYES = vision.EVA02_CLIP_E_14.but(
    image_size=490,
    num_layers=63,
    post_norm=False,
    pool=None,
    positions=GridTable("bicubic"),
    take=Take(norm=False),
    **{"attention.k_bias": None},
)
PARTS = (Trains("branches.image.connector.*", lr=1e-4), Trains("fusion.1.*", lr=1e-4))
GENTLY = (Trains("branches.image.connector.*", lr=1e-5), Trains("fusion.1.*", lr=1e-5))
SLOW_EYES = Trains("branches.image.vision.*", lr=1e-6)
ALL = (SLOW_EYES, Trains("*", lr=1e-5))
TUNED = (
    Stage("instruct", rules=ALL, steps=3000, batch=2340),
    Stage("style", rules=ALL, steps=750, batch=1150),
)

COGVLM_CHAT = Card(
    name="cogvlm-chat",
    system="cogvlm",
    paper="2311.03079",
    licence="CogVLM License",
    vision=EYES,
    connector=Glu(hidden=11008),
    images=Fixed(size=(490, 490), mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Splice(token_id=32000), VisualExpert(last_is_text=True, one_position=True)),
    language=language.LLAMA_2_7B.but(context=2048),
    heads=(NextToken(),),
    prompt=formats.COGVLM,
    stages=(
        Stage("caption", rules=PARTS, steps=120_000, batch=8192, warmup=12_000),
        Stage("ground", rules=GENTLY, steps=60_000, batch=1024, warmup=1_200),
        Stage("instruct", rules=(SLOW_EYES, *GENTLY), steps=6_000, batch=1024),
    ),
    weights=(Source("hub", "THUDM/cogvlm-chat-hf"),),
)
COGVLM_BASE_224 = COGVLM_CHAT.but(
    name="cogvlm-base-224",
    images=Fixed(size=(224, 224), mean=CLIP_MEAN, std=CLIP_STD),
    prompt=formats.COGVLM_BASE,
    weights=(Source("hub", "THUDM/cogvlm-base-224-hf"),),
    **{"vision.image_size": 224},
)
COGVLM_BASE_490 = COGVLM_CHAT.but(
    name="cogvlm-base-490", prompt=formats.COGVLM_BASE, weights=(Source("hub", "THUDM/cogvlm-base-490-hf"),)
)
COGVLM_GROUNDING = COGVLM_CHAT.but(
    name="cogvlm-grounding-generalist",
    weights=(Source("hub", "THUDM/cogvlm-grounding-generalist-hf"),),
)
COGVLM2_19B = COGVLM_CHAT.but(
    name="cogvlm2-llama3-chat-19b",
    system="cogvlm2",
    paper="2408.16500",
    licence="CogVLM2 License",
    connector=Glu(hidden=14336, stride=2),
    images=Fixed(size=(1344, 1344), mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Splice(token_id=128256), VisualExpert(last_is_text=True, one_position=True)),
    language=language.LLAMA_3_8B,
    stages=(Stage("pretrain", rules=(*PARTS, Trains("branches.image.vision.*", lr=1e-5))), *TUNED),
    weights=(Source("hub", "THUDM/cogvlm2-llama3-chat-19B"),),
    **{"vision.image_size": 1344},
)
GLM_4V_9B = Card(
    name="glm-4v-9b",
    system="glm-4v",
    paper="2408.16500",
    licence="GLM-4 License",
    vision=EYES.but(image_size=1120),
    connector=Glu(hidden=13696, stride=2, divisor=8.0),
    images=Fixed(size=(1120, 1120), mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Splice(token_id=151339, at="<|begin_of_image|>"), OnePosition()),
    language=GLM_4_9B,
    heads=(NextToken(),),
    prompt=GLM_4V,
    stages=(Stage("pretrain", rules=(Trains("*", lr=1e-5),)), *TUNED),
    weights=(Source("hub", "THUDM/glm-4v-9b"),),
)
COGVLM2_VIDEO = Card(
    name="cogvlm2-video-llama3-chat",
    system="cogvlm2-video",
    paper="2408.16500",
    licence="CogVLM2 License",
    branches=(
        Branch(
            encoders=(EYES.but(image_size=224),),
            connector=Glu(hidden=14336, stride=2),
            geometry=Fixed(size=(224, 224), mean=CLIP_MEAN, std=CLIP_STD),
            frames=Frames(count=24, rate=1.0, apart=False, end="{seconds:.0f}"),
        ),
    ),
    fusion=(Splice(token_id=128256), OnePosition()),
    language=language.LLAMA_3_8B.but(context=2048),
    heads=(NextToken(),),
    prompt=formats.COGVLM,
    stages=(
        Stage("instruct", rules=(Trains("*", lr=4e-6),)),
        Stage("ground in time", rules=(Trains("*", lr=1e-6),)),
    ),
    weights=(Source("hub", "THUDM/cogvlm2-video-llama3-chat"),),
)
