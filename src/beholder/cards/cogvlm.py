"""CogVLM (2311.03079) and CogVLM2 (2408.16500): a decoder whose layers have a second set of weights for pictures.

Numbers: config.json of THUDM/cogvlm-chat-hf and cogvlm2-llama3-chat-19B; the base and grounding models are taken to differ in
the size of pictures alone. Batches and rates of stages are not checked against the papers.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.connectors.glu import Glu
from beholder.parts.fusion.experts import VisualExpert
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.vit import Take
from beholder.prompts import formats

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
PARTS = (
    Trains("branches.image.connector.*", lr=1e-4),
    Trains("fusion.1.*", lr=1e-4),
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
        Stage("caption", rules=PARTS, batch=8192),
        Stage("ground", rules=PARTS, batch=1024),
        Stage("instruct", rules=(*PARTS, Trains("languages.main.*", lr=1e-5)), batch=1024),
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
    weights=(Source("hub", "THUDM/cogvlm2-llama3-chat-19B"),),
    **{"vision.image_size": 1344},
)
