"""BLIP-2 (2301.12597), InstructBLIP (2305.06500), whose queries read the question too, and BLIVA (2308.09936), which puts the
patches behind them: a Q-Former between EVA-CLIP and a frozen language model.

Numbers: class defaults of transformers' configs, config.json of copies of Salesforce/blip2-opt-2.7b and instructblip-vicuna-7b
(whose vocabulary has one word more than Vicuna's, for padding), salesforce/LAVIS lavis/configs/models/blip2, mlpc-ucsd/BLIVA
bliva/models; stages: section 3.4 of 2301.12597, section 2.6 of 2305.06500, train_configs of BLIVA on 8
devices.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.clips import Frames
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.connectors.adjacent import QueriesAndPatches
from beholder.parts.connectors.qformer import QFormer, QueryStack
from beholder.parts.fusion.splice import Splice
from beholder.parts.fusion.towers import Towers
from beholder.parts.heads.next_token import NextToken
from beholder.parts.heads.queried import QueryRetrieval
from beholder.parts.language import sizes_gpt, sizes_llama, sizes_text
from beholder.parts.language.words import Words
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.vit import Take
from beholder.prompts import formats_queries as formats
from beholder.prompts.chat import ChatFormat
from beholder.prompts.tasks import Task

# As transformers' files: keys have biases (of zeros), and the norm that was trained with the Q-Former is the encoder's.
EYES = vision.EVA_CLIP_G_14_BLIP2.but(
    post_norm=True, take=Take(front=True), **{"attention.k_bias": None, "norm.eps": 1e-6}
)
# blip2_t5.py sets `dense_act_fn`; the files of FLAN-T5 alone have the tanh form.
EXACT = {"encoder.mlp.act": "gelu", "decoder.mlp.act": "gelu"}
ASKED = QFormer(QueryStack(words=True), vocab_size=30523)

BLIP_2_OPT_2_7B = Card(
    name="blip-2-opt-2.7b",
    system="blip-2",
    paper="2301.12597",
    licence="MIT",
    vision=EYES,
    connector=QFormer(),
    images=Fixed(size=(224, 224), mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Splice(token_id=50265),),
    language=sizes_gpt.OPT_2_7B.but(vocab_size=50304),
    heads=(NextToken(),),
    prompt=formats.BLIP_2_OPT,
    stages=(
        Stage(
            "generate",
            rules=(Trains("branches.image.connector.*", lr=1e-4, weight_decay=0.05),),
            steps=80000,
            batch=1920,
            warmup=2000,
        ),
    ),
    weights=(Source("hub", "Salesforce/blip2-opt-2.7b"),),
)
BLIP_2_OPT_6_7B = BLIP_2_OPT_2_7B.but(
    name="blip-2-opt-6.7b",
    language=sizes_gpt.OPT_6_7B.but(vocab_size=50304),
    weights=(Source("hub", "Salesforce/blip2-opt-6.7b"),),
)
BLIP_2_FLAN_T5_XL = BLIP_2_OPT_2_7B.but(
    name="blip-2-flan-t5-xl",
    fusion=(Splice(token_id=32100),),
    language=sizes_text.FLAN_T5_XL.but(**EXACT),
    prompt=formats.BLIP_2_T5,
    stages=(BLIP_2_OPT_2_7B.stages[0].but(batch=1520),),
    weights=(Source("hub", "Salesforce/blip2-flan-t5-xl"),),
)
BLIP_2_FLAN_T5_XXL = BLIP_2_FLAN_T5_XL.but(
    name="blip-2-flan-t5-xxl",
    language=sizes_text.FLAN_T5_XXL.but(**EXACT),
    weights=(Source("hub", "Salesforce/blip2-flan-t5-xxl"),),
)

# The first stage: pictures and texts are compared. LAVIS' clip_vit.py reads 23 layers of CLIP's 24.
BLIP_2_RETRIEVAL = Card(
    name="blip-2-itm-vit-g",
    system="blip-2",
    paper="2301.12597",
    licence="MIT",
    vision=EYES,
    images=Fixed(size=(224, 224), mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Towers(),),
    language=Words(),
    heads=(QueryRetrieval(),),
    prompt=ChatFormat("blip-2-itm", wrapped=True, system=None),
    weights=(Source("hub", "Salesforce/blip2-itm-vit-g"),),
)
BLIP_2_RETRIEVAL_L = BLIP_2_RETRIEVAL.but(
    name="blip-2-itm-vit-l",
    vision=vision.CLIP_L_14.but(num_layers=23, pool=None, take=Take(front=True)),
    heads=(QueryRetrieval(memory_dim=1024),),
    weights=(),
)
_REPRESENT = Stage(
    "represent",
    rules=(
        Trains("heads.0.*", lr=1e-4, weight_decay=0.05),
        Trains("languages.main.*", lr=1e-4, weight_decay=0.05),
    ),
    steps=250000,
    batch=1680,
    warmup=2000,
    objective="contrast, matching, captions",
)
# With all that the stage trains: [DEC] is the vocabulary's last word.
BLIP_2_PRETRAIN = BLIP_2_RETRIEVAL.but(
    name="blip-2-pretrain-vit-g",
    heads=(QueryRetrieval(temperature=0.07, caption_start=30522),),
    stages=(_REPRESENT,),
    weights=(),
)
BLIP_2_PRETRAIN_L = BLIP_2_RETRIEVAL_L.but(
    name="blip-2-pretrain-vit-l",
    heads=(QueryRetrieval(memory_dim=1024, temperature=0.07, caption_start=30522),),
    stages=(_REPRESENT.but(batch=2320),),
)

INSTRUCTBLIP_VICUNA_7B = BLIP_2_OPT_2_7B.but(
    name="instructblip-vicuna-7b",
    system="instructblip",
    paper="2305.06500",
    licence="Llama 1 License",
    branches=(BLIP_2_OPT_2_7B.branches[0].but(connector=ASKED, frames=Frames(4)),),
    fusion=(Splice(token_id=32001),),
    language=sizes_llama.VICUNA_7B_V1_3.but(vocab_size=32001),
    prompt=formats.INSTRUCTBLIP,
    tasks=(Task("read", "OCR tokens: {ocr}. Question: {text} Short answer:"),),
    stages=(
        Stage(
            "instruct",
            rules=(Trains("branches.image.connector.*", lr=1e-5, weight_decay=0.05),),
            steps=60000,
            batch=128,
            warmup=1000,
        ),
    ),
    weights=(Source("hub", "Salesforce/instructblip-vicuna-7b"),),
)
INSTRUCTBLIP_VICUNA_13B = INSTRUCTBLIP_VICUNA_7B.but(
    name="instructblip-vicuna-13b",
    language=sizes_llama.VICUNA_13B_V1_3.but(vocab_size=32001),
    stages=(INSTRUCTBLIP_VICUNA_7B.stages[0].but(batch=64),),
    weights=(Source("hub", "Salesforce/instructblip-vicuna-13b"),),
)
INSTRUCTBLIP_FLAN_T5_XL = INSTRUCTBLIP_VICUNA_7B.but(
    name="instructblip-flan-t5-xl",
    licence="MIT",
    fusion=(Splice(token_id=32100),),
    language=sizes_text.FLAN_T5_XL.but(**EXACT),
    prompt=formats.INSTRUCTBLIP_T5,
    stages=(INSTRUCTBLIP_VICUNA_7B.stages[0].but(batch=192),),
    weights=(Source("hub", "Salesforce/instructblip-flan-t5-xl"),),
)
INSTRUCTBLIP_FLAN_T5_XXL = INSTRUCTBLIP_FLAN_T5_XL.but(
    name="instructblip-flan-t5-xxl",
    language=sizes_text.FLAN_T5_XXL.but(**EXACT),
    stages=(INSTRUCTBLIP_VICUNA_7B.stages[0].but(batch=64),),
    weights=(Source("hub", "Salesforce/instructblip-flan-t5-xxl"),),
)

# bliva_vicuna7b.py: patches are those of the last but one layer, without the class token
BLIVA_VICUNA_7B = INSTRUCTBLIP_VICUNA_7B.but(
    name="bliva-vicuna-7b",
    system="bliva",
    paper="2308.09936",
    branches=(
        INSTRUCTBLIP_VICUNA_7B.branches[0].but(
            encoders=(EYES.but(take=Take(front=True, taps=(-2,))),), connector=QueriesAndPatches(ASKED)
        ),
    ),
    stages=(
        Stage("align", rules=(Trains("branches.image.connector.patches.*", lr=1e-5),), batch=64, warmup=1000),
        Stage(
            "instruct",
            rules=(Trains("branches.image.connector.*", lr=1e-5),),
            steps=200000,
            batch=24,
            warmup=1000,
        ),
    ),
    weights=(Source("hub", "mlpc-lab/BLIVA_Vicuna", note="in the authors' own layout"),),
)
BLIVA_FLAN_T5_XXL = BLIVA_VICUNA_7B.but(
    name="bliva-flan-t5-xxl",
    licence="Apache-2.0",
    fusion=(Splice(token_id=32100),),
    language=sizes_text.FLAN_T5_XXL.but(**EXACT),
    prompt=formats.INSTRUCTBLIP_T5,
    weights=(Source("hub", "mlpc-lab/BLIVA_FlanT5", note="in the authors' own layout"),),
)
