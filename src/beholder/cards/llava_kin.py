"""LLaVA and those made by its recipe: patch features of CLIP or SigLIP through a matrix or a small MLP into a decoder.

Cards are of the authors' own releases, whose vocabularies are those of their language models, and -200 stands for a picture
in their code. Encoders, selected layers, vocabularies and prompts: config.json of the releases, or the repositories' scripts,
named beside each card; stages: the same scripts, else the papers.
"""

from beholder.cards import llava
from beholder.cards.schema import Branch, Source, Stage, Trains
from beholder.media.clips import Frames
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.connectors.pooling import GridPool, Refined
from beholder.parts.connectors.projections import Folded, Linear, Mlp
from beholder.parts.fusion.splice import Splice
from beholder.parts.language import sizes as language
from beholder.parts.language import sizes_decoders as decoders
from beholder.parts.language import sizes_llama as llama
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.multi_scale import MultiScale
from beholder.parts.vision.positions import BICUBIC
from beholder.parts.vision.vit import Take
from beholder.prompts import formats, formats_llava

BEFORE_LAST = Take(layers=(-2,), norm=False)
CLIP_336 = vision.CLIP_L_14_336.but(pool=None, take=BEFORE_LAST)
SIGLIP_384 = vision.SIGLIP_SO400M_14.but(image_size=384, pool=None, take=BEFORE_LAST)
CLIP_PADDED = Fixed(size=(336, 336), fit="pad", mean=CLIP_MEAN, std=CLIP_STD, background=(122, 116, 104))
SQUARE_384 = Fixed(size=(384, 384))
PADDED_384 = Fixed(size=(384, 384), fit="pad", background=(127, 127, 127))
PLACEHOLDER = (Splice(token_id=-200),)  # IMAGE_TOKEN_INDEX of llava/constants.py

CONNECTOR, LANGUAGE, VISION = (
    "branches.image.connector.*",
    "languages.main.*",
    "branches.image.vision.*",
)
# LLaVA-1.5's stages: the connector alone, then the language part too
ALIGN, INSTRUCT = llava.LLAVA_15_7B.stages


# 2304.08485, section 5; liuhaotian/llava-pretrain-vicuna-13b-v1.3 config.json
LLAVA_13B = llava.LLAVA_15_13B.but(
    name="llava-13b",
    system="llava",
    paper="2304.08485",
    licence="LLaMA licence",
    vision=vision.CLIP_L_14.but(pool=None, take=BEFORE_LAST),
    connector=Linear(),
    images=Fixed(size=(224, 224), fit="crop", mean=CLIP_MEAN, std=CLIP_STD),
    fusion=PLACEHOLDER,
    language=llama.VICUNA_13B_V1_3,
    prompt=formats_llava.LLAVA_V0,
    tasks=(),
    stages=(
        Stage("align", rules=(Trains(CONNECTOR, lr=2e-3),), batch=128),
        INSTRUCT.but(batch=32),
    ),
    weights=(Source("hub", "liuhaotian/LLaVA-13b-delta-v0", "differences from LLaMA's weights"),),
)
LLAVA_7B = LLAVA_13B.but(
    name="llava-7b",
    language=llama.VICUNA_7B_V1_3,
    weights=(Source("hub", "liuhaotian/LLaVA-7b-delta-v0", "differences from LLaMA's weights"),),
)

# 2306.00890, section 4: two stages of LLaVA's recipe, then one for each set of questions
LLAVA_MED = LLAVA_7B.but(
    name="llava-med-7b",
    system="llava-med",
    paper="2306.00890",
    stages=(
        *LLAVA_13B.stages[:1],
        INSTRUCT,
        INSTRUCT.but(name="task"),
    ),
    weights=(Source("hub", "microsoft/llava-med-7b-delta", "differences from LLaMA's weights"),),
)
LLAVA_MED_15 = llava.LLAVA_15_7B.but(
    name="llava-med-v1.5-mistral-7b",
    system="llava-med",
    paper="2306.00890",
    licence="Apache-2.0",
    fusion=PLACEHOLDER,
    language=language.MISTRAL_7B_V02,
    prompt=formats.LLAVA_NEXT_MISTRAL,
    tasks=(),
    weights=(Source("hub", "microsoft/llava-med-v1.5-mistral-7b"),),
)

# zhuyiche/llava-phi: llava_phi/conversation.py and scripts
LLAVA_PHI = llava.LLAVA_15_7B.but(
    name="llava-phi",
    system="llava-phi",
    paper="2401.02330",
    licence="MIT",
    fusion=PLACEHOLDER,
    language=decoders.PHI_2,
    prompt=formats_llava.VICUNA_PHI,
    tasks=(),
    weights=(),
)
ALLAVA_LONGER = LLAVA_PHI.but(
    name="allava-3b-longer",
    system="allava-longer",
    paper="2402.11684",
    licence="Apache-2.0",
    weights=(Source("hub", "FreedomIntelligence/ALLaVA-3B-Longer"),),
)
# InternLM/xtuner configs/llava/phi3_mini_4k_instruct_clip_vit_large_p14_336: all parts train
LLAVA_PHI_3_MINI = LLAVA_PHI.but(
    name="llava-phi-3-mini",
    system="llava-phi-3-mini",
    paper="",
    licence="MIT",
    language=decoders.PHI_3_MINI_4K,
    prompt=formats_llava.LLAVA_PHI_3,
    stages=(ALIGN, INSTRUCT.but(rules=(*INSTRUCT.rules, Trains(VISION, lr=2e-5)))),
    weights=(Source("hub", "xtuner/llava-phi-3-mini"),),
)

# Lin-Chen/ShareGPT4V-7B and -13B config.json; 2311.12793, section 4: pre-training reaches down to the encoder's layer 12
SHAREGPT4V_7B = llava.LLAVA_15_7B.but(
    name="sharegpt4v-7b",
    system="sharegpt4v",
    paper="2311.12793",
    licence="Apache-2.0",
    fusion=PLACEHOLDER,
    language=language.LLAMA_2_7B,
    prompt=formats.VICUNA_V1,
    tasks=(),
    stages=(
        Stage(
            "pretrain",
            rules=(
                Trains(VISION, lr=2e-5, above=12),
                Trains(CONNECTOR, lr=2e-5),
                Trains(LANGUAGE, lr=2e-5),
            ),
            batch=256,
        ),
        INSTRUCT,
    ),
    weights=(Source("hub", "Lin-Chen/ShareGPT4V-7B"),),
)
SHAREGPT4V_13B = SHAREGPT4V_7B.but(
    name="sharegpt4v-13b",
    language=language.LLAMA_2_13B,
    weights=(Source("hub", "Lin-Chen/ShareGPT4V-13B"),),
)
FIRELLAVA = llava.LLAVA_15_13B.but(
    name="firellava-13b",
    system="firellava",
    paper="",
    weights=(Source("hub", "fireworks-ai/FireLLaVA-13b"),),
)
# Model card of NousResearch/Nous-Hermes-2-Vision-Alpha; teknium/OpenHermes-2.5-Mistral-7B config.json
NOUS_HERMES_2_VISION = llava.LLAVA_15_7B.but(
    name="nous-hermes-2-vision",
    system="nous-hermes-2-vision",
    paper="",
    licence="Apache-2.0",
    vision=SIGLIP_384,
    images=PADDED_384,
    fusion=PLACEHOLDER,
    language=llama.OPENHERMES_2_5_MISTRAL_7B,
    prompt=formats.VICUNA_V1,
    tasks=formats_llava.FUNCTION_CALLS,
    weights=(Source("hub", "NousResearch/Nous-Hermes-2-Vision-Alpha"),),
)

# DLCV-BUAA/TinyLLaVABench scripts/tiny_llava; 2402.14289, section 4: the share recipe unfreezes the encoder from layer 12 on
TINYLLAVA_3_1B = LLAVA_PHI.but(
    name="tinyllava-3.1b",
    system="tinyllava",
    paper="2402.14289",
    licence="Apache-2.0",
    vision=SIGLIP_384,
    images=PADDED_384,
    stages=(ALIGN, INSTRUCT.but(rules=(*INSTRUCT.rules, Trains(VISION, lr=2e-5, above=12)))),
    weights=(Source("hub", "bczhou/TinyLLaVA-3.1B"),),
)
TINYLLAVA_2B = TINYLLAVA_3_1B.but(
    name="tinyllava-2.0b",
    language=decoders.STABLELM_2_1_6B,
    weights=(Source("hub", "bczhou/TinyLLaVA-2.0B"),),
)
TINYLLAVA_1_5B = TINYLLAVA_3_1B.but(
    name="tinyllava-1.5b",
    language=llama.TINYLLAMA_1_1B,
    prompt=formats.VICUNA_V1,
    weights=(Source("hub", "bczhou/TinyLLaVA-1.5B"),),
)
TINYLLAVA_CLIP = TINYLLAVA_3_1B.but(
    name="tinyllava-clip-phi-2", vision=CLIP_336, images=CLIP_PADDED, weights=()
)

# BAAI/Bunny-* config.json; BAAI-DCAI/Bunny script/train/tutorials and bunny/model/multimodal_encoder
BUNNY_3B = LLAVA_PHI.but(
    name="bunny-v1.0-3b",
    system="bunny",
    paper="2402.11530",
    licence="Apache-2.0",
    vision=SIGLIP_384,
    images=PADDED_384,
    language=decoders.PHI_2.but(vocab_size=50295),
    stages=(
        Stage("align", rules=(Trains(CONNECTOR, lr=5e-4),), batch=256),
        Stage("instruct", rules=(Trains(CONNECTOR, lr=2e-5), Trains(LANGUAGE, lr=2e-4, rank=128)), batch=128),
    ),
    weights=(Source("hub", "BAAI/Bunny-v1_0-3B"),),
)
BUNNY_2B_ZH = BUNNY_3B.but(
    name="bunny-v1.0-2b-zh",
    language=llama.QWEN1_5_1_8B,
    weights=(Source("hub", "BAAI/Bunny-v1_0-2B-zh"),),
)
BUNNY_3B_ZH = BUNNY_3B.but(
    name="bunny-v1.0-3b-zh",
    language=decoders.MINICPM_2B.but(context=2048),
    prompt=formats.VICUNA_V1,
    weights=(Source("hub", "BAAI/Bunny-v1_0-3B-zh"),),
)
# the larger ones learn a third time, with their encoder
_BUNNY_SEES = BUNNY_3B.stages[1].but(
    name="instruct again", rules=(Trains(VISION, lr=2e-4), *BUNNY_3B.stages[1].rules)
)
_BUNNY_LLAMA_RULES = (Trains(CONNECTOR, lr=1e-5), Trains(LANGUAGE, lr=1e-4, rank=128))
_BUNNY_LLAMA_SEES = _BUNNY_SEES.but(rules=(Trains(VISION, lr=1e-4), *_BUNNY_LLAMA_RULES))
BUNNY_4B = BUNNY_3B.but(
    name="bunny-v1.0-4b",
    language=decoders.PHI_3_MINI_4K,
    stages=(ALIGN, BUNNY_3B.stages[1], _BUNNY_SEES),
    weights=(Source("hub", "BAAI/Bunny-v1_0-4B"),),
)
BUNNY_8B = BUNNY_3B.but(
    name="bunny-llama-3-8b",
    language=language.LLAMA_3_8B.but(vocab_size=128257),
    prompt=formats_llava.VICUNA_LLAMA_3,
    stages=(ALIGN, BUNNY_3B.stages[1], _BUNNY_LLAMA_SEES),
    weights=(Source("hub", "BAAI/Bunny-Llama-3-8B-V"),),
)
BUNNY_4B_S2 = BUNNY_4B.but(
    name="bunny-v1.1-4b",
    vision=MultiScale(SIGLIP_384),
    images=PADDED_384.but(size=(1152, 1152)),
    weights=(Source("hub", "BAAI/Bunny-v1_1-4B"),),
)
BUNNY_8B_S2 = BUNNY_8B.but(
    name="bunny-v1.1-llama-3-8b",
    vision=MultiScale(SIGLIP_384),
    images=PADDED_384.but(size=(1152, 1152)),
    stages=(
        ALIGN,
        Stage("instruct", rules=(_BUNNY_LLAMA_RULES[0], _BUNNY_LLAMA_RULES[1].but(rank=256)), batch=128),
        _BUNNY_LLAMA_SEES.but(
            rules=(*_BUNNY_LLAMA_SEES.rules[:2], _BUNNY_LLAMA_RULES[1].but(rank=256)),
        ),
    ),
    weights=(Source("hub", "BAAI/Bunny-v1_1-Llama-3-8B-V"),),
)
BUNNY_EVA = BUNNY_3B.but(
    name="bunny-phi-2-eva",
    vision=vision.EVA02_CLIP_L_14_336.but(pool=None, take=Take(norm=False)),
    images=CLIP_PADDED,
    language=decoders.PHI_2,
    stages=(BUNNY_3B.stages[0].but(rules=(Trains(CONNECTOR, lr=5e-5),)), BUNNY_3B.stages[1]),
    weights=(),
)

# MILVLG/imp scripts and imp_llava/conversation.py; MILVLG/Imp-v1.5-4B-Phi3 config.json
IMP_3B = BUNNY_3B.but(
    name="imp-v1-3b",
    system="imp",
    paper="2405.12107",
    images=SQUARE_384,
    language=decoders.PHI_2,
    prompt=formats_llava.IMP_PHI_2,
    stages=(
        ALIGN,
        Stage("instruct", rules=(Trains(CONNECTOR, lr=2e-5), Trains(LANGUAGE, lr=2e-4, rank=256)), batch=128),
    ),
    weights=(Source("hub", "MILVLG/imp-v1-3b"),),
)
IMP_2B = IMP_3B.but(
    name="imp-v1.5-2b",
    language=llama.QWEN1_5_1_8B,
    images=PADDED_384,
    prompt=formats_llava.IMP_QWEN,
    weights=(Source("hub", "MILVLG/Imp-v1.5-2B-Qwen1.5"),),
)
IMP_4B = IMP_3B.but(
    name="imp-v1.5-4b",
    language=decoders.PHI_3_MINI_4K,
    images=PADDED_384,
    prompt=formats_llava.IMP_PHI_3,
    weights=(Source("hub", "MILVLG/Imp-v1.5-4B-Phi3"),),
)

# nahidalam/maya scripts/maya
MAYA = llava.LLAVA_15_7B.but(
    name="maya-8b",
    system="maya",
    paper="2412.07112",
    licence="CC-BY-NC-4.0",
    vision=vision.SIGLIP_B_16.but(image_size=256, pool=None, take=BEFORE_LAST),
    images=PADDED_384.but(size=(256, 256)),
    fusion=PLACEHOLDER,
    language=decoders.AYA_23_8B,
    prompt=formats_llava.MAYA,
    tasks=(),
    weights=(Source("hub", "maya-multimodal/maya"),),
)

# 01-ai/Yi-VL-6B config.json; 01-ai/Yi VL; 2403.04652, section 6.2: the encoder trains from the first stage on
_YI_VL_STAGES = (
    Stage("224 pixels", rules=(Trains(VISION, lr=1e-4), Trains(CONNECTOR, lr=1e-4)), batch=4096),
    Stage("448 pixels", rules=(Trains(VISION, lr=2e-5), Trains(CONNECTOR, lr=2e-5)), batch=4096),
    Stage(
        "all",
        rules=(Trains(VISION, lr=2e-5), Trains(CONNECTOR, lr=2e-5), Trains(LANGUAGE, lr=2e-5)),
        batch=256,
    ),
)
YI_VL_6B = llava.LLAVA_15_7B.but(
    name="yi-vl-6b",
    system="yi-vl",
    paper="2403.04652",
    licence="Apache-2.0",
    vision=vision.OPEN_CLIP_H_14.but(image_size=448, positions=BICUBIC, pool=None, take=BEFORE_LAST),
    connector=Mlp(norms=True),
    images=CLIP_PADDED.at(448),
    fusion=PLACEHOLDER,
    language=language.YI_6B,
    prompt=formats_llava.YI_VL,
    tasks=(),
    stages=_YI_VL_STAGES,
    weights=(Source("hub", "01-ai/Yi-VL-6B"),),
)
YI_VL_34B = YI_VL_6B.but(
    name="yi-vl-34b", language=language.YI_34B, weights=(Source("hub", "01-ai/Yi-VL-34B"),)
)

# NVlabs/VILA scripts/v1_5/paper of tag v1.0: interleaved pages train the language part before it answers. The paper's projector
# (section 3) is one matrix; those scripts train LLaVA-1.5's MLP.
_VILA_STAGES = (
    ALIGN,
    Stage("interleaved", rules=(Trains(CONNECTOR, lr=5e-5), Trains(LANGUAGE, lr=5e-5)), batch=1024),
    INSTRUCT,
)
VILA_7B = llava.LLAVA_15_7B.but(
    name="vila-7b",
    system="vila",
    paper="2312.07533",
    licence="CC-BY-NC-SA-4.0",
    connector=Linear(),
    fusion=PLACEHOLDER,
    language=language.LLAMA_2_7B,
    prompt=formats.VICUNA_V1,
    tasks=(),
    stages=_VILA_STAGES,
    weights=(Source("hub", "Efficient-Large-Model/VILA-7b"),),
)
VILA_13B = VILA_7B.but(
    name="vila-13b",
    language=language.LLAMA_2_13B,
    weights=(Source("hub", "Efficient-Large-Model/VILA-13b"),),
)
# llava/model/multimodal_projector/base_projector.py, mlp_downsample; encoder and language part of the 1.5 releases' names
VILA_15_8B = VILA_7B.but(
    name="vila-1.5-8b",
    vision=SIGLIP_384,
    connector=Folded(Mlp(norm=True), pad=True, by_columns=True),
    images=SQUARE_384,
    language=language.LLAMA_3_8B,
    prompt=formats_llava.VILA_LLAMA_3,
    weights=(Source("hub", "Efficient-Large-Model/Llama-3-VILA1.5-8B"),),
)

# 2405.20985, section 4.1: LLaVA-1.5 with 12 x 12 averages in front of the MLP
DECO = llava.LLAVA_15_7B.but(
    name="deco-7b",
    system="deco",
    paper="2405.20985",
    connector=GridPool(then=Mlp(), sides=(12, 12)),
    fusion=PLACEHOLDER,
    language=language.LLAMA_2_7B,
    prompt=formats.VICUNA_V1,
    tasks=(),
    weights=(),
)

# vikhyat/moondream, January 2024: moondream/vision_encoder.py and text_model.py
MOONDREAM_1 = llava.LLAVA_15_7B.but(
    name="moondream1",
    system="moondream1",
    paper="",
    licence="CC-BY-SA-4.0",
    vision=vision.SIGLIP_SO400M_14.but(image_size=378, pool=None, **{"mlp.act": "gelu"}),  # timm's
    connector=Refined(first=Mlp(hidden=8192), then=Mlp(hidden=8192)),
    images=Fixed(size=(378, 378)),
    fusion=PLACEHOLDER,
    language=decoders.PHI_1_5,
    prompt=formats_llava.MOONDREAM_1,
    tasks=(),
    weights=(Source("hub", "vikhyatk/moondream1"),),
)

# TIGER-AI-Lab/Mantis mantis/models/mllava; 2405.01483, section 3.2: only the connector, then all but the encoder
MANTIS_SIGLIP = llava.LLAVA_15_7B.but(
    name="mantis-8b-siglip",
    system="mantis",
    paper="2405.01483",
    licence="Apache-2.0",
    branches=(Branch((SIGLIP_384,), SQUARE_384, Mlp(), frames=Frames(count=8)),),
    fusion=(Splice(token_id=128256),),
    language=language.LLAMA_3_8B.but(vocab_size=128320),
    prompt=formats_llava.MANTIS,
    tasks=(),
    stages=(
        ALIGN,
        Stage("instruct", rules=(Trains(CONNECTOR, lr=1e-5), Trains(LANGUAGE, lr=1e-5)), batch=128),
    ),
    weights=(Source("hub", "TIGER-Lab/Mantis-8B-siglip-llama3"),),
)
MANTIS_CLIP = MANTIS_SIGLIP.but(
    name="mantis-8b-clip",
    vision=CLIP_336,
    images=CLIP_PADDED.but(fit="crop", background=(0, 0, 0)),
    weights=(Source("hub", "TIGER-Lab/Mantis-8B-clip-llama3"),),
)
