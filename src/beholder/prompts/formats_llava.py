"""Chat formats and fixed prompts of LLaVA's kin. Each says which official file its spaces and line breaks come from."""

from __future__ import annotations

from beholder.prompts.chat import ChatFormat, Turn
from beholder.prompts.coordinates import Coordinates
from beholder.prompts.formats import LLAMA_3, PHI_3, VICUNA_V1
from beholder.prompts.tasks import Task

# 2310.03744, table 7: corners over the sides of the padded square.
LLAVA_BOXES = Coordinates("{x0}, {y0}, {x1}, {y1}", "[", "], [", "]", decimals=2)

# haotian-liu/LLaVA llava/conversation.py, conv_llava_v0; turns are joined by three signs.
LLAVA_V0 = ChatFormat(
    "llava-v0",
    wrapped=True,
    system=Turn("", "###"),
    user=Turn("Human: ", "###"),
    assistant=Turn("Assistant: ", "###"),
    default_system="A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions.",
    generation="Assistant:",
    image_place="first",
    image_suffix="\n",
    stops=("###",),
)
# haotian-liu/LLaVA llava/train/train.py, preprocess_plain: the picture and its caption, nothing asked (the first stage).
LLAVA_PLAIN = ChatFormat("llava-plain", wrapped=True, system=None, assistant=Turn("", "\n"))
# BAAI-DCAI/Bunny bunny/conversation.py and FreedomIntelligence/ALLaVA: Vicuna's words with Phi's end of text.
VICUNA_PHI = VICUNA_V1.but(
    name="vicuna-phi", assistant=Turn("ASSISTANT: ", "<|endoftext|>"), stops=("<|endoftext|>",)
)
VICUNA_LLAMA_3 = VICUNA_V1.but(
    name="vicuna-llama-3", assistant=Turn("ASSISTANT: ", "<|end_of_text|>"), stops=("<|end_of_text|>",)
)
# haotian-liu/LLaVA llava/conversation.py, conv_chatml_direct (its MPT style: nothing between turns), also in NVlabs/EAGLE and
# HJYao00/DenseConnector.
LLAVA_CHATML = ChatFormat(
    "llava-chatml",
    system=Turn("<|im_start|>system\n", "<|im_end|>"),
    user=Turn("<|im_start|>user\n", "<|im_end|>"),
    assistant=Turn("<|im_start|>assistant\n", "<|im_end|>"),
    default_system="Answer the questions.",
    generation="<|im_start|>assistant\n",
    image_place="first",
    image_suffix="\n",
    stops=("<|im_end|>",),
)
# NVlabs/EAGLE eagle/conversation.py and WeihuangLin/INF-LLaVA INF_llava/conversation.py, conv_llama3.
LLAVA_LLAMA_3 = LLAMA_3.but(
    name="llava-llama-3",
    default_system=VICUNA_V1.default_system,
    image_place="first",
    image_suffix="\n",
    strip=False,
)
# HJYao00/DenseConnector dc/conversation.py, conv_llama_3, whose answers stand under the system's header.
DENSE_LLAMA_3 = LLAVA_LLAMA_3.but(
    name="dense-llama-3",
    assistant=LLAMA_3.system,
    default_system="You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language.",
    generation="<|start_header_id|>system<|end_header_id|>\n\n",
)
# NVlabs/VILA llava/conversation.py, llama_3_chat.
VILA_LLAMA_3 = LLAVA_LLAMA_3.but(name="vila-llama-3", default_system=DENSE_LLAMA_3.default_system)
# cambrian-mllm/cambrian cambrian/conversation.py, conv_llama_3 (nothing behind headers) and conv_chatml_direct.
CAMBRIAN_LLAMA_3 = LLAVA_LLAMA_3.but(
    name="cambrian-llama-3",
    system=Turn("<|start_header_id|>system<|end_header_id|>", "<|eot_id|>"),
    user=Turn("<|start_header_id|>user<|end_header_id|>", "<|eot_id|>"),
    assistant=Turn("<|start_header_id|>assistant<|end_header_id|>", "<|eot_id|>"),
    default_system="You are Cambrian, a highly intelligent multimodal AI trained by NYU Vision X. \n"
    "    As a multimodal AI, you have the ability to process and analyze images. Whenever an image is present in the "
    "conversation, very carefully examine it and consider its content when formulating your response.\n"
    "    You should give concise responses to very simple questions, but provide thorough responses to more complex and "
    "open-ended questions. ",
    generation="<|start_header_id|>assistant<|end_header_id|>",
)
CAMBRIAN_CHATML = LLAVA_CHATML.but(
    name="cambrian-chatml",
    default_system="You are Cambrian, a highly intelligent multimodal AI trained by NYU Vision X. As a multimodal AI, you have "
    "the ability to process and analyze images. Whenever an image is present in the conversation, very carefully examine it "
    "and consider its content when formulating your response. You should give concise responses to very simple questions, "
    "but provide thorough responses to more complex and open-ended questions.",
)
# 01-ai/Yi VL/llava/conversation.py, mm_default_conv.
YI_VL = ChatFormat(
    "yi-vl",
    wrapped=True,
    system=Turn("", "\n\n### "),
    user=Turn("Human: ", "\n### "),
    assistant=Turn("Assistant: ", "\n### "),
    default_system="This is a chat between an inquisitive human and an AI assistant. Assume the role of the AI assistant. "
    "Read all the images carefully, and respond to the human's questions with informative, helpful, detailed and polite "
    "answers. 这是一个好奇的人类和一个人工智能助手之间的对话。假设你扮演这个AI助手的角色。"
    "仔细阅读所有的图像，并对人类的问题做出信息丰富、有帮助、详细的和礼貌的回答。",
    generation="Assistant:",
    image_place="first",
    image_suffix="\n",
    stops=("###",),
)
# nahidalam/maya llava/conversation.py, conv_aya.
MAYA = VICUNA_V1.but(
    name="maya", assistant=Turn("ASSISTANT: ", "<|END_OF_TURN_TOKEN|>"), stops=("<|END_OF_TURN_TOKEN|>",)
)
# MILVLG/imp imp_llava/conversation.py, conv_phi2, conv_phi3 and conv_qwen2.
IMP_PHI_2 = VICUNA_V1.but(name="imp-phi-2", assistant=Turn("ASSISTANT: ", "</s>"), stops=("</s>",))
IMP_PHI_3 = ChatFormat(
    "imp-phi-3",
    wrapped=True,
    system=Turn("<|system|>\n", "<|end|>"),
    user=Turn("\n<|user|>\n", "<|end|>"),
    assistant=Turn("\n<|assistant|>\n", "<|end|>"),
    default_system=VICUNA_V1.default_system,
    generation="\n<|assistant|>\n",
    image_place="first",
    image_suffix="\n",
    stops=("<|end|>",),
)
IMP_QWEN = IMP_PHI_3.but(
    name="imp-qwen",
    system=Turn("<|im_start|>system\n", "<|im_end|>"),
    user=Turn("\n<|im_start|>user\n", "<|im_end|>"),
    assistant=Turn("\n<|im_start|>assistant\n", "<|im_end|>"),
    generation="\n<|im_start|>assistant\n",
    stops=("<|im_end|>",),
)
# InternLM/xtuner: PROMPT_TEMPLATE.phi3_chat; picture first as in LLaVA.
LLAVA_PHI_3 = PHI_3.but(name="llava-phi-3", start="", wrapped=True, image_place="first", image_suffix="\n")
# TIGER-AI-Lab/Mantis mantis/models/conversation.py, conv_llama_3, whose system message was an example's, yet was trained with;
# mllava/processing_llava.py numbers the pictures.
MANTIS = LLAMA_3.but(
    name="mantis",
    default_system="You are a pirate chatbot who always responds in pirate speak!",
    image_prefix="(image {n}: <Image>",
    image_suffix="</Image>)",
    strip=False,
)
# vikhyat/moondream of January 2024: moondream/text_model.py (answer_question), and sample.py of later questions.
MOONDREAM_1 = ChatFormat(
    "moondream-1",
    start="{bos}",
    system=None,
    user=Turn("Question: ", "\n\n"),
    assistant=Turn("Answer: ", "\n\n"),
    generation="Answer:",
    image_place="front",
    image_prefix="<image>",
    image_suffix="</image>\n\n",
    stops=("Human:", "<END>"),
)

# 2310.03744, section 3.2 and table 7: what an answer should look like stands behind the question.
RESPONSE_FORMATS: tuple[Task, ...] = (
    Task("short answer", "{text}\nAnswer the question using a single word or phrase."),
    Task("option letter", "{text}\nAnswer with the option's letter from the given choices directly."),
    Task("caption", "Provide a one-sentence caption for the provided image."),
    Task(
        "locate", "Please provide the bounding box coordinate of the region this sentence describes: {text}"
    ),
    Task("describe region", "Please provide a short description for this region: {region}"),
)
# Model card of NousResearch/Nous-Hermes-2-Vision-Alpha: the words of a JSON schema behind a tag.
FUNCTION_CALLS: tuple[Task, ...] = (Task("fill in", "<fn_call>{text}", "json"),)
