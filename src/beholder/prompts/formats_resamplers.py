"""Chat formats of systems that resample pictures, published beside their code."""

from __future__ import annotations

from beholder.prompts.answers import BoxTokens
from beholder.prompts.chat import ChatFormat, Turn
from beholder.prompts.coordinates import Coordinates
from beholder.prompts.tasks import Task

# X-PLUG/mPLUG-Owl mPLUG-Owl/README.md; Honeybee's Inference_example.ipynb.
MPLUG_OWL = ChatFormat(
    "mplug-owl",
    wrapped=True,
    system=Turn("", "\n"),
    user=Turn("Human: ", "\n"),
    assistant=Turn("AI: ", "\n"),
    default_system="The following is a conversation between a curious human and AI assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    generation="AI: ",
    image_place="front",
    image_prefix="Human: ",
    image_suffix="\n",
    stops=("\nHuman:",),
)
# LukeForeverYoung/UReader pipeline/evaluation.py: without a system message.
UREADER = MPLUG_OWL.but(name="ureader", default_system=None)
QWEN_VL_BOXES = Coordinates("({x0},{y0}),({x1},{y1})", "<box>", "</box><box>", "</box>")
# Qwen/Qwen-VL-Chat: tokenization_qwen.py (from_list_format, whose line break behind a picture is the list's) and
# qwen_generation_utils.py (make_context). A box is corners of a square of 1000 steps.
QWEN_VL = ChatFormat(
    "qwen-vl",
    system=Turn("<|im_start|>system\n", "<|im_end|>\n"),
    user=Turn("<|im_start|>user\n", "<|im_end|>\n"),
    assistant=Turn("<|im_start|>assistant\n", "<|im_end|>\n"),
    default_system="You are a helpful assistant.",
    generation="<|im_start|>assistant\n",
    image_prefix="Picture {n}: <img>",
    image_suffix="</img>\n",
    image_token="<imgpad>",
    stops=("<|im_end|>",),
    boxes=QWEN_VL_BOXES,
)
# README of QwenLM/Qwen-VL; 2308.12966, section 3.1.
QWEN_VL_TASKS = (
    Task(
        "grounded caption",
        "Generate the caption in English with grounding:",
        answer=BoxTokens(QWEN_VL_BOXES, ("<ref>", "</ref>")),
    ),
)
# Yuliang-Liu/Monkey README.md and inference.py: one question, which the answer follows.
MONKEY = ChatFormat(
    "monkey",
    system=None,
    user=Turn("", " "),
    assistant=Turn("Answer: ", "<|endoftext|>"),
    generation="Answer: ",
    image_prefix="<img>",
    image_suffix="</img> ",
    image_token="<imgpad>",
    stops=("<|endoftext|>",),
)
# The same repository's eval/evaluate_vqa_doc.py
TEXTMONKEY = MONKEY.but(name="textmonkey", generation="Answer:")
# OpenBMB/MiniCPM-V finetune/dataset.py (conversation_to_ids_minicpm).
MINICPM_V_2 = ChatFormat(
    "minicpm-v-2",
    wrapped=True,
    system=None,
    user=Turn("<用户>"),
    assistant=Turn("<AI>", "{eos}"),
    generation="<AI>",
    image_suffix="\n",
)
# The same file (preprocess, conversation_to_ids_qwen2) for MiniCPM-V 2.6: pictures are numbered.
MINICPM_V_2_6 = QWEN_VL.but(
    name="minicpm-v-2.6",
    image_prefix="<image_id>{i}</image_id>",
    image_suffix="\n",
    image_token="<unk>",
    boxes=None,
)
# tokenizer_config.json of HuggingFaceM4/idefics2-8b; the tokenizer puts the beginning.
IDEFICS_2 = ChatFormat(
    "idefics-2",
    wrapped=True,
    system=Turn("System: ", "<end_of_utterance>\n"),
    user=Turn("User:", "<end_of_utterance>\n"),
    assistant=Turn("Assistant:", "<end_of_utterance>\n"),
    generation="Assistant:",
    text=(" ", ""),
    stops=("<end_of_utterance>",),
)
# salesforce/LAVIS, branch xgen-mm: open_flamingo/train/conversation.py (conv_phi_3). Boxes: README of BLIP3-GROUNDING-50M,
# which leaves open how many decimals numbers have.
XGEN_MM = ChatFormat(
    "xgen-mm",
    system=Turn("<|system|>\n", "<|end|>\n"),
    user=Turn("<|user|>\n", "<|end|>\n"),
    assistant=Turn("<|assistant|>\n", "<|end|>\n"),
    default_system="A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    generation="<|assistant|>\n",
    image_place="first",
    image_suffix="\n",
    stops=("<|end|>",),
    boxes=Coordinates("{x0}, {y0}, {x1}, {y1}", "<bbox>", "</bbox> <bbox>", "</bbox>", decimals=2),
)
