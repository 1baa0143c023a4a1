"""LLaVA 1.5 (2310.03744), LLaVA 1.6 (LLaVA-NeXT) and BakLLaVA: patch features through a small MLP into a decoder.

Vocabularies are those of the llava-hf releases: padded by 64 rows, with the placeholder inside. 1.5: scripts/v1_5 of
haotian-liu/LLaVA; that 1.6 trains its encoder too, at 2e-6: LLaVA-VL/LLaVA-NeXT scripts/archived/finetune_mixtral_1.6_336px_
anyres.sh; that the other rates are those of 1.5 is from memory of its announcement.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, AnyRes, Fixed
from beholder.media.settings import CLIP_PINPOINTS
from beholder.parts.connectors.projections import Mlp
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.vit import Take
from beholder.prompts import formats, formats_llava

# 2310.03744, the appendix' table of hyper-parameters; many systems trained as LLaVA 1.5 was
STAGES = (
    Stage("align", rules=(Trains("branches.image.connector.*", lr=1e-3),), batch=256),
    Stage(
        "instruct",
        rules=(Trains("branches.image.connector.*", lr=2e-5), Trains("languages.main.*", lr=2e-5)),
        batch=128,
    ),
)
LLAVA_15_7B = Card(
    name="llava-1.5-7b",
    system="llava-1.5",
    paper="2310.03744",
    licence="Llama 2 Community License",
    vision=vision.CLIP_L_14_336.but(pool=None, take=Take(layers=(-2,), norm=False)),
    connector=Mlp(depth=2, act="gelu"),
    images=Fixed(size=(336, 336), fit="pad", mean=CLIP_MEAN, std=CLIP_STD, background=(122, 116, 104)),
    fusion=(Splice(token_id=32000),),
    language=language.LLAMA_2_7B.but(vocab_size=32064),
    heads=(NextToken(),),
    prompt=formats.LLAVA_HF.but(boxes=formats_llava.LLAVA_BOXES),
    tasks=formats_llava.RESPONSE_FORMATS,
    stages=STAGES,
    weights=(Source("hub", "llava-hf/llava-1.5-7b-hf"),),
)
LLAVA_15_13B = LLAVA_15_7B.but(
    name="llava-1.5-13b",
    language=language.LLAMA_2_13B.but(vocab_size=32064),
    weights=(Source("hub", "llava-hf/llava-1.5-13b-hf"),),
)
BAKLLAVA = LLAVA_15_7B.but(
    name="bakllava",
    system="bakllava",
    paper="",
    licence="Apache-2.0",
    language=language.MISTRAL_7B.but(vocab_size=32064),
    weights=(Source("hub", "llava-hf/bakLlava-v1-hf"),),
)
LLAVA_16_VICUNA_7B = LLAVA_15_7B.but(
    name="llava-1.6-vicuna-7b",
    system="llava-1.6",
    paper="",
    prompt=formats.LLAVA_HF,
    tasks=(),
    images=AnyRes(tile=336, pinpoints=CLIP_PINPOINTS, mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Splice(token_id=32000, newline=True),),
    stages=(
        LLAVA_15_7B.stages[0],
        LLAVA_15_7B.stages[1].but(
            rules=(Trains("branches.image.vision.*", lr=2e-6), *LLAVA_15_7B.stages[1].rules)
        ),
    ),
    weights=(Source("hub", "llava-hf/llava-v1.6-vicuna-7b-hf"),),
)
LLAVA_16_VICUNA_13B = LLAVA_16_VICUNA_7B.but(
    name="llava-1.6-vicuna-13b",
    language=language.LLAMA_2_13B.but(vocab_size=32064),
    weights=(Source("hub", "llava-hf/llava-v1.6-vicuna-13b-hf"),),
)
LLAVA_16_MISTRAL_7B = LLAVA_16_VICUNA_7B.but(
    name="llava-1.6-mistral-7b",
    licence="Apache-2.0",
    language=language.MISTRAL_7B_V02.but(vocab_size=32064),
    prompt=formats.LLAVA_NEXT_MISTRAL,
    weights=(Source("hub", "llava-hf/llava-v1.6-mistral-7b-hf"),),
)
LLAVA_16_34B = LLAVA_16_VICUNA_7B.but(
    name="llava-1.6-34b",
    licence="Apache-2.0",
    fusion=(Splice(token_id=64000, newline=True),),
    language=language.YI_34B.but(vocab_size=64064),
    prompt=formats_llava.LLAVA_CHATML,
    weights=(Source("hub", "llava-hf/llava-v1.6-34b-hf"),),
)
