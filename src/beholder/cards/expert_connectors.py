"""Parrot (2406.02539) and CuMo (2405.05949): experts in the connector.

AIDC-AI/Parrot parrot/model/moe_model/moe.py, scripts/train/finetune.sh (6 experts of 4096, class token and patches of the last
layer but one) and parrot/train/arguments.py (moe_weight 0.1). SHI-Labs/CuMo scripts/cumo/mistral_7b/sft_mistral_7b.sh (4
experts, 2 of them, scales 1 and 3 of a picture of 336 pixels), cumo/model/multimodal_encoder/clip_smoe.py, the scripts'
rates on the paper's 32 devices; Llama 2's turns with
LLaVA's words, as LLaVA's own code writes for Mistral.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.blocks.moe import Experts, Routing
from beholder.parts.connectors.experts import LanguageExperts, MlpExperts
from beholder.parts.connectors.projections import Mlp
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.language import sizes_experts as experts
from beholder.parts.language import sizes_llama as llama
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.multi_scale import MultiScale
from beholder.parts.vision.vit import Take
from beholder.prompts import formats

CONNECTOR = Trains("branches.image.connector.*", lr=1e-3)
ALIGN = Stage("align", rules=(CONNECTOR,), batch=256)
INSTRUCT = Stage("instruct", rules=(CONNECTOR.but(lr=2e-5), Trains("languages.main.*", lr=2e-5)), batch=128)
PARROT_7B = Card(
    name="parrot-7b",
    system="parrot",
    paper="2406.02539",
    licence="Apache-2.0",
    vision=vision.CLIP_L_14_336.but(pool=None, take=Take((-2,), norm=False, front=True)),
    connector=LanguageExperts(Mlp(), token_id=151936),
    images=Fixed(size=(336, 336), fit="pad", mean=CLIP_MEAN, std=CLIP_STD, background=(122, 116, 104)),
    fusion=(Splice(token_id=151936),),
    language=llama.QWEN1_5_7B,
    heads=(NextToken(),),
    prompt=formats.QWEN_2.but(name="parrot", image_place="first", image_suffix="\n"),
    stages=(ALIGN, INSTRUCT),
    weights=(Source("hub", "AIDC-AI/Parrot-7B"),),
)
PARROT_14B = PARROT_7B.but(
    name="parrot-14b",
    connector=LanguageExperts(Mlp(), token_id=152064),
    fusion=(Splice(token_id=152064),),
    language=llama.QWEN1_5_14B,
    weights=(Source("hub", "AIDC-AI/Parrot-14B"),),
)
TWO_OF_FOUR = Experts(4, 4096, Routing(2, normalised=True), "quick_gelu", gated=False, bias=True)
CUMO_7B = Card(
    name="cumo-mistral-7b",
    system="cumo",
    paper="2405.05949",
    licence="CC-BY-NC-4.0",
    vision=MultiScale(
        vision.CLIP_L_14_336.but(pool=None, post_norm=False, mlp=TWO_OF_FOUR, take=Take((-2,), norm=False)),
        scales=(1, 3),
        enlarged=True,
    ),
    connector=MlpExperts(4, 2),
    images=PARROT_7B.branch().geometry,
    fusion=(Splice(token_id=32000),),
    language=language.MISTRAL_7B_V02,
    heads=(NextToken(),),
    prompt=formats.LLAVA_LLAMA_2.but(name="cumo", default_system=formats.VICUNA_V1.default_system),
    stages=(
        ALIGN,
        Stage("dense", rules=(Trains("*", lr=2e-6),), batch=256),
        Stage("experts", rules=(Trains("*", lr=4e-6),), batch=256),
    ),
    weights=(Source("hub", "shi-labs/CuMo-mistral-7b"),),
)
CUMO_MIXTRAL = CUMO_7B.but(
    name="cumo-mixtral-8x7b",
    language=experts.MIXTRAL_8X7B,
    stages=(*CUMO_7B.stages[:2], CUMO_7B.stages[1].but(name="experts", batch=128)),
    weights=(Source("hub", "shi-labs/CuMo-mixtral-8x7b"),),
)
