"""Language models of other forms than Llama's: Pythia, Falcon, Persimmon, Phi, Gemma, Mamba and StripedHyena."""

from beholder.cards.schema import Card, LanguagePart, Source
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.block_sparse import BlockSparse, BoundedGlu
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.transformer import LayerKind
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_decoders as decoders
from beholder.parts.language import sizes_gpt as gpt
from beholder.parts.language import sizes_recurrent as recurrent
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.embedding import TokenEmbedding
from beholder.prompts import formats

PYTHIA_70M = Card(
    name="pythia-70m",
    system="pythia",
    paper="2304.01373",
    licence="Apache-2.0",
    language=gpt.PYTHIA_70M,
    heads=(NextToken(),),
    prompt=formats.PLAIN,
    weights=(Source("hub", "EleutherAI/pythia-70m"),),
)
PYTHIA_410M = PYTHIA_70M.but(
    name="pythia-410m", language=gpt.PYTHIA_410M, weights=(Source("hub", "EleutherAI/pythia-410m"),)
)
PYTHIA_1_4B = PYTHIA_70M.but(
    name="pythia-1.4b", language=gpt.PYTHIA_1_4B, weights=(Source("hub", "EleutherAI/pythia-1.4b"),)
)
PYTHIA_6_9B = PYTHIA_70M.but(
    name="pythia-6.9b", language=gpt.PYTHIA_6_9B, weights=(Source("hub", "EleutherAI/pythia-6.9b"),)
)
PYTHIA_12B = PYTHIA_70M.but(
    name="pythia-12b", language=gpt.PYTHIA_12B, weights=(Source("hub", "EleutherAI/pythia-12b"),)
)

FALCON_7B = PYTHIA_70M.but(
    name="falcon-7b",
    system="falcon",
    paper="2311.16867",
    language=gpt.FALCON_7B,
    prompt=formats.FALCON,
    weights=(Source("hub", "tiiuae/falcon-7b-instruct"),),
)
FALCON_40B = FALCON_7B.but(
    name="falcon-40b", language=gpt.FALCON_40B, weights=(Source("hub", "tiiuae/falcon-40b-instruct"),)
)
FALCON_180B = FALCON_7B.but(
    name="falcon-180b",
    licence="Falcon-180B TII License",
    language=gpt.FALCON_180B,
    weights=(Source("hub", "tiiuae/falcon-180B-chat"),),
)
# The size of the 1.3B model that the catalogue lists, trained on RefinedWeb alone (2306.01116).
FALCON_RW_1B = FALCON_7B.but(
    name="falcon-rw-1b",
    paper="2306.01116",
    language=gpt.FALCON_RW_1B,
    prompt=formats.PLAIN,
    weights=(Source("hub", "tiiuae/falcon-rw-1b"),),
)

PERSIMMON_8B = PYTHIA_70M.but(
    name="persimmon-8b",
    system="persimmon",
    paper="",
    language=gpt.PERSIMMON_8B,
    prompt=formats.PERSIMMON,
    weights=(Source("hub", "adept/persimmon-8b-chat"),),
)

PHI_2 = PYTHIA_70M.but(
    name="phi-2",
    system="phi",
    paper="2309.05463",
    language=decoders.PHI_2,
    prompt=formats.PHI_2,
    weights=(Source("hub", "microsoft/phi-2"),),
).but(licence="MIT")
PHI_1_5 = PHI_2.but(
    name="phi-1.5",
    language=decoders.PHI_1_5,
    prompt=formats.PHI_1_5,
    weights=(Source("hub", "microsoft/phi-1_5"),),
)
PHI_3_MINI_4K = PHI_2.but(
    name="phi-3-mini-4k",
    system="phi-3",
    paper="2404.14219",
    language=decoders.PHI_3_MINI_4K,
    prompt=formats.PHI_3,
    weights=(Source("hub", "microsoft/Phi-3-mini-4k-instruct"),),
)
PHI_3_MINI_128K = PHI_3_MINI_4K.but(
    name="phi-3-mini-128k",
    language=decoders.PHI_3_MINI_128K,
    weights=(Source("hub", "microsoft/Phi-3-mini-128k-instruct"),),
)
PHI_3_MEDIUM_4K = PHI_3_MINI_4K.but(
    name="phi-3-medium-4k",
    language=decoders.PHI_3_MEDIUM_4K,
    weights=(Source("hub", "microsoft/Phi-3-medium-4k-instruct"),),
)
# config.json of microsoft/Phi-3-small-8k-instruct; every second layer sees all.
PHI_3_SMALL_ATTENTION = Attention(
    num_heads=32, num_kv_heads=8, qkv_bias=True, out_bias=True, rotary=Rotary(theta=1e6), scale=1 / 128
)
PHI_3_SMALL_8K = PHI_3_MINI_4K.but(
    name="phi-3-small-8k",
    languages=(
        LanguagePart(
            Decoder(
                vocab_size=100352,
                dim=4096,
                num_layers=32,
                attention=BlockSparse(
                    num_heads=32,
                    num_kv_heads=8,
                    qkv_bias=True,
                    out_bias=True,
                    rotary=Rotary(theta=1e6),
                    scale=1 / 128,
                ),
                mlp=BoundedGlu(14336),
                norm=Norm("layer", 1e-5),
                tied=True,
                context=8192,
                embedding=TokenEmbedding(scale=10.0),
                others=(LayerKind(PHI_3_SMALL_ATTENTION),),
                pattern=(0, 1),
                logit_scale=1 / 8,
            )
        ),
    ),
    weights=(),
)

GEMMA_2B = PYTHIA_70M.but(
    name="gemma-2b",
    system="gemma",
    paper="2403.08295",
    language=decoders.GEMMA_2B,
    prompt=formats.GEMMA,
    weights=(Source("hub", "google/gemma-2b-it"),),
).but(licence="Gemma Terms of Use")
GEMMA_7B = GEMMA_2B.but(
    name="gemma-7b", language=decoders.GEMMA_7B, weights=(Source("hub", "google/gemma-7b-it"),)
)

MAMBA_130M = PYTHIA_70M.but(
    name="mamba-130m",
    system="mamba",
    paper="2312.00752",
    language=recurrent.MAMBA_130M,
    weights=(Source("hub", "state-spaces/mamba-130m-hf"),),
)
MAMBA_790M = MAMBA_130M.but(
    name="mamba-790m",
    language=recurrent.MAMBA_790M,
    weights=(Source("hub", "state-spaces/mamba-790m-hf"),),
)
MAMBA_2_8B = MAMBA_130M.but(
    name="mamba-2.8b",
    language=recurrent.MAMBA_2_8B,
    weights=(Source("hub", "state-spaces/mamba-2.8b-hf"),),
)

STRIPED_HYENA_7B = PYTHIA_70M.but(
    name="stripedhyena-7b",
    system="stripedhyena",
    paper="",
    language=recurrent.STRIPED_HYENA_7B,
    prompt=formats.NOUS,
    weights=(Source("hub", "togethercomputer/StripedHyena-Nous-7B"),),
)
