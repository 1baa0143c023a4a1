"""Video-ChatGPT (2306.05424): means over space and over time of CLIP's patches, one matrix, LLaVA's language model.

video_chatgpt/inference.py, eval/model_utils.py (frames are stretched to squares by their nearest pixels) and
model/video_chatgpt.py of mbzuai-oryx/Video-ChatGPT. Its words for patches and marks stand behind the 32,003 of
LLaVA-Lightning-7B-v1-1.
"""

from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.clips import Frames
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.connectors.projections import Linear
from beholder.parts.connectors.temporal import SpaceAndTime
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_llama as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.vit import Take
from beholder.prompts import formats_clips as formats

VIDEO_CHATGPT_7B = Card(
    name="video-chatgpt-7b",
    system="video-chatgpt",
    paper="2306.05424",
    licence="CC-BY-NC-SA-4.0",
    branches=(
        Branch(
            encoders=(vision.CLIP_L_14.but(pool=None, take=Take(layers=(-2,), norm=False)),),
            connector=SpaceAndTime(Linear()),
            geometry=Fixed(size=(224, 224), filter="nearest", mean=CLIP_MEAN, std=CLIP_STD),
            frames=Frames(100, apart=False),
        ),
    ),
    fusion=(Splice(token_id=32003, at="<vid_patch>"),),
    language=language.LLAMA_7B.but(vocab_size=32006),
    heads=(NextToken(),),
    prompt=formats.VIDEO_CHATGPT,
    stages=(Stage("instruct", rules=(Trains("branches.image.connector.*", lr=2e-5),), batch=32),),
    weights=(
        Source(
            "hub", "MBZUAI/Video-ChatGPT-7B", note="the matrix and the words, beside LLaVA-Lightning-7B-v1-1"
        ),
    ),
)
