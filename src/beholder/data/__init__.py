"""Training and evaluation data: pictures with questions and answers."""

from __future__ import annotations

from beholder.data import easy_vqa, phrases
from beholder.data.easy_vqa import EasyVQA
from beholder.data.samples import Dataset, Mixture, Sample, Turn
from beholder.data.scenes import Scenes

__all__ = ["Dataset", "EasyVQA", "Mixture", "Sample", "Scenes", "Turn", "tasks"]


def tasks() -> tuple[str, ...]:
    """Names of all tasks that turns are scored under, in the order of reports."""
    return phrases.TASKS + easy_vqa.TASKS
