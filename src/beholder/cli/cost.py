"""`cost`: what a system or a training run takes, before anything is downloaded or started."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beholder.cli.names import complete_model
from beholder.cli.output import Json, console, print_json
from beholder.errors import BeholderError

if TYPE_CHECKING:
    from beholder.train.estimate import StageCost
    from beholder.train.recipe import Recipe

GIB = 2**30
UTILISED = 0.5  # share of the rate of large products that training steps reach, roughly


def cost(
    target: Annotated[
        str, typer.Argument(help="A card's name or a recipe's file.", autocompletion=complete_model)
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH=VALUE]...", help="What to change, as for beholder train."),
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Of each stage of training.")] = False,
    words: Annotated[int, typer.Option(min=2, help="Tokens of words with a picture, without data.")] = 100,
    rate: Annotated[
        float | None,
        typer.Option(help="Operations a second of large products, in 1e12; measured here where not given."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that a step is dealt out to.")] = 1,
    as_json: Json = False,
) -> None:
    """Tell memory and time of each stage of a training run before it begins, on no memory.

    A card's stages are costed as published. Memory is that of one process, without the program itself; times assume half the
    rate of large products.
    """
    if not train:
        raise BeholderError(
            "tell what is to be costed: add --train; `beholder show NAME` tells parameters and sizes"
        )
    from beholder.train.estimate import stage_costs

    recipe = _recipe(target, settings or [])
    workers = _workers(recipe)
    measured = (rate or _measured(recipe)) * 1e12
    costs = stage_costs(recipe, workers=workers, words=words)
    rows = [_row(each, recipe, measured, processes) for each in costs]
    if as_json:
        print_json({"card": recipe.card.name, "operations_a_second": measured, "stages": rows})
        return
    console().print(_table(recipe, rows))
    console().print(
        f"at {UTILISED:.0%} of {measured / 1e12:.3g} Tflop/s {'given' if rate else 'measured here'}, "
        f"{processes} process{'es' if processes > 1 else ''}; recompute=true takes less memory for a third more time"
    )


def _recipe(target: str, settings: list[str]) -> Recipe:
    from beholder.cards import card
    from beholder.train.recipe import Lesson, Recipe, changed, read_recipe

    if target.endswith(".py"):
        read = read_recipe(Path(target))
        if read is None:
            raise BeholderError(f"{target} is a whole program; give a recipe with RECIPE, or a card's name")
        return changed(read, settings)
    chosen = card(target)
    if not chosen.stages:
        raise BeholderError(f"{chosen.name} has no stages of training; give a recipe")
    return changed(Recipe(chosen, tuple(Lesson(stage) for stage in chosen.stages)), settings)


def _workers(recipe: Recipe) -> int:
    import os

    from beholder.bench.machine import describe

    return int(describe()["cores"] or os.cpu_count() or 1) if recipe.device == "cpu" else 1


def _measured(recipe: Recipe) -> float:
    from beholder.bench.machine import product_rate
    from beholder.train.recipe import PRECISIONS

    return product_rate(PRECISIONS[recipe.precision], recipe.device) / 1e12


def _row(each: StageCost, recipe: Recipe, rate: float, processes: int) -> dict[str, object]:
    shared = processes if recipe.shard else 1
    fixed = (each.weights + each.gradients + each.moments + each.average) / shared
    batches = max(1, min(each.at_a_time, each.at_a_time // processes or 1))
    step = each.seconds(rate * UTILISED) / processes
    return {
        **asdict(each),
        "memory": round(fixed + each.activations * batches),
        "step_seconds": step,
        "hours": step * each.steps / 3600,
    }


def _table(recipe: Recipe, rows: list[dict[str, object]]) -> object:
    from rich.table import Table

    table = Table(title=f"{recipe.card.name}: training, GiB and seconds")
    columns = (
        *("stage", "trains", "weights", "gradients", "moments", "a batch", "at a time", "memory"),
        *("tokens a step", "Tflop a step", "s a step", "hours"),
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "stage" else "right")
    for row in rows:
        gib = {name: f"{float(str(row[name])) / GIB:.2f}" for name in BYTES}
        table.add_row(
            str(row["stage"]),
            f"{row['trained']:,}",
            gib["weights"],
            gib["gradients"],
            gib["moments"],
            gib["activations"],
            str(row["at_a_time"]),
            gib["memory"],
            f"{row['tokens']:,}",
            f"{float(str(row['operations'])) / 1e12:.3g}",
            f"{row['step_seconds']:.3g}",
            f"{row['hours']:.3g}",
        )
    return table


BYTES = ("weights", "gradients", "moments", "activations", "memory")
