"""A run: a model taken through stages one after the other, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from beholder.cards.schema import Card, Stage
from beholder.data.samples import Dataset
from beholder.model import Model
from beholder.train.checkpoints import Progress, checkpoints, trained_tensors
from beholder.train.feed import Collate, Order
from beholder.train.loop import Settings, Watch, train_stage
from beholder.train.objectives import Objective, next_token
from beholder.train.resolution import at_side
from beholder.train.sharding import whole
from beholder.weights.files import write_safetensors

TRAINED = "trained.safetensors"


@dataclass(frozen=True)
class Task:
    """A stage with its data. share: of the run's time, where that is limited. collate: what makes the stage's batches out of
    the card at its side, the run's own where None; order: which samples they have, by number where None; watch: what is
    looked at meanwhile.
    """

    stage: Stage
    dataset: Dataset
    objective: Objective = next_token
    share: float = 1.0
    collate: Callable[[Card], Collate] | None = None
    order: Order | None = None
    watch: Watch | None = None


@dataclass(frozen=True)
class Outcome:
    """model: the one that was given, or its successor where a stage sees pictures of another side. finished: False where a
    signal stopped the run.
    """

    model: Model
    finished: bool


def run(
    model: Model,
    collate: Collate,
    tasks: Sequence[Task],
    folder: Path,
    *,
    minutes: float | None = None,
    settings: Settings | None = None,
) -> Outcome:
    """Train through all tasks. The same call goes on with the stage that was begun last. What has been trained so far is
    written to `trained.safetensors` in `folder` at every checkpoint.

    minutes: of training in all; the schedules end with them. settings: of every stage, but for folder, seconds, and what its
    task says.
    """
    stages = tuple(task.stage for task in tasks)
    common = settings or Settings(folder)

    def save(model: Model, progress: Progress) -> None:
        metadata = {"card": model.card.name, "step": str(progress.step), "samples": str(progress.samples)}
        tensors = {name: whole(tensor) for name, tensor in trained_tensors(model, stages).items()}
        if common.world.leads:
            write_safetensors(folder / TRAINED, tensors, metadata)

    total = sum(task.share for task in tasks)
    for number, task in enumerate(tasks):
        if task.stage.side:
            model = at_side(model, task.stage.side)
        chosen = replace(
            common,
            folder=folder / task.stage.name,
            seconds=None if minutes is None else 60 * minutes * task.share / total,
            closed=any(checkpoints(folder / later.stage.name) for later in tasks[number + 1 :]),
            order=task.order,
            watch=task.watch,
        )
        result = train_stage(
            model,
            task.stage,
            task.dataset,
            collate if task.collate is None else task.collate(model.card),
            chosen,
            objective=task.objective,
            on_checkpoint=save,
        )
        model = result.model
        if not result.finished:
            return Outcome(model, finished=False)
    return Outcome(model, finished=True)
