"""LLaVA-UHD (2403.11703): slices of a picture's own proportions, commas and line breaks between them.

Numbers: branch LLaVA-UHD-v1 of thunlp/LLaVA-UHD (llava/slice_process.py, model/llava_arch.py) and section 4.1 of the paper.
In the paper each of 8 x 8 queries reads the whole slice. In that branch and in the release each of 12 x 12 reads a region of
its own, which came after the paper (model/multimodal_projector/adapt_spatial_resampler.py); pictures are brought to 1024 pixels
for their longer side before they are cut, into 7 slices at most (eval/model_vqa_loader.py).
"""

from beholder.cards.llava import STAGES
from beholder.cards.schema import Card, Source
from beholder.media.geometry import CLIP_MEAN, CLIP_STD
from beholder.media.slices import Slices
from beholder.parts.connectors.cross_resampler import CrossResampler
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.positions import BICUBIC
from beholder.parts.vision.vit import Take
from beholder.prompts import formats

SLICES = Slices(side=336, most=6, down=True, last=True, column=",", end="\n", mean=CLIP_MEAN, std=CLIP_STD)
LLAVA_UHD_13B = Card(
    name="llava-uhd-13b",
    system="llava-uhd",
    paper="2403.11703",
    licence="Apache-2.0",
    vision=vision.CLIP_L_14_336.but(pool=None, positions=BICUBIC, take=Take(layers=(-2,), norm=False)),
    connector=CrossResampler(queries=64),
    images=SLICES,
    fusion=(Splice(token_id=32000),),
    language=language.LLAMA_2_13B,
    heads=(NextToken(),),
    prompt=formats.VICUNA_V1,
    stages=STAGES,
)
LLAVA_UHD_144_13B = LLAVA_UHD_13B.but(
    name="llava-uhd-144-13b",
    connector=CrossResampler(queries=144, regions=True),
    images=SLICES.but(most=7, longest=1024),
    weights=(Source("hub", "guozonghao96/llava-uhd-144-13b"),),
)
