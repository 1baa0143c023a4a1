"""Fuyu and OtterHD (2311.04219): raw patches read by a decoder, a word for each end of a row, no encoder at all.

adept/fuyu-8b: configuration_fuyu.py and image_processing_fuyu.py of transformers.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.native import Native
from beholder.parts.connectors.projections import Linear
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_gpt as language
from beholder.parts.vision.raw_patches import RawPatches
from beholder.prompts import formats

PICTURES = Native(cell=30, size=(1080, 1920), filter="bilinear", background=(1, 1, 1), newline="|NEWLINE|")

FUYU_8B = Card(
    name="fuyu-8b",
    system="fuyu",
    licence="CC-BY-NC-4.0",
    vision=RawPatches(patch=30, image_size=300),
    connector=Linear(),
    images=PICTURES,
    fusion=(Splice(token_id=71011, at="|SPEAKER|"),),
    language=language.PERSIMMON_8B,
    heads=(NextToken(),),
    prompt=formats.FUYU,
    weights=(Source("hub", "adept/fuyu-8b"),),
)
OTTERHD_8B = FUYU_8B.but(
    name="otterhd-8b",
    system="otterhd",
    paper="2311.04219",
    licence="MIT",
    images=PICTURES.but(sides=(448, 1024)),
    prompt=formats.OTTERHD,
    stages=(Stage("instruct", rules=(Trains("*", lr=1e-5),), batch=64),),
    weights=(Source("hub", "Otter-AI/OtterHD-8B"),),
)
