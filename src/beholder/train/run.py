"""A run: a model taken through stages one after the other, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from beholder.cards.schema import Stage
from beholder.data.samples import Dataset
from beholder.model import Model
from beholder.train.checkpoints import Progress, checkpoints, trained_tensors
from beholder.train.collate import Collator
from beholder.train.loop import Settings, train_stage
from beholder.train.objectives import Objective, next_token
from beholder.weights.files import write_safetensors

TRAINED = "trained.safetensors"


@dataclass(frozen=True)
class Task:
    """A stage with its data. share: of the run's time, where that is limited."""

    stage: Stage
    dataset: Dataset
    objective: Objective = next_token
    share: float = 1.0


def run(
    model: Model, collate: Collator, tasks: Sequence[Task], folder: Path, *, minutes: float | None = None
) -> bool:
    """Train through all tasks. False where a signal stopped the run; the same call then goes on with the stage that was
    begun last. What has been trained so far is written to `trained.safetensors` in `folder` at every checkpoint.
    """
    stages = tuple(task.stage for task in tasks)

    def save(model: Model, progress: Progress) -> None:
        metadata = {"card": model.card.name, "step": str(progress.step), "samples": str(progress.samples)}
        write_safetensors(folder / TRAINED, trained_tensors(model, stages), metadata)

    total = sum(task.share for task in tasks)
    for number, task in enumerate(tasks):
        later_began = any(checkpoints(folder / later.stage.name) for later in tasks[number + 1 :])
        seconds = None if minutes is None else 60 * minutes * task.share / total
        settings = Settings(folder / task.stage.name, seconds=seconds, closed=later_began)
        result = train_stage(
            model, task.stage, task.dataset, collate, settings, objective=task.objective, on_checkpoint=save
        )
        if not result.finished:
            return False
    return True
