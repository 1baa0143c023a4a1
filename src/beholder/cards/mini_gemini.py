"""Mini-Gemini (2403.18814): tokens of CLIP read a ConvNeXt's details of their place.

Numbers: mgm/model/{mgm_arch,multimodal_encoder/openclip_encoder}.py of dvlab-research/MGM and config.json of a model made of
MGM-7B; rates and prompts: scripts/*/train and mgm/conversation.py there. SDXL, which is no part of
the card, draws pictures of words that it writes where a question ends with <GEN> (mgm/serve/{cli,model_worker}.py).
"""

from beholder.cards.llava import STAGES
from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.connectors.perspectives import PatchMining
from beholder.parts.connectors.projections import Mlp
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.language import sizes_decoders, sizes_experts
from beholder.parts.vision import sizes as vision
from beholder.parts.vision import sizes_hierarchical as hierarchical
from beholder.parts.vision.pieces import JoinedStages, Pieces
from beholder.parts.vision.rescaled import Rescaled
from beholder.parts.vision.vit import Take
from beholder.prompts import formats, formats_llava, formats_several
from beholder.prompts.drawing import Drawing
from beholder.prompts.tasks import Task

EYES = vision.CLIP_L_14_336.but(pool=None, take=Take(layers=(-2,), norm=False))
DETAILS = hierarchical.CLIP_CONVNEXT_L.but(image_size=768, last_eps=None)
SQUARE = Fixed(size=(768, 768), fit="pad", mean=CLIP_MEAN, std=CLIP_STD, background=(122, 116, 104))
PLAIN = Branch(
    encoders=(Rescaled(EYES, 336), JoinedStages(DETAILS)),
    geometry=SQUARE,
    connector=PatchMining(then=Mlp(depth=2)),
)
HD = Branch(
    encoders=(
        Rescaled(Pieces(EYES, mode="bilinear"), 672),
        JoinedStages(DETAILS.but(image_size=1536)),
    ),
    geometry=SQUARE.but(size=(1536, 1536)),
    connector=PatchMining(then=Mlp(depth=2), count=2),
)

SDXL = Drawing(
    ("<h>", "</h>"),
    generator="stabilityai/stable-diffusion-xl-base-1.0",
    without="out of frame, lowres, text, error, cropped, worst quality, low quality, jpeg artifacts, ugly, duplicate, morbid, "
    "mutilated, out of frame, extra fingers, mutated hands, poorly drawn hands, poorly drawn face, mutation, deformed, blurry, "
    "dehydrated, bad anatomy, bad proportions, extra limbs, cloned face, disfigured, gross proportions, malformed limbs, "
    "missing arms, missing legs, extra arms, extra legs, fused fingers, too many fingers, long neck, username, watermark, "
    "signature",
)

MINI_GEMINI_7B = Card(
    name="mini-gemini-7b",
    system="mini-gemini",
    paper="2403.18814",
    licence="Llama 2 Community License",
    branches=(PLAIN,),
    fusion=(Splice(token_id=-200),),  # IMAGE_TOKEN_INDEX of mgm/constants.py
    language=language.LLAMA_2_7B,
    heads=(NextToken(),),
    prompt=formats.VICUNA_V1,
    tasks=(Task("draw", "{text} <GEN>"),),
    drawing=SDXL,
    stages=STAGES,
    weights=(Source("hub", "YanweiLi/MGM-7B"),),
)
# LR_MULTI of scripts/mixtral and scripts/yi: what is new trains twice as fast
SLOWER = (
    MINI_GEMINI_7B.stages[0],
    Stage(
        "instruct",
        rules=(Trains("branches.image.connector.*", lr=2e-5), Trains("languages.main.*", lr=1e-5)),
        batch=128,
    ),
)
MINI_GEMINI_7B_HD = MINI_GEMINI_7B.but(
    name="mini-gemini-7b-hd", branches=(HD,), weights=(Source("hub", "YanweiLi/MGM-7B-HD"),)
)
MINI_GEMINI_13B = MINI_GEMINI_7B.but(
    name="mini-gemini-13b", language=language.LLAMA_2_13B, weights=(Source("hub", "YanweiLi/MGM-13B"),)
)
MINI_GEMINI_13B_HD = MINI_GEMINI_13B.but(
    name="mini-gemini-13b-hd", branches=(HD,), weights=(Source("hub", "YanweiLi/MGM-13B-HD"),)
)
MINI_GEMINI_2B = MINI_GEMINI_7B.but(
    name="mini-gemini-2b",
    licence="Gemma Terms of Use",
    language=sizes_decoders.GEMMA_2B,
    prompt=formats_several.MINI_GEMINI_GEMMA,
    weights=(Source("hub", "YanweiLi/MGM-2B"),),
)
MINI_GEMINI_8B = MINI_GEMINI_7B.but(
    name="mini-gemini-8b",
    licence="Llama 3 Community License",
    language=language.LLAMA_3_8B,
    prompt=formats_llava.DENSE_LLAMA_3,
    weights=(Source("hub", "YanweiLi/MGM-8B"),),
)
MINI_GEMINI_8B_HD = MINI_GEMINI_8B.but(
    name="mini-gemini-8b-hd", branches=(HD,), weights=(Source("hub", "YanweiLi/MGM-8B-HD"),)
)
MINI_GEMINI_8X7B = MINI_GEMINI_7B.but(
    name="mini-gemini-8x7b",
    licence="Apache-2.0",
    language=sizes_experts.MIXTRAL_8X7B,
    prompt=formats.LLAVA_NEXT_MISTRAL,
    stages=SLOWER,
    weights=(Source("hub", "YanweiLi/MGM-8x7B"),),
)
MINI_GEMINI_8X7B_HD = MINI_GEMINI_8X7B.but(
    name="mini-gemini-8x7b-hd", branches=(HD,), weights=(Source("hub", "YanweiLi/MGM-8x7B-HD"),)
)
MINI_GEMINI_34B = MINI_GEMINI_7B.but(
    name="mini-gemini-34b",
    licence="Apache-2.0",
    language=language.YI_34B,
    prompt=formats_llava.LLAVA_CHATML,
    stages=SLOWER,
    weights=(Source("hub", "YanweiLi/MGM-34B"),),
)
MINI_GEMINI_34B_HD = MINI_GEMINI_34B.but(
    name="mini-gemini-34b-hd", branches=(HD,), weights=(Source("hub", "YanweiLi/MGM-34B-HD"),)
)
