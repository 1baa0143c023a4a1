"""VideoChat-Flash (2501.00574): clips of four frames in UMT's encoder, 16 tokens a frame that are least alike.

multimodal_encoder/umt_encoder.py, multimodal_projector/tome16_mlp_hd64.py and lmms-eval_videochat of OpenGVLab/VideoChat-Flash.
At a frame a second, 64 at least and 512 at most. The encoder ends before its last layer. Stages:
llava-train_videochat/scripts/train; -200 stands for pictures there.
"""

from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.clips import Frames
from beholder.media.geometry import IMAGENET_MEAN, IMAGENET_STD, Fixed
from beholder.parts.connectors.projections import Mlp
from beholder.parts.connectors.temporal import TokenMerging
from beholder.parts.fusion.splice import Splice
from beholder.parts.fusion.token_dropout import TokenDropout
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_llama as language
from beholder.parts.vision import sizes_clips as vision
from beholder.prompts import formats_clips as formats

VIDEOCHAT_FLASH_7B = Card(
    name="videochat-flash-7b",
    system="videochat-flash",
    paper="2501.00574",
    licence="Apache-2.0",
    branches=(
        Branch(
            encoders=(vision.UMT_L_16.but(num_layers=23),),
            connector=TokenMerging(Mlp()),
            geometry=Fixed(size=(224, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD),
            frames=Frames(
                512,
                rate=1.0,
                least=64,
                multiple=4,
                run=4,
                apart=False,
                intro="The video lasts for {duration:.2f} seconds, and {count} clips of it follow. ",
            ),
        ),
    ),
    fusion=(Splice(token_id=-200),),
    language=language.QWEN2_7B,
    heads=(NextToken(),),
    prompt=formats.VIDEOCHAT_FLASH,
    stages=(
        Stage("align", rules=(Trains("branches.image.connector.*", lr=1e-3),), batch=512),
        Stage(
            "clips",
            rules=(
                Trains("branches.image.vision.*", lr=2e-6),
                Trains("branches.image.connector.*", lr=1e-5),
                Trains("languages.main.*", lr=1e-5),
            ),
            batch=256,
        ),
        Stage(
            "instruct",
            rules=(
                Trains("branches.image.vision.*", lr=2e-6),
                Trains("branches.image.connector.*", lr=1e-5),
                Trains("languages.main.*", lr=1e-5),
            ),
            batch=256,
        ),
    ),
    weights=(Source("hub", "OpenGVLab/VideoChat-Flash-Qwen2-7B_res224"),),
)
LARGE = VIDEOCHAT_FLASH_7B.branch().but(
    encoders=(vision.UMT_L_16_448.but(num_layers=23),),
    geometry=Fixed(size=(448, 448), mean=IMAGENET_MEAN, std=IMAGENET_STD),
)
# Trained at 224 pixels, then its encoder and connector at 448; the 2B sees 448 from the first stage on
VIDEOCHAT_FLASH_7B_448 = VIDEOCHAT_FLASH_7B.but(
    name="videochat-flash-7b-448",
    branches=(LARGE,),
    stages=(
        *VIDEOCHAT_FLASH_7B.stages,
        Stage(
            "finer",
            rules=(Trains("branches.image.vision.*", lr=2e-6), Trains("branches.image.connector.*", lr=1e-5)),
            batch=256,
        ),
    ),
    weights=(Source("hub", "OpenGVLab/VideoChat-Flash-Qwen2-7B_res448"),),
)
VIDEOCHAT_FLASH_2B = VIDEOCHAT_FLASH_7B_448.but(
    name="videochat-flash-2b",
    language=language.QWEN2_5_1_5B,
    stages=VIDEOCHAT_FLASH_7B.stages,
    weights=(Source("hub", "OpenGVLab/VideoChat-Flash-Qwen2_5-2B_res448"),),
)
# `mm_llm_compress` with the rates that models are trained with: for long clips.
VIDEOCHAT_FLASH_7B_DROPOUT = VIDEOCHAT_FLASH_7B_448.but(
    name="videochat-flash-7b-dropout", fusion=(Splice(token_id=-200), TokenDropout())
)
