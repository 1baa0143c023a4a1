"""Chat formats of systems that read or write regions of pictures. Each says which official file it comes from."""

from __future__ import annotations

from beholder.prompts.coordinates import Coordinates
from beholder.prompts.formats import CHATML, PLAIN, VICUNA_V1

# shikras/shikra mllm/dataset/process_function (PlainBoxFormatter, ShikraConvProcess), single_image_interactive.py
SHIKRA = VICUNA_V1.but(
    name="shikra",
    image_prefix="<im_start>",
    image_token="<im_patch>",
    image_suffix="<im_end> ",
    boxes=Coordinates(start="[", end="]", decimals=3),
)

# CircleRadon/Osprey demo/osprey_inference.py and osprey/conversation.py (osprey_v1)
OSPREY = VICUNA_V1.but(
    name="osprey",
    default_system="A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions.",
    image_suffix="\n\nThis provides an overview of the picture.\n",
    boxes=Coordinates(box="", mark="{features}", feature="<mask><pos>"),
)

# apple/ml-ferret ferret/conversation.py (ferret_conv_vicuna_v1) and ferret/train/train.py
FERRET = VICUNA_V1.but(
    name="ferret",
    default_system="A chat between a human and an AI that understands visuals. "
    "In images, [x, y] denotes points: top-left [0, 0], bottom-right [width-1, height-1]. "
    "Increasing x moves right; y moves down. "
    "Bounding box: [x1, y1, x2, y2]. Image size: 1000x1000. Follow instructions. ",
    boxes=Coordinates(
        "[{x0}, {y0}, {x1}, {y1}]",
        point="[{x}, {y}]",
        between=" ",
        mark=" {features}",
        feature="<region_fea>",
    ),
)

# mbzuai-oryx/groundingLMM app.py and model/llava/conversation.py (conv_llava_v1)
GLAMM = OSPREY.but(
    name="glamm",
    image_prefix="The <im_start>",
    image_suffix="<im_end> provides an overview of the picture.\n",
    boxes=Coordinates(box="", mark="{features}", feature="<bbox>", pointers=("[SEG]", "")),
)

# magic-research/Sa2VA projects/llava_sam2/hf/models/{templates,modeling_sa2va_chat}.py; a line ends behind every frame
SA2VA = CHATML.but(
    name="sa2va",
    image_suffix="\n",
    image_token="<IMG_CONTEXT>",
    boxes=Coordinates(
        box="", between=", ", mark="<vp>{features}</vp>", feature="<IMG_CONTEXT>", pointers=("[SEG]", "")
    ),
)

# UMass-Foundation-Model/CoVLM open_flamingo/eval/task/*.py: text behind a picture is gone on with
COVLM = PLAIN.but(
    name="covlm",
    wrapped=False,
    start="{bos}",
    image_prefix="<|#image#|>",
    image_token="<PAD>",
    image_suffix="<|#endofimage#|>",
    boxes=Coordinates(box="", mark="{features}", feature="<|#visual#|><|#box#|>"),
)

# lxtGH/OMG-Seg omg_llava/xtuner/utils/templates.py (internlm2_chat)
OMG_LLAVA = CHATML.but(
    name="omg-llava",
    image_suffix="\n",
    boxes=Coordinates(box="", mark="{features}", feature="<region>", pointers=("[SEG]", "")),
)

# OPPOMKLab/u-LLaVA utils/conversation.py (conv_sep2) and inference_ullava.py; recordings have marks of their own
U_LLAVA = VICUNA_V1.but(
    name="u-llava",
    default_system=OSPREY.default_system,
    image_prefix="<img_beg>",
    image_token="<image_patch>",
    image_suffix="</img_end>\n",
    video=("<vid_beg>", "</vid_end>\n"),
    boxes=Coordinates(box="", pointers=("[SEG]", "[LOC]")),
)
