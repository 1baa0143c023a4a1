"""Flamingo (2204.14198): a resampler and gated layers between those of Chinchilla.

Sizes as in table 4 (appendix A.1.4): a resampler of 6 layers, 16 heads of 96 and 1536 channels; added layers before every one,
every fourth and every seventh of the language model's; squared ReLU in all that is trained. The 9B model's language part has
the 32 layers that make the published 7.1B parameters; table 4 gives it 40, which would be 8.9B, and 10 added layers.
Appendix B.1.2: pictures are padded with the mean, a video is 8 frames at one a second as in training, rate and decay; which
mean is ours.
"""

from beholder.cards.schema import Branch, Card, Stage, Trains
from beholder.media.clips import Frames
from beholder.media.geometry import IMAGENET_MEAN, IMAGENET_STD, Fixed
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.resampler import Resampler
from beholder.parts.fusion.cross_attention import GatedCross, Layers
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_chinchilla as language
from beholder.parts.vision import sizes_hierarchical as vision
from beholder.prompts.chat import ChatFormat, Turn

CROSS = GatedCross(
    token_id=32000,
    attention=CrossAttention(num_heads=16, memory_dim=1536),
    mlp=FeedForward(hidden=8192, act="relu2", bias=False),
    norm=Norm(),
)
FLAMINGO_3B = Card(
    name="flamingo-3b",
    system="flamingo",
    paper="2204.14198",
    branches=(
        Branch(
            encoders=(vision.NFNET_F6.but(image_size=320),),
            connector=Resampler(
                attention=Attention(num_heads=16, head_dim=96),
                act="relu2",
                frames=8,
                width=1536,
                together=True,
            ),
            geometry=Fixed(
                size=(320, 320),
                fit="pad",
                mean=IMAGENET_MEAN,
                std=IMAGENET_STD,
                background=(124, 116, 104),
            ),
            frames=Frames(count=8, rate=1.0, apart=False),
        ),
    ),
    fusion=(CROSS,),
    language=language.CHINCHILLA_1_4B,
    heads=(NextToken(),),
    prompt=ChatFormat("flamingo", assistant=Turn("", "<EOC>"), image_place="first", stops=("<EOC>",)),
    stages=(
        Stage(
            "train",
            rules=(Trains("branches.image.connector.*", 1e-4), Trains("fusion.*", 1e-4, weight_decay=0.1)),
            steps=500_000,
            warmup=5_000,
            schedule="constant",
        ),
    ),
)
FLAMINGO_9B = FLAMINGO_3B.but(
    name="flamingo-9b",
    fusion=(CROSS.but(layers=Layers(every=4), **{"attention.num_heads": 32, "mlp.hidden": 16384}),),
    language=language.CHINCHILLA_7B,
)
FLAMINGO_80B = FLAMINGO_3B.but(
    name="flamingo-80b",
    fusion=(CROSS.but(layers=Layers(every=7), **{"attention.num_heads": 64, "mlp.hidden": 32768}),),
    language=language.CHINCHILLA_70B,
)
