"""What official files do not say of their system: which frames of a clip are looked at, and what fixed prompts select."""

from __future__ import annotations

from collections.abc import Mapping

from beholder.cards import card
from beholder.cards.schema import Branch, Card
from beholder.media.clips import Frames
from beholder.parts.contracts import VisionConfig

# `model_type` -> a card whose frames and tasks all checkpoints of that type share
KIN: Mapping[str, str] = {
    "aria": "aria",
    "eagle_chat": "eagle2-9b",
    "glm4v": "glm-4.1v-9b-thinking",
    "glm4v_moe": "glm-4.1v-9b-thinking",
    "instructblip": "instructblip-vicuna-7b",
    "internvl": "internvl-2.5-8b",
    "internvl_chat": "internvl-2.5-8b",
    "llava_jamba": "longllava-53b",
    "llava_qwen_flash": "videochat-flash-7b",
    "minicpmv": "minicpm-v-2.6",
    "paligemma": "paligemma-3b-224",
    "qwen2_vl": "qwen2-vl-7b",
    "qwen2_5_vl": "qwen2.5-vl-7b",
    "sa2va_chat": "sa2va-8b",
    "smolvlm": "smolvlm-2.2b",
    "valley": "valley2-7b",
    "video_llama_3": "videollama3-7b",
    "videochat_flash_qwen": "videochat-flash-7b",
    "videollama3_qwen2": "videollama3-7b",
}


def completed(read: Card, kind: str) -> Card:
    """A card read from official files of type `kind`, with the frames and tasks of its kin where it has none."""
    if kind not in KIN:
        return read
    kin = card(KIN[kind])
    likes = {branch.name: branch for branch in kin.branches}
    branches = tuple(
        branch.but(frames=frames_of(branch, likes[branch.name])) if branch.name in likes else branch
        for branch in read.branches
    )
    return read.but(branches=branches, tasks=read.tasks or kin.tasks)


def frames_of(branch: Branch, kin: Branch) -> Frames | None:
    """The branch's own frames, else its kin's, their views of the size that the branch's encoder was made for."""
    frames, encoder, known = kin.frames, branch.encoders[0], kin.encoders[0]
    if branch.frames is not None or frames is None or frames.geometry is None:
        return branch.frames or frames
    sizes = [each.image_size for each in (encoder, known) if isinstance(each, VisionConfig)]
    return frames if len(set(sizes)) == 1 else frames.but(geometry=frames.geometry.at(sizes[0]))
