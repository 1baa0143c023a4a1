"""IDEFICS: Flamingo's layers on LLaMA, with norms of queries and keys.

Sizes and rates are those of the tables in README.md of HuggingFaceM4/idefics-9b and idefics-80b: the encoder of OpenCLIP's
ViT-H/14, a resampler of 64 latents, 6 layers and 16 heads of 96, a layer before every fourth. Not checked against their
config.json: words 32000 and 32001 (what stands around a picture, and the picture) and the eps of norms.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.resampler import Resampler
from beholder.parts.fusion.cross_attention import GatedCross, Layers
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_llama as language
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.vit import Take
from beholder.prompts.chat import ChatFormat, Turn

# README of HuggingFaceM4/idefics-9b-instruct
PROMPT = ChatFormat(
    "idefics",
    wrapped=True,
    user=Turn("User: ", "<end_of_utterance>\n"),
    assistant=Turn("Assistant: ", "<end_of_utterance>\n"),
    generation="Assistant:",
    image_prefix="<fake_token_around_image>",
    image_suffix="<fake_token_around_image>",
    stops=("<end_of_utterance>",),
)
LLAMA_7B, LLAMA_65B = language.LLAMA_7B.but(vocab_size=32002), language.LLAMA_65B.but(vocab_size=32002)
CROSS = GatedCross(
    token_id=32001,
    attention=CrossAttention(num_heads=32, memory_dim=1280, qk_norm=LLAMA_7B.norm),
    mlp=LLAMA_7B.mlp,
    norm=LLAMA_7B.norm,
    layers=Layers(every=4),
)
IDEFICS_9B = Card(
    name="idefics-9b",
    system="idefics",
    licence="other",
    vision=vision.OPEN_CLIP_H_14.but(pool=None, take=Take(norm=False, front=True)),
    connector=Resampler(attention=Attention(num_heads=16, head_dim=96, qk_norm=Norm()), act="relu"),
    images=Fixed(size=(224, 224), mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(CROSS,),
    language=LLAMA_7B,
    heads=(NextToken(),),
    prompt=PROMPT,
    stages=(
        Stage("bridge", rules=(Trains("branches.image.connector.*", 1e-5), Trains("fusion.*", 1e-5))),
        Stage("instruct", rules=(Trains("*", 1e-5),)),
    ),
    weights=(Source("hub", "HuggingFaceM4/idefics-9b"), Source("hub", "HuggingFaceM4/idefics-9b-instruct")),
)
IDEFICS_80B = IDEFICS_9B.but(
    name="idefics-80b",
    fusion=(
        CROSS.but(
            norm=LLAMA_65B.norm.but(eps=1e-6),
            mlp=LLAMA_65B.mlp,
            **{"attention.num_heads": 64},
        ),
    ),
    language=LLAMA_65B.but(**{"norm.eps": 1e-6}),
    stages=(
        Stage("bridge", rules=(Trains("branches.image.connector.*", 5e-5), Trains("fusion.*", 5e-5))),
        Stage("instruct", rules=(Trains("*", 3e-6),)),
    ),
    weights=(Source("hub", "HuggingFaceM4/idefics-80b"), Source("hub", "HuggingFaceM4/idefics-80b-instruct")),
)
