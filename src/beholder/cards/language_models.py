"""Language models of Llama's form that stand alone and inside other systems. Names are those of the sizes; weights those
that were taught to converse, where there are such.
"""

from beholder.cards.schema import Card, Source
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes as language
from beholder.parts.language import sizes_llama as llama
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
LLAMA_3_8B = LLAMA_2_7B.but(
    name="llama-3-8b",
    system="llama-3",
    paper="2407.21783",
    licence="Llama 3 Community License",
    language=language.LLAMA_3_8B,
    prompt=formats.LLAMA_3,
    weights=(Source("hub", "meta-llama/Meta-Llama-3-8B-Instruct"),),
)
LLAMA_3_70B = LLAMA_3_8B.but(
    name="llama-3-70b",
    language=language.LLAMA_3_70B,
    weights=(Source("hub", "meta-llama/Meta-Llama-3-70B-Instruct"),),
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
VICUNA_33B = VICUNA_7B.but(
    name="vicuna-33b",
    licence="LLaMA License",
    language=llama.LLAMA_33B,
    weights=(Source("hub", "lmsys/vicuna-33b-v1.3"),),
)
ORCA_2_7B = LLAMA_2_7B.but(
    name="orca-2-7b",
    system="orca-2",
    paper="2311.11045",
    language=llama.ORCA_2_7B,
    prompt=formats.ORCA_2,
    weights=(Source("hub", "microsoft/Orca-2-7b"),),
).but(licence="Microsoft Research License")
ORCA_2_13B = ORCA_2_7B.but(
    name="orca-2-13b", language=llama.ORCA_2_13B, weights=(Source("hub", "microsoft/Orca-2-13b"),)
)
XGEN_7B = LLAMA_2_7B.but(
    name="xgen-7b",
    system="xgen",
    paper="2309.03450",
    language=llama.XGEN_7B,
    prompt=formats.XGEN,
    weights=(Source("hub", "Salesforce/xgen-7b-8k-inst"),),
).but(licence="research only; the base model: Apache-2.0")

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
ZEPHYR_7B = MISTRAL_7B.but(
    name="zephyr-7b",
    system="zephyr",
    paper="2310.16944",
    licence="MIT",
    prompt=formats.ZEPHYR,
    weights=(Source("hub", "HuggingFaceH4/zephyr-7b-beta"),),
)

YI_6B = MISTRAL_7B.but(
    name="yi-6b",
    system="yi",
    paper="2403.04652",
    language=language.YI_6B,
    prompt=formats.CHATML,
    weights=(Source("hub", "01-ai/Yi-6B-Chat"),),
)
# Yi-6B with its middle layers twice (`train.deepen.YI_9B`), trained on. Only the base model was released of this size.
YI_9B = YI_6B.but(
    name="yi-9b", language=llama.YI_9B, prompt=formats.PLAIN, weights=(Source("hub", "01-ai/Yi-9B"),)
)
YI_34B = YI_6B.but(name="yi-34b", language=language.YI_34B, weights=(Source("hub", "01-ai/Yi-34B-Chat"),))
YI_1_5_6B = YI_6B.but(
    name="yi-1.5-6b",
    system="yi-1.5",
    language=llama.YI_1_5_6B,
    prompt=formats.YI_1_5,
    weights=(Source("hub", "01-ai/Yi-1.5-6B-Chat"),),
)
YI_1_5_9B = YI_1_5_6B.but(
    name="yi-1.5-9b", language=llama.YI_1_5_9B, weights=(Source("hub", "01-ai/Yi-1.5-9B-Chat"),)
)
YI_1_5_34B = YI_1_5_6B.but(
    name="yi-1.5-34b", language=llama.YI_1_5_34B, weights=(Source("hub", "01-ai/Yi-1.5-34B-Chat"),)
)

QWEN_7B = Card(
    name="qwen-7b",
    system="qwen",
    paper="2309.16609",
    licence="Tongyi Qianwen License",
    language=llama.QWEN_7B,
    heads=(NextToken(),),
    prompt=formats.QWEN_2,
    weights=(Source("hub", "Qwen/Qwen-7B-Chat"),),
)
QWEN_1_8B = QWEN_7B.but(
    name="qwen-1.8b", language=llama.QWEN_1_8B, weights=(Source("hub", "Qwen/Qwen-1_8B-Chat"),)
)
QWEN_14B = QWEN_7B.but(
    name="qwen-14b", language=llama.QWEN_14B, weights=(Source("hub", "Qwen/Qwen-14B-Chat"),)
)
QWEN_72B = QWEN_7B.but(
    name="qwen-72b", language=llama.QWEN_72B, weights=(Source("hub", "Qwen/Qwen-72B-Chat"),)
)
QWEN1_5_7B = QWEN_7B.but(
    name="qwen1.5-7b",
    system="qwen1.5",
    paper="",
    language=llama.QWEN1_5_7B,
    prompt=formats.QWEN_1_5,
    weights=(Source("hub", "Qwen/Qwen1.5-7B-Chat"),),
)
QWEN1_5_0_5B = QWEN1_5_7B.but(
    name="qwen1.5-0.5b", language=llama.QWEN1_5_0_5B, weights=(Source("hub", "Qwen/Qwen1.5-0.5B-Chat"),)
)
QWEN1_5_1_8B = QWEN1_5_7B.but(
    name="qwen1.5-1.8b", language=llama.QWEN1_5_1_8B, weights=(Source("hub", "Qwen/Qwen1.5-1.8B-Chat"),)
)
QWEN1_5_4B = QWEN1_5_7B.but(
    name="qwen1.5-4b", language=llama.QWEN1_5_4B, weights=(Source("hub", "Qwen/Qwen1.5-4B-Chat"),)
)
QWEN1_5_14B = QWEN1_5_7B.but(
    name="qwen1.5-14b", language=llama.QWEN1_5_14B, weights=(Source("hub", "Qwen/Qwen1.5-14B-Chat"),)
)
QWEN1_5_72B = QWEN1_5_7B.but(
    name="qwen1.5-72b", language=llama.QWEN1_5_72B, weights=(Source("hub", "Qwen/Qwen1.5-72B-Chat"),)
)
