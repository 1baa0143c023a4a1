"""Training and evaluation data: pictures with questions and answers. Modules load when they are first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beholder.data.easy_vqa import EasyVQA
    from beholder.data.samples import Dataset, Mixture, Sample, Turn
    from beholder.data.scenes import Scenes

__all__ = ["Dataset", "EasyVQA", "Mixture", "Sample", "Scenes", "Turn", "tasks"]

_HOMES = {"EasyVQA": "easy_vqa", "Scenes": "scenes"}  # the others are at home in `samples`


def tasks() -> tuple[str, ...]:
    """Names of all tasks that turns are scored under, in the order of reports."""
    from beholder.data import easy_vqa, phrases

    return phrases.TASKS + easy_vqa.TASKS


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'samples')}"), name)
