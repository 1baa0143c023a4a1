"""MiniCPM-V (2408.01800): slices of about the encoder's own area, 64 or 96 tokens for each.

Numbers: config.json of openbmb/MiniCPM-V-2, MiniCPM-Llama3-V-2_5 and MiniCPM-V-2_6; slices: finetune/dataset.py of
OpenBMB/MiniCPM-V. 2.0 has timm's SigLIP, with the exact GELU and without its last layer. Placeholders lie outside of
the vocabularies.
"""

from beholder.cards.schema import Branch, Card, Source, Stage, Trains
from beholder.media.clips import Frames
from beholder.media.slices import Slices
from beholder.parts.connectors.cross_resampler import CrossResampler
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes, sizes_decoders, sizes_llama
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.positions import GridTable
from beholder.prompts import formats
from beholder.prompts.formats_resamplers import MINICPM_V_2, MINICPM_V_2_6

SLICES = Slices(
    side=448, whole=("<image>", "</image>"), slice=("<image>", "</image>"), slices=("<slice>", "</slice>")
)
NATIVE = vision.SIGLIP_SO400M_14.but(image_size=980, pool=None, positions=GridTable("bucketed"))
MINICPM_V_2_3B = Card(
    name="minicpm-v-2",
    system="minicpm-v",
    paper="2408.01800",
    licence="MiniCPM Model License",
    vision=vision.SIGLIP_SO400M_14.but(
        image_size=384, num_layers=26, pool=None, positions=vision.SMOOTH, **{"mlp.act": "gelu"}
    ),
    connector=CrossResampler(queries=64),
    images=SLICES,
    fusion=(Splice(token_id=122753, at="<unk>"),),
    language=sizes_decoders.MINICPM_2B.but(tied=False),
    heads=(NextToken(),),
    prompt=MINICPM_V_2,
    stages=(
        Stage("compress", rules=(Trains("branches.image.connector.*", lr=1e-4),)),
        Stage("resolve", rules=(Trains("branches.image.vision.*", lr=1e-4),)),
        Stage("slice", rules=(Trains("branches.image.*", lr=1e-4),)),
        Stage("instruct", rules=(Trains("*", lr=1e-5),)),
    ),
    weights=(Source("hub", "openbmb/MiniCPM-V-2"),),
)
MINICPM_LLAMA3_V_2_5 = MINICPM_V_2_3B.but(
    name="minicpm-llama3-v-2.5",
    vision=NATIVE,
    connector=CrossResampler(queries=96, places="waves"),
    fusion=(Splice(token_id=128256, at="<unk>"),),
    language=sizes.LLAMA_3_8B,
    prompt=formats.LLAMA_3.but(name="minicpm-v-2.5", image_suffix="\n"),
    weights=(Source("hub", "openbmb/MiniCPM-Llama3-V-2_5"),),
)
MINICPM_V_2_6_8B = MINICPM_LLAMA3_V_2_5.but(
    name="minicpm-v-2.6",
    branches=(
        Branch(
            encoders=(NATIVE,),
            connector=CrossResampler(queries=64, places="waves"),
            geometry=SLICES.but(slice=("<slice>", "</slice>"), slices=("", "")),
            frames=Frames(count=64, rate=1.0),
        ),
    ),
    fusion=(Splice(token_id=151666, at="<unk>"),),
    language=sizes_llama.QWEN2_7B.but(vocab_size=151666),
    prompt=MINICPM_V_2_6,
    weights=(Source("hub", "openbmb/MiniCPM-V-2_6"),),
)
