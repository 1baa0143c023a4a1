"""VirTex (2006.06666): a residual net that learns from captions, written from either end by two decoders of one layer.

Numbers of kdexd/virtex: virtex/config.py (heads of 64 channels, MLPs four times as wide) and, as in the paper, the width of
configs/_base_bicaptioning_R_50_L1_H1024.yaml; pictures: virtex/factories.py, `smallest_resize` and `center_crop` to one size.
"""

from beholder.cards.schema import Card
from beholder.media.geometry import IMAGENET_MEAN, IMAGENET_STD, Fixed
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.connectors.projections import Linear
from beholder.parts.fusion.memory import Memory
from beholder.parts.heads.backward import PreviousToken
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.bicaptioner import BiCaptioner
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.vision import sizes_hierarchical as vision
from beholder.prompts.chat import ChatFormat, Turn

VIRTEX = Card(
    name="virtex",
    system="virtex",
    paper="2006.06666",
    licence="MIT",
    vision=vision.RESNET_50,
    connector=Linear(),
    images=Fixed(size=(224, 224), fit="crop", filter="bilinear", mean=IMAGENET_MEAN, std=IMAGENET_STD),
    fusion=(Memory(),),
    language=BiCaptioner(
        Decoder(
            vocab_size=10000,
            dim=1024,
            num_layers=1,
            attention=Attention(16, qkv_bias=True, out_bias=True),
            mlp=FeedForward(4096),
            norm=Norm(),
            tied=True,
            head_bias=True,
            context=30,
            arrangement=Arrangement("post"),
            embedding=TokenEmbedding(positions="learned", norm=Norm("layer", 1e-8)),
            final_norm=False,
            cross=CrossAttention(16, qkv_bias=True, out_bias=True),
        )
    ),
    heads=(NextToken(), PreviousToken()),
    prompt=ChatFormat("virtex", start="[SOS]", system=None, user=Turn()),
)
