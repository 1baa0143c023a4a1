"""Training and evaluation data: pictures with questions and answers, and conversations. Modules load when first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beholder.data.augment import Augment, Augmented
    from beholder.data.easy_vqa import EasyVQA
    from beholder.data.order import Buckets, Near, Order, Packed
    from beholder.data.question_file import QuestionFile
    from beholder.data.readers.open import open_data
    from beholder.data.samples import Conversation, Dataset, Mixture, Sample, Turn
    from beholder.data.scenes import Scenes

__all__ = [
    "Augment",
    "Augmented",
    "Buckets",
    "Conversation",
    "Dataset",
    "EasyVQA",
    "Mixture",
    "Near",
    "Order",
    "Packed",
    "QuestionFile",
    "Sample",
    "Scenes",
    "Turn",
    "open_data",
    "tasks",
]

_HOMES = {
    "Augment": "augment",
    "Augmented": "augment",
    "EasyVQA": "easy_vqa",
    "QuestionFile": "question_file",
    "Scenes": "scenes",
    "open_data": "readers.open",
    **dict.fromkeys(("Buckets", "Near", "Order", "Packed"), "order"),
}  # the others are at home in `samples`


def tasks() -> tuple[str, ...]:
    """Names of all tasks that turns are scored under, in the order of reports."""
    from beholder.data import easy_vqa, phrases

    return phrases.TASKS + easy_vqa.TASKS


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'samples')}"), name)
