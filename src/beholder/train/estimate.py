"""What a stage will take, before it runs: memory by what it is for, and operations of a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from beholder.data.samples import Item, Sample, Turn
from beholder.model import Model, build
from beholder.on_paper import OnPaper
from beholder.prompts.byte_level import byte_tokenizer
from beholder.train.objectives import named
from beholder.train.recipe import PRECISIONS, Lesson, Recipe, collator, opened
from beholder.train.recompute import recomputed
from beholder.train.resolution import at_side
from beholder.train.stages import Plan, prepare_stage

FULL = 4  # bytes of what trains, of its gradient, and of each of AdamW's two moments
SIDE = (480, 640)  # pixels of the picture that is assumed where no data is given
WORDS = 100  # tokens of its question and answer
LOOKED_AT = 4  # samples that stand for a batch; work and memory grow with their number


@dataclass(frozen=True)
class StageCost:
    """One stage. trained, values: parameters that train, and all. Bytes of weights, gradients, AdamW's moments, a moving
    average, and of what one batch computes and remembers (activations), of which `at_a_time` are worked on; operations, tokens
    and samples of a step.
    """

    stage: str
    trained: int
    values: int
    weights: int
    gradients: int
    moments: int
    average: int
    activations: int
    at_a_time: int
    operations: int
    tokens: int
    samples: int
    steps: int

    @property
    def memory(self) -> int:
        """Of one process, without the program and what waits to be trained on."""
        fixed = self.weights + self.gradients + self.moments + self.average
        return fixed + self.activations * self.at_a_time

    def seconds(self, rate: float) -> float:
        """Of a step, where products run at `rate` operations a second and nothing else takes time."""
        return self.operations / rate


def stage_costs(recipe: Recipe, *, workers: int = 1, words: int = WORDS) -> list[StageCost]:
    """The costs of a recipe's stages, on no memory. A stage's first samples stand for all; one without data has pictures of
    640x480 pixels with questions and answers of `words` tokens. workers: batches that are worked on at a time.

    Raises `BeholderError` for models whose work depends on values, and for stages that cannot be run.
    """
    model = build(recipe.card, device="meta")
    costs = []
    for lesson in recipe.stages:
        if lesson.stage.side:
            model = at_side(model, lesson.stage.side)
        costs.append(_stage_cost(model, lesson, recipe, workers, words))
    return costs


def _stage_cost(model: Model, lesson: Lesson, recipe: Recipe, workers: int, words: int) -> StageCost:
    stage, precision = lesson.stage, PRECISIONS[recipe.precision]
    plan = prepare_stage(model, stage)
    trained = sum(group.num_values for group in plan.groups)
    values = sum(parameter.numel() for parameter in model.parameters())
    samples = _first_samples(lesson, words)
    item = collator(model.card, byte_tokenizer(), lesson)(samples)
    times = stage.batch / len(samples)
    objective = named(stage.objective, byte_tokenizer())
    model = model.to(precision).train()
    with OnPaper() as paper, recomputed(model, recipe.recompute):
        loss = objective(model, item)
        forward = paper.peak
        gradients = torch.autograd.grad(loss, list(plan.trained.values()), allow_unused=True)
    given = sum(gradient.nbytes for gradient in gradients if gradient is not None)
    ids_BT = item.batch.ids_BT
    return StageCost(
        stage.name,
        trained,
        values,
        weights=_weights(model, plan, precision),
        gradients=FULL * trained,
        moments=2 * FULL * trained,
        average=FULL * trained if stage.ema else 0,
        activations=round(times * max(forward, paper.peak - given)),
        at_a_time=min(workers, stage.accumulate),
        operations=round(times * paper.flops * stage.accumulate),
        tokens=0 if ids_BT is None else round(times * ids_BT.numel() * stage.accumulate),
        samples=stage.batch * stage.accumulate,
        steps=stage.steps,
    )


def _weights(model: Model, plan: Plan, precision: torch.dtype) -> int:
    """What trains and what sees is float32; frozen language weights are kept in the precision of products."""
    trained = plan.trained
    return sum(
        parameter.numel()
        * (precision.itemsize if name.startswith("languages.") and name not in trained else FULL)
        for name, parameter in model.named_parameters()
    )


def _first_samples(lesson: Lesson, words: int) -> list[Item]:
    count = min(lesson.stage.batch, LOOKED_AT)
    if lesson.data:
        dataset = opened(lesson, lesson.data)
        return [dataset[index % len(dataset)] for index in range(count)]
    pixels = np.zeros((*SIDE, 3), np.uint8)
    turn = Turn("q" * (words // 2), "a" * (words - words // 2), "assumed")
    return [Sample(pixels, (turn,), f"assumed {index}") for index in range(count)]
