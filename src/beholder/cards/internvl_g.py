"""InternVL (2312.14238): one encoder of 6B, compared with words (C), read by QLLaMA's queries (G), or by Vicuna (chat).

Numbers: configuration_internvl.py of OpenGVLab/InternVL internvl_g (96 queries, every second layer, 768 channels) and the
Chinese-Alpaca config.json there; the chat is LLaVA-1.5's with this encoder at 336 pixels and features of the fourth layer from
the end (internvl_chat_llava/scripts_internvl). C and G are one release, whose roles are cards of their own; words
are matched where they and the queries see each other both ways.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.geometry import IMAGENET_MEAN, IMAGENET_STD, Fixed
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.positions import Rotary
from beholder.parts.connectors.mean_query import MeanQuery, Queries
from beholder.parts.connectors.projections import Mlp
from beholder.parts.fusion.query_cross import QueryCross
from beholder.parts.fusion.splice import Splice
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.joint import Matching
from beholder.parts.heads.next_token import NextToken
from beholder.parts.heads.similarity import Similarity
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.sizes_llama import CHINESE_ALPACA_7B, VICUNA_13B_V1_5
from beholder.parts.language.text_encoder import TextEncoder
from beholder.parts.vision.sizes import INTERN_VIT_6B_224
from beholder.parts.vision.vit import Take
from beholder.prompts import formats
from beholder.prompts.formats_tiled import INTERNVL_C, INTERNVL_G

EYES = INTERN_VIT_6B_224.but(pool=None, take=Take(norm=False, front=True))
IMAGES = Fixed(size=(224, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD)
RELEASE = (Source("hub", "OpenGVLab/InternVL-14B-224px"),)

INTERNVL_C_14B = Card(
    name="internvl-c-14b",
    system="internvl",
    paper="2312.14238",
    licence="MIT",
    vision=EYES,
    connector=MeanQuery(num_heads=16),
    images=IMAGES,
    fusion=(Towers(),),
    language=TextEncoder(
        vocab_size=49954,
        dim=4096,
        num_layers=32,
        attention=Attention(num_heads=32, rotary=Rotary()),
        mlp=FeedForward(11008, act="silu", gated=True, bias=False),
        norm=CHINESE_ALPACA_7B.norm,
        embedding=TokenEmbedding(),
        context=80,
        end_id=2,
        projection=768,
    ),
    heads=(Similarity(),),
    prompt=INTERNVL_C,
    stages=(Stage("contrast", rules=(Trains("*", 1e-3),), objective="contrast"),),
    weights=RELEASE,
)
INTERNVL_G_14B = Card(
    name="internvl-g-14b",
    system="internvl",
    paper="2312.14238",
    licence="MIT",
    vision=EYES,
    connector=Queries(count=96),
    images=IMAGES,
    fusion=(Splice(token_id=49954, sees="picture"), QueryCross()),
    language=CHINESE_ALPACA_7B,
    heads=(NextToken(),),
    prompt=INTERNVL_G,
    stages=(Stage("generate", rules=(Trains("branches.image.connector.*", 5e-5), Trains("fusion.*", 5e-5))),),
    weights=RELEASE,
)
INTERNVL_G_MATCHING = INTERNVL_G_14B.but(
    name="internvl-g-14b-matching",
    fusion=(Splice(token_id=49954, sees="prompt"), QueryCross()),
    heads=(NextToken(), Matching("last")),
)
INTERNVL_CHAT_19B = Card(
    name="internvl-chat-19b",
    system="internvl",
    paper="2312.14238",
    licence="MIT",
    vision=INTERN_VIT_6B_224.but(image_size=336, pool=None, take=Take(layers=(-4,), norm=False)),
    connector=Mlp(),
    images=Fixed(
        size=(336, 336), fit="pad", mean=IMAGENET_MEAN, std=IMAGENET_STD, background=(123, 116, 103)
    ),
    fusion=(Splice(token_id=32000),),
    language=VICUNA_13B_V1_5,
    heads=(NextToken(),),
    prompt=formats.VICUNA_V1,
    stages=(
        Stage("align", rules=(Trains("branches.image.connector.*", 1e-3),), batch=256),
        Stage(
            "instruct",
            rules=(Trains("branches.image.connector.*", 2e-5), Trains("languages.main.*", 2e-5)),
            batch=128,
        ),
    ),
    weights=(Source("hub", "OpenGVLab/InternVL-Chat-ViT-6B-Vicuna-13B"),),
)
