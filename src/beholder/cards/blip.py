"""BLIP (2201.12086): one text transformer that encodes words, matches them with a picture, and writes captions of it.

Numbers of salesforce/BLIP configs/med_config.json and models/vit.py; vectors for comparison have 256 channels
(configs/pretrain.yaml). The releases of transformers hold one role each.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.connectors.vector import BesideTokens
from beholder.parts.fusion.memory import Memory
from beholder.parts.heads.joint import Matching
from beholder.parts.heads.next_token import NextToken
from beholder.parts.heads.similarity import Similarity
from beholder.parts.language import sizes_med as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.vit import Take
from beholder.prompts.chat import ChatFormat, Turn

# section 4.1; warm-up: 3000 steps
_PRETRAIN = Stage(
    "pretrain",
    rules=(Trains("*", lr=3e-4, weight_decay=0.05),),
    data="COCO, Visual Genome, CC3M, CC12M, SBU, LAION: 129M pairs, captions written and filtered anew",
    objective="contrast, momentum",
    batch=2880,
    warmup=3000,
)
BLIP_B = Card(
    name="blip-b",
    system="blip",
    paper="2201.12086",
    licence="BSD-3-Clause",
    vision=vision.VIT_B_16.but(take=Take(front=True)),
    connector=BesideTokens(),
    images=Fixed(size=(224, 224), mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Memory(),),
    language=language.BLIP_B,
    heads=(NextToken(), Similarity(pooled=True), Matching("fused")),
    prompt=ChatFormat("blip", start="[DEC]", system=None, user=Turn()),
    stages=(_PRETRAIN,),
)
BLIP_L = BLIP_B.but(
    name="blip-l",
    vision=vision.VIT_L_16.but(take=Take(front=True)),
    language=language.BLIP_L,
    stages=(_PRETRAIN.but(rules=(Trains("*", lr=2e-4, weight_decay=0.05),), batch=2400),),
)

BLIP_CAPTIONER_B = Card(
    name="blip-captioner-b",
    system="blip",
    paper="2201.12086",
    licence="BSD-3-Clause",
    vision=vision.VIT_B_16.but(image_size=384, pool=None, take=Take(front=True)),
    images=Fixed(size=(384, 384), mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(Memory(),),
    language=language.BLIP_WRITER,
    heads=(NextToken(),),
    prompt=ChatFormat("blip", start="[DEC]", system=None, user=Turn()),
    weights=(Source("hub", "Salesforce/blip-image-captioning-base"),),
)
BLIP_CAPTIONER_L = BLIP_CAPTIONER_B.but(
    name="blip-captioner-l",
    vision=vision.VIT_L_16.but(image_size=384, pool=None, take=Take(front=True)),
    language=language.BLIP_WRITER.but(**{"cross.memory_dim": 1024}),
    weights=(Source("hub", "Salesforce/blip-image-captioning-large"),),
)
BLIP_VQA_B = BLIP_CAPTIONER_B.but(
    name="blip-vqa-b",
    language=language.BLIP_ASKED,
    prompt=ChatFormat("blip-vqa", wrapped=True, system=None),
    weights=(Source("hub", "Salesforce/blip-vqa-base"),),
)
BLIP_RETRIEVAL_B = BLIP_B.but(
    name="blip-retrieval-b",
    vision=vision.VIT_B_16.but(image_size=384, take=Take(front=True)),
    images=Fixed(size=(384, 384), mean=CLIP_MEAN, std=CLIP_STD),
    language=language.BLIP_B.but(decoder=None, encode_id=None, decode_id=None),
    heads=(Similarity(scale=None, pooled=True), Matching("fused")),
    stages=(),
    weights=(Source("hub", "Salesforce/blip-itm-base-coco"),),
)
BLIP_RETRIEVAL_L = BLIP_RETRIEVAL_B.but(
    name="blip-retrieval-l",
    vision=vision.VIT_L_16.but(image_size=384, take=Take(front=True)),
    language=language.BLIP_L.but(decoder=None, encode_id=None, decode_id=None),
    weights=(Source("hub", "Salesforce/blip-itm-large-coco"),),
)
