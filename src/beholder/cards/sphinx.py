"""SPHINX (2311.07575) and SPHINX-X (2402.05935): features of several encoders, joined by channels and in sequence, of a picture
and of its quarters.

Numbers: accessory/model/LLM/{llama_ens,llama_ens5,llama_ens10,llama_ens5_light,mixtral_sparse_ens5}.py of
Alpha-VLLM/LLaMA2-Accessory and the papers. Learned vectors stand around each view. The code that opens released files makes
CLIP by open_clip's settings, whose activation is the exact GELU, unlike OpenAI's. What was released before SPHINX-X's paper
(SPHINX-Tiny-1k, SPHINX-MoE-1k) looks at all quarters; the paper's skip token is in no released code. Not compared with files:
how boxes are written, and SPHINX-X's prompts, which are SPHINX's here. Words behind vocabularies stand for pictures.
"""

from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, Fixed
from beholder.media.several import SubImages
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.projections import Linear
from beholder.parts.connectors.qformer import QFormer
from beholder.parts.connectors.several import Concat, MeanFirst, Way
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.language import sizes_experts, sizes_llama
from beholder.parts.vision import sizes as vision
from beholder.parts.vision import sizes_hierarchical as hierarchical
from beholder.parts.vision.rescaled import Rescaled
from beholder.parts.vision.vit import Take
from beholder.prompts import formats_several as formats
from beholder.prompts.tasks import Task

NORM = Norm("layer", 1e-5)
FRONT = Take(front=True)
QUARTERS = SubImages(tile=224, mean=CLIP_MEAN, std=CLIP_STD, background=(122, 116, 104))
DINO = Rescaled(
    vision.DINOV2_G_14.but(pool=None, take=FRONT),
    224,
    "bicubic",
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    seen_mean=CLIP_MEAN,
    seen_std=CLIP_STD,
)
CLIP = vision.OPEN_CLIP_L_14.but(pool=None, take=FRONT)
EVA = vision.EVA_CLIP_G_14_BLIP2.but(post_norm=True, take=FRONT, **{"attention.k_bias": None})
CONVNEXT = Rescaled(hierarchical.CLIP_CONVNEXT_XXL, 512, "bicubic")
FOUR = Branch(
    encoders=(
        CLIP,
        Rescaled(hierarchical.CLIP_CONVNEXT_XXL, 256, "nearest"),
        DINO,
        EVA,
    ),
    geometry=Fixed(size=(224, 224), fit="pad", mean=CLIP_MEAN, std=CLIP_STD, background=(122, 116, 104)),
    connector=Concat(
        ways=(
            Way((3,), QFormer(), norm=NORM),
            Way((0, 1, 2), Concat(ways=(Way(), Way((1,), MeanFirst()), Way((2,))), then=Linear()), norm=NORM),
        ),
        along="sequence",
        ends=True,
    ),
)
TWO = Branch(
    encoders=(CONVNEXT, DINO),
    geometry=QUARTERS.but(tile=512, skips=True),
    connector=Concat(
        ways=(Way((0, 1), Concat(ways=(Way((0,), MeanFirst()), Way((1,))), then=Linear()), norm=NORM),),
        along="sequence",
        ends=True,
    ),
)
# mixtral_sparse_ens5.py: quarters of 512 pixels, which all but ConvNeXt see as 224
WIDE = FOUR.but(
    encoders=(Rescaled(CLIP, 224, "bicubic"), CONVNEXT, DINO, Rescaled(EVA, 224, "bicubic")),
    geometry=QUARTERS.but(tile=512),
)
TRAINED = (Trains("branches.image.connector.*", lr=2e-5), Trains("languages.main.*", lr=2e-5))

SPHINX_13B = Card(
    name="sphinx-13b",
    system="sphinx",
    paper="2311.07575",
    licence="Llama 2 Community License",
    branches=(FOUR,),
    fusion=(Splice(token_id=32000),),
    language=language.LLAMA_2_13B,
    heads=(NextToken(),),
    prompt=formats.SPHINX,
    stages=(
        Stage(
            "pre-train",
            rules=(Trains("branches.image.connector.ways.*", lr=5e-5), Trains("languages.main.*", lr=5e-5)),
            batch=384,
        ),
        Stage("instruct", rules=TRAINED, batch=128),
    ),
    weights=(Source("hub", "Alpha-VLLM/LLaMA2-Accessory", "finetune/mm/SPHINX/SPHINX"),),
)
SPHINX_1K_13B = SPHINX_13B.but(
    name="sphinx-1k-13b",
    branches=(FOUR.but(geometry=QUARTERS),),
    weights=(
        Source("hub", "Alpha-VLLM/LLaMA2-Accessory", "finetune/mm/SPHINX/SPHINX-1k"),
        Source("hub", "Alpha-VLLM/LLaMA2-Accessory", "finetune/mm/SPHINX/SPHINX-v2-1k"),
    ),
)
SPHINX_2K_13B = SPHINX_13B.but(
    name="sphinx-2k-13b",
    branches=(FOUR.but(geometry=QUARTERS.but(count=3)),),
    weights=(),
)

SPHINX_PLUS_13B = Card(
    name="sphinx-plus-13b",
    system="sphinx-x",
    paper="2402.05935",
    licence="Llama 2 Community License",
    branches=(TWO,),
    fusion=(Splice(token_id=32000, newline=True),),
    language=language.LLAMA_2_13B,
    heads=(NextToken(),),
    prompt=formats.SPHINX,
    tasks=(
        Task(
            "marks",
            "I have labeled a bright numeric ID at the center for each visual object in the image. {text}",
        ),
    ),
    stages=(Stage("all-in-one", rules=TRAINED, batch=256),),
)
SPHINX_TINY = SPHINX_PLUS_13B.but(
    name="sphinx-tiny-1.1b",
    licence="Apache-2.0",
    language=sizes_llama.TINYLLAMA_1_1B,
)
SPHINX_TINY_1K = SPHINX_TINY.but(
    name="sphinx-tiny-1k-1.1b",
    branches=(TWO.but(geometry=QUARTERS.but(tile=512)),),
    fusion=(Splice(token_id=32000),),
    weights=(Source("hub", "Alpha-VLLM/LLaMA2-Accessory", "finetune/mm/SPHINX/SPHINX-Tiny-1k"),),
)
SPHINX_INTERN2 = SPHINX_PLUS_13B.but(
    name="sphinx-intern2-7b",
    licence="Apache-2.0",
    fusion=(Splice(token_id=92544, newline=True),),
    language=sizes_llama.INTERNLM2_7B,
)
SPHINX_MOE = SPHINX_PLUS_13B.but(
    name="sphinx-moe-8x7b",
    licence="Apache-2.0",
    language=sizes_experts.MIXTRAL_8X7B,
)
SPHINX_MOE_1K = SPHINX_1K_13B.but(
    name="sphinx-moe-1k-8x7b",
    branches=(WIDE,),
    system="sphinx-x",
    paper="2402.05935",
    licence="Apache-2.0",
    language=sizes_experts.MIXTRAL_8X7B,
    weights=(Source("hub", "Alpha-VLLM/LLaMA2-Accessory", "finetune/mm/SPHINX/SPHINX-MoE-1k"),),
)
