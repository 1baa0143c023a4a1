"""OMG-LLaVA (2406.19389): OMG-Seg gives pixels that know their objects and the objects as tokens; [SEG] states go back as
queries.

Settings: lxtGH/OMG-Seg omg_llava/omg_llava/configs/finetune/omg_llava_7b_finetune_8gpus.py and model/omg_llava.py. Ids
behind the 92,544 of InternLM2's tokenizer: [SEG], <p>, </p>, <region>; <mark> is made behind the tables. The decoders of [SEG]
and of regions have weights of their own here; the released ones share OMG-Seg's where it is not tuned.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.connectors.object_queries import ObjectQueries
from beholder.parts.fusion.drop_still import DropStill
from beholder.parts.fusion.region_queries import RegionQuery
from beholder.parts.fusion.regions import RegionTokens
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.heads.query_masks import QueryMasks
from beholder.parts.language import sizes_llama as language
from beholder.parts.vision import sizes_hierarchical as vision
from beholder.parts.vision.omg_seg import OmgSeg
from beholder.prompts.formats_regions import OMG_LLAVA

_PROJECTORS = (Trains("branches.image.connector.*", lr=1e-3), Trains("heads.1.project.*", lr=1e-3))

OMG_LLAVA_7B = Card(
    name="omg-llava-7b",
    system="omg-llava",
    paper="2406.19389",
    licence="Apache-2.0",
    vision=OmgSeg(vision.CLIP_CONVNEXT_L_320.but(image_size=1024)),
    connector=ObjectQueries(),
    images=Fixed(size=(1024, 1024), fit="pad", mean=CLIP_MEAN, std=CLIP_STD, background=(122, 116, 104)),
    fusion=(RegionTokens(RegionQuery(), token_ids=(92547,)), Splice(token_id=-200), DropStill()),
    language=language.INTERNLM2_7B.but(vocab_size=92548),
    heads=(NextToken(), QueryMasks(token_ids=(92544,))),
    prompt=OMG_LLAVA,
    stages=(
        Stage("align", rules=_PROJECTORS, data="LLaVA 558K", objective="next-token, objects", batch=256),
        Stage(
            "instruct",
            rules=(
                Trains("branches.image.connector.*", lr=2e-4),
                Trains("heads.1.*", lr=2e-4),
                Trains("fusion.0.encoder.project.*", lr=2e-4),
                Trains("fusion.0.encoder.widen.*", lr=2e-4),
                Trains("languages.main.blocks.*", lr=2e-4, rank=512),
            ),
            data="LLaVA 665K, RefCOCO, GranD-f, semantic segmentation, region captions",
            objective="next-token, masks",
            batch=128,
        ),
    ),
    weights=(Source("hub", "zhangtao-whu/OMG-LLaVA"),),
)
