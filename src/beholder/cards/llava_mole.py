"""LLaVA-MoLE (2401.16160): three low-rank experts for each MLP of the language model, of which a token takes the best.

forwchen/LLaVA-MoLE moe.py and llava_mole_infer.py: 3 experts, rank 32, alpha 64; attention has plain adapters. openai_vit.py:
the last layer's patches. model.py: learned vectors around a picture; vicuna_conversation.py: spaces. The router is the paper's;
the released checkpoint (README.md: rank 16, alpha 32) mixes all experts. Rates of the first stage are LLaVA's.
"""

from beholder.cards.schema import Card, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.blocks.lora_experts import LoraExperts
from beholder.parts.connectors.adjacent import Marked
from beholder.parts.connectors.projections import Mlp
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.vit import Take
from beholder.prompts import formats
from beholder.prompts.chat import Turn

LLAVA_MOLE_7B = Card(
    name="llava-mole-7b",
    system="llava-mole",
    paper="2401.16160",
    licence="Llama 2 Community License",
    vision=vision.CLIP_L_14_336.but(pool=None, take=Take((-1,), norm=False)),
    connector=Marked(Mlp()),
    images=Fixed(size=(336, 336), fit="pad", mean=CLIP_MEAN, std=CLIP_STD, background=(122, 116, 104)),
    fusion=(Splice(token_id=32000),),
    language=language.LLAMA_2_7B.but(
        mlp=LoraExperts(language.LLAMA_2_7B.mlp, 3, rank=32, alpha=64.0, best=True, router_bias=True)
    ),
    heads=(NextToken(),),
    prompt=formats.VICUNA_V1.but(
        name="llava-mole", assistant=Turn("ASSISTANT: ", "{eos} "), generation="ASSISTANT: "
    ),
    stages=(
        Stage("align", rules=(Trains("branches.image.connector.*", lr=1e-3),), batch=256),
        Stage(
            "instruct",
            rules=(
                Trains("branches.image.connector.*", lr=2e-5),
                Trains("languages.main.*.mlp.base.*"),
                Trains("languages.main.*.mlp.*", lr=2e-4),
                Trains("languages.main.*.attn.*", lr=2e-4, rank=32),
            ),
            batch=128,
        ),
    ),
)
LLAVA_MOLE_R16_7B = LLAVA_MOLE_7B.but(
    name="llava-mole-r16-7b",
    language=language.LLAMA_2_7B.but(
        mlp=LoraExperts(language.LLAMA_2_7B.mlp, 3, rank=16, alpha=32.0, router_bias=True)
    ),
)
