"""OpenFlamingo (2308.01390), Otter (2305.03726) and MultiModal-GPT (2305.04790): Flamingo's layers on open decoders.

Numbers of the added layers: mlfoundations/open_flamingo, README.md and open_flamingo/src/helpers.py. Vocabularies are the
tokenizers' own with `<|endofchunk|>`, `<image>` and `<PAD>` behind (open_flamingo/src/factory.py). What trains: 2308.01390,
sections 3.1 and 3.3; the 4B models keep their words as they are.
"""

from beholder.cards.schema import Card, Source, Stage, Trains
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.connectors.resampler import Resampler
from beholder.parts.fusion.cross_attention import GatedCross, Layers
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_gpt, sizes_llama
from beholder.parts.vision import sizes as vision
from beholder.parts.vision.vit import Take
from beholder.prompts.chat import ChatFormat, Turn

# open_flamingo/eval/models/open_flamingo.py: prompt of visual questions
QUESTIONS = ChatFormat(
    "openflamingo",
    user=Turn("", " Short answer:"),
    assistant=Turn("", "<|endofchunk|>"),
    image_place="first",
    image_suffix="Question:",
    stops=("<|endofchunk|>",),
)
# Luodian/Otter: README.md; answers begin with a space, which is theirs to write (pipeline/mimicit_utils)
OTTER = QUESTIONS.but(
    name="otter",
    user=Turn("", " GPT:<answer>"),
    assistant=Turn(" ", "<|endofchunk|>"),
    image_suffix="User: ",
)
# open-mmlab/Multimodal-GPT: mmgpt/datasets/dial_dataset.py
INSTRUCTIONS = ChatFormat(
    "multimodal-gpt",
    start="{bos}Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n",
    user=Turn("### Instruction:\n", "\n\n"),
    assistant=Turn("### Response:\n", "{eos}"),
    generation="### Response:\n",
    image_place="front",
    image_prefix="### Image:\n",
    image_suffix="\n\n",
)
CROSS = GatedCross(
    token_id=50278,
    attention=CrossAttention(num_heads=8, head_dim=64, memory_dim=1024),
    mlp=FeedForward(hidden=8192, bias=False),
    norm=Norm(),
)
CROSS_4096 = CROSS.but(mlp=FeedForward(hidden=16384, bias=False), layers=Layers(every=4, first=3))
TRAINED = (
    Trains("branches.image.connector.*", 1e-4),
    Trains("fusion.*", 1e-4, weight_decay=0.1),
    Trains("languages.main.embedding.weight", 1e-4),
)
OPENFLAMINGO_3B = Card(
    name="openflamingo-3b",
    system="openflamingo",
    paper="2308.01390",
    licence="MIT",
    vision=vision.CLIP_L_14.but(pool=None, take=Take(norm=False)),
    connector=Resampler(),
    images=Fixed(size=(224, 224), fit="crop", mean=CLIP_MEAN, std=CLIP_STD),
    fusion=(CROSS,),
    language=sizes_gpt.MPT_1B.but(vocab_size=50280),
    heads=(NextToken(),),
    prompt=QUESTIONS,
    stages=(Stage("train", rules=TRAINED, schedule="constant", warmup=1875),),
    weights=(Source("hub", "openflamingo/OpenFlamingo-3B-vitl-mpt1b"),),
)
OPENFLAMINGO_4B = OPENFLAMINGO_3B.but(
    name="openflamingo-4b",
    fusion=(CROSS.but(mlp=FeedForward(hidden=10240, bias=False), layers=Layers(every=2, first=1)),),
    language=sizes_gpt.REDPAJAMA_3B.but(vocab_size=50280),
    stages=(OPENFLAMINGO_3B.stages[0].but(rules=TRAINED[:2]),),
    weights=(Source("hub", "openflamingo/OpenFlamingo-4B-vitl-rpj3b"),),
)
OPENFLAMINGO_9B = OPENFLAMINGO_3B.but(
    name="openflamingo-9b",
    fusion=(CROSS_4096,),
    language=sizes_gpt.MPT_7B.but(vocab_size=50280),
    weights=(Source("hub", "openflamingo/OpenFlamingo-9B-vitl-mpt7b"),),
)
OTTER_MPT_7B = OPENFLAMINGO_9B.but(
    name="otter-mpt-7b",
    system="otter",
    paper="2305.03726",
    prompt=OTTER,
    # the rate: training scripts written for Luodian/Otter's pipeline/train; the paper's text was not read
    stages=(
        Stage(
            "instruct",
            rules=(
                Trains("branches.image.connector.*", 1e-5),
                Trains("fusion.*", 1e-5, weight_decay=0.1),
                Trains("languages.main.embedding.weight", 1e-5),
            ),
        ),
    ),
    weights=(Source("hub", "luodian/OTTER-Image-MPT7B"),),
)
OTTER_LLAMA_7B = OTTER_MPT_7B.but(
    name="otter-llama-7b",
    fusion=(CROSS_4096.but(token_id=32001),),
    language=sizes_llama.LLAMA_7B.but(vocab_size=32003),
    weights=(Source("hub", "luodian/OTTER-Image-LLaMA7B-LA-InContext"),),
)
MULTIMODAL_GPT = OTTER_LLAMA_7B.but(
    name="multimodal-gpt",
    system="multimodal-gpt",
    paper="2305.04790",
    licence="Apache-2.0",
    prompt=INSTRUCTIONS,
    stages=(
        Stage(
            "instruct",
            rules=(
                Trains("languages.main.blocks.*.attn.*", 1e-5, rank=16),
                Trains("languages.main.blocks.*.mlp.*", 1e-5, rank=16),
                Trains("fusion.0.layers.*.attn.*", 1e-5, rank=16),
            ),
        ),
    ),
    weights=(),
)
