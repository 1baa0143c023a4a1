"""MiniGPT-4 (2304.10592), MiniGPT-v2 (2310.09478), TinyGPT-V (2312.16862), InternLM-XComposer (2309.15112): BLIP-2's eyes, or
its encoder alone, in front of other language models.

Numbers: Vision-CAIR/MiniGPT-4 minigpt4/models, minigpt4/configs and train_configs; stages of MiniGPT-v2: appendix of its paper;
DLYuanGod/TinyGPT-V minigpt4/models, modeling_phi.py and train_configs; internlm/internlm-xcomposer-vl-7b
modeling_InternLM_XComposer.py (class defaults of its config), and 64 queries as in the paper. XComposer's stages are unchecked.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.adjacent import Adjacent, Marked, Matrices
from beholder.parts.connectors.qformer import QFormer, QueryStack
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.language import sizes_decoders, sizes_llama
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.positions import GridTable
from beholder.parts.vision.vit import Take
from beholder.prompts import formats_queries as formats
from beholder.prompts.answers import BoxTokens
from beholder.prompts.tasks import Task

EYES = vision.EVA_CLIP_G_14_BLIP2.but(post_norm=True, take=Take(front=True))
LINKS = BoxTokens(boxes=formats.HUNDREDTHS, ref=("<p>", "</p>"))
TASKS = (
    Task("vqa", "[vqa] {text}"),
    Task("caption", "[caption] please describe this image?"),
    Task("grounding", "[grounding] describe this image in detail", answer=LINKS),
    Task("refer", "[refer] {text}", answer=LINKS),
    Task("identify", "[identify] what is this {region}"),
    Task("detection", "[detection] {text}", answer=LINKS),
)

MINIGPT_4_VICUNA_7B = Card(
    name="minigpt-4-vicuna-7b",
    system="minigpt-4",
    paper="2304.10592",
    licence="BSD-3-Clause",
    vision=EYES,
    connector=QFormer(),
    images=Fixed(size=(224, 224), mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Splice(token_id=32001),),
    language=sizes_llama.VICUNA_7B_V0,
    heads=(NextToken(),),
    prompt=formats.MINIGPT_4,
    stages=(
        Stage(
            "align",
            rules=(Trains("branches.image.connector.*linear.*", lr=1e-4, weight_decay=0.05),),
            steps=20000,
            batch=256,
            warmup=5000,
        ),
        Stage(
            "polish",
            rules=(Trains("branches.image.connector.*linear.*", lr=3e-5, weight_decay=0.05),),
            steps=1000,
            batch=12,
            warmup=200,
        ),
    ),
    weights=(Source("hub", "Vision-CAIR/MiniGPT-4", note="the projection alone"),),
)
MINIGPT_4_VICUNA_13B = MINIGPT_4_VICUNA_7B.but(
    name="minigpt-4-vicuna-13b", language=sizes_llama.VICUNA_13B_V0
)
MINIGPT_4_LLAMA_2_7B = MINIGPT_4_VICUNA_7B.but(
    name="minigpt-4-llama-2-7b",
    vision=EYES.but(take=Take()),
    connector=Adjacent(4),  # `has_qformer: False` in configs/models/minigpt4_llama2.yaml
    fusion=(Splice(token_id=32000),),
    language=language.LLAMA_2_7B,
    prompt=formats.MINIGPT_4_LLAMA_2,
)

MINIGPT_V2_7B = MINIGPT_4_LLAMA_2_7B.but(
    name="minigpt-v2-7b",
    system="minigpt-v2",
    paper="2310.09478",
    vision=EYES.but(take=Take(), positions=GridTable("bicubic")),
    connector=Adjacent(4),
    images=Fixed(size=(448, 448), mean=CLIP_MEAN, std=CLIP_STD),
    prompt=formats.MINIGPT_V2,
    tasks=TASKS,
    stages=(
        Stage(
            "broad",
            rules=(
                Trains("branches.image.connector.*", lr=1e-4),
                Trains("languages.main.blocks.*.attn.[qv].*", lr=1e-4, rank=64),
            ),
            steps=400000,
            batch=96,
        ),
        Stage(
            "multi-task",
            rules=(
                Trains("branches.image.connector.*", lr=1e-5),
                Trains("languages.main.blocks.*.attn.[qv].*", lr=1e-5, rank=64),
            ),
            steps=50000,
            batch=64,
        ),
        Stage(
            "instruct",
            rules=(
                Trains("branches.image.connector.*", lr=1e-5),
                Trains("languages.main.blocks.*.attn.[qv].*", lr=1e-5, rank=64),
            ),
            steps=35000,
            batch=24,
        ),
    ),
    weights=(Source("hub", "Vision-CAIR/MiniGPT-v2", note="the projection and adapters alone"),),
)

# The last stage's size of pictures; modeling_phi.py norms queries and keys, and what attention gives.
TINYGPT_V = MINIGPT_4_VICUNA_7B.but(
    name="tinygpt-v",
    system="tinygpt-v",
    paper="2312.16862",
    vision=EYES.but(positions=GridTable("bicubic")),
    connector=QFormer(linear=Matrices(4096)),
    images=Fixed(size=(448, 448), mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Splice(token_id=51200),),
    language=sizes_decoders.PHI_2.but(
        **{"attention.qk_norm": Norm(), "arrangement.mixer_norm": Norm("rms", 1e-6)}
    ),
    prompt=formats.TINYGPT_V,
    tasks=TASKS,
    stages=(
        Stage(
            "warm up",
            rules=(
                Trains("branches.image.connector.linear.*", lr=1e-4, weight_decay=0.05),
                Trains("languages.main.*norm*", lr=1e-4),
            ),
            steps=5000,
            batch=64,
            warmup=1000,
        ),
        Stage(
            "pretrain",
            rules=(
                Trains("branches.image.connector.linear.*", lr=1e-4),
                Trains("languages.main.*norm*", lr=1e-4),
                Trains("languages.main.blocks.*", lr=1e-4, rank=64),
            ),
            steps=20000,
            batch=64,
            warmup=5000,
        ),
        Stage(
            "instruct",
            rules=(
                Trains("branches.image.connector.linear.*", lr=3e-5),
                Trains("languages.main.*norm*", lr=3e-5),
            ),
            steps=1000,
            batch=6,
            warmup=200,
        ),
        Stage(
            "multi-task",
            rules=(
                Trains("branches.image.connector.linear.*", lr=1e-5),
                Trains("languages.main.*norm*", lr=1e-5),
                Trains("languages.main.blocks.*", lr=1e-5, rank=64),
            ),
            steps=50000,
            batch=3,
            warmup=1000,
        ),
    ),
    weights=(Source("hub", "Tyrannosaurus/TinyGPT-V", note="the projection, norms and adapters alone"),),
)

INTERNLM_XCOMPOSER_7B = MINIGPT_4_VICUNA_7B.but(
    name="internlm-xcomposer-7b",
    system="internlm-xcomposer",
    paper="2309.15112",
    licence="Apache-2.0",
    connector=Marked(QFormer(QueryStack(queries=64))),
    fusion=(Splice(token_id=103168),),
    language=sizes_llama.INTERNLM_7B.but(context=2048, **{"norm.eps": 1e-5}),
    prompt=formats.INTERNLM_XCOMPOSER,
    stages=(
        Stage(
            "pretrain",
            rules=(Trains("branches.image.connector.*", lr=2e-4), Trains("languages.main.*", lr=2e-4)),
        ),
        Stage(
            "instruct",
            rules=(
                Trains("branches.image.connector.*", lr=5e-5),
                Trains("languages.main.blocks.*.attn.*", lr=5e-5, rank=256),
            ),
        ),
    ),
    weights=(Source("hub", "internlm/internlm-xcomposer-vl-7b", note="in the authors' own layout"),),
)
