"""Llama 3.2 Vision (section 7 of 2407.21783): Llama 3.1 with a layer that looks behind every fourth of its own.

Numbers are the official config classes' (transformers, models/mllama/configuration_mllama.py) with tiles of 560 pixels; the
picture's mean and std, the encoder's tapped layers and a layer after every fourth are those of convert_mllama_weights_to_hf.py
there, eight further words those of modeling_mllama.py. The parameters counted are those of the classes.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.canvas import Canvas
from beholder.media.geometry import CLIP_MEAN, CLIP_STD
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.connectors.projections import Linear
from beholder.parts.fusion.cross_attention import GatedCross, Layers
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes, sizes_llama
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.vision.tiled_vit import TiledViT
from beholder.prompts import formats

LLAMA_8B = sizes.LLAMA_3_1_8B.but(embedding=TokenEmbedding(extra=8))
LLAMA_70B = sizes_llama.LLAMA_3_1_70B.but(embedding=TokenEmbedding(extra=8))
CROSS = GatedCross(
    token_id=128256,
    at="<|image|>",
    attention=CrossAttention(num_heads=32, num_kv_heads=8, qk_norm=LLAMA_8B.norm),
    mlp=LLAMA_8B.mlp,
    norm=LLAMA_8B.norm,
    layers=Layers(every=4, first=2),
    slot="after",
    sees="run",
    blind="all",
)
LLAMA_3_2_11B = Card(
    name="llama-3.2-11b-vision",
    system="llama-3.2-vision",
    paper="2407.21783",
    licence="Llama 3.2 Community License",
    vision=TiledViT(
        image_size=560,
        patch=14,
        dim=1280,
        num_layers=32,
        num_global=8,
        attention=Attention(num_heads=16),
        mlp=FeedForward(hidden=5120),
        take=(4, 8, 16, 24, 31),
    ),
    connector=Linear(),
    images=Canvas(tile=560, mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(CROSS,),
    language=LLAMA_8B,
    heads=(NextToken(),),
    prompt=formats.LLAMA_3.but(name="llama-3.2-vision", image_token="<|image|>"),
    stages=(
        Stage("adapter", rules=(Trains("branches.*", 1e-5), Trains("fusion.*", 1e-5))),
        Stage("instruct", rules=(Trains("branches.*", 1e-5), Trains("fusion.*", 1e-5))),
    ),
    weights=(
        Source("hub", "meta-llama/Llama-3.2-11B-Vision"),
        Source("hub", "meta-llama/Llama-3.2-11B-Vision-Instruct"),
    ),
)
LLAMA_3_2_90B = LLAMA_3_2_11B.but(
    name="llama-3.2-90b-vision",
    fusion=(CROSS.but(mlp=LLAMA_70B.mlp, **{"attention.num_heads": 64}),),
    language=LLAMA_70B,
    weights=(
        Source("hub", "meta-llama/Llama-3.2-90B-Vision"),
        Source("hub", "meta-llama/Llama-3.2-90B-Vision-Instruct"),
    ),
)
