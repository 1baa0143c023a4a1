"""Decoder-only language models that stand alone and inside other systems."""

from beholder.cards.schema import Card, Source
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.prompts import formats

LLAMA_2_7B = Card(
    name="llama-2-7b",
    system="llama-2",
    paper="2307.09288",
    licence="Llama 2 Community License",
    language=language.LLAMA_2_7B,
    heads=(NextToken(),),
    prompt=formats.LLAMA_2,
    weights=(Source("hub", "meta-llama/Llama-2-7b-chat-hf"),),
)
LLAMA_2_13B = LLAMA_2_7B.but(
    name="llama-2-13b",
    language=language.LLAMA_2_13B,
    weights=(Source("hub", "meta-llama/Llama-2-13b-chat-hf"),),
)
LLAMA_2_70B = LLAMA_2_7B.but(
    name="llama-2-70b",
    language=language.LLAMA_2_70B,
    weights=(Source("hub", "meta-llama/Llama-2-70b-chat-hf"),),
)
VICUNA_7B = LLAMA_2_7B.but(
    name="vicuna-7b",
    system="vicuna",
    paper="2306.05685",
    prompt=formats.VICUNA_V1,
    weights=(Source("hub", "lmsys/vicuna-7b-v1.5"),),
)
VICUNA_13B = VICUNA_7B.but(
    name="vicuna-13b", language=language.LLAMA_2_13B, weights=(Source("hub", "lmsys/vicuna-13b-v1.5"),)
)
LLAMA_3_8B = LLAMA_2_7B.but(
    name="llama-3-8b",
    system="llama-3",
    paper="2407.21783",
    licence="Llama 3 Community License",
    language=language.LLAMA_3_8B,
    prompt=formats.PLAIN,
    weights=(Source("hub", "meta-llama/Meta-Llama-3-8B"),),
)
LLAMA_3_70B = LLAMA_3_8B.but(
    name="llama-3-70b", language=language.LLAMA_3_70B, weights=(Source("hub", "meta-llama/Meta-Llama-3-70B"),)
)
MISTRAL_7B = Card(
    name="mistral-7b",
    system="mistral",
    paper="2310.06825",
    licence="Apache-2.0",
    language=language.MISTRAL_7B,
    heads=(NextToken(),),
    prompt=formats.MISTRAL,
    weights=(Source("hub", "mistralai/Mistral-7B-Instruct-v0.1"),),
)
YI_6B = MISTRAL_7B.but(
    name="yi-6b",
    system="yi",
    paper="2403.04652",
    language=language.YI_6B,
    prompt=formats.CHATML,
    weights=(Source("hub", "01-ai/Yi-6B-Chat"),),
)
YI_34B = YI_6B.but(
    name="yi-34b", language=language.YI_34B, prompt=formats.PLAIN, weights=(Source("hub", "01-ai/Yi-34B"),)
)
