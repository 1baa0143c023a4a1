"""`train` runs a recipe, `eval` scores a model's answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beholder.cli import options
from beholder.cli.boundary import report
from beholder.cli.names import DEFAULT
from beholder.cli.output import Json, console, print_json, step_bars
from beholder.errors import BeholderError

if TYPE_CHECKING:
    from beholder.evals import EvalSet, Prior
    from beholder.train.recipe import Recipe

SCENES = {"new pictures": "train", "new concepts": "test-concepts", "new style": "test-style"}  # set -> split
UNSEEN_SEED = 1  # of scenes of known things in pictures that training did not see
PRIOR_SAMPLES = 2000  # of each training set, enough for the most common answer to each wording
STOPPED = 75  # exit code of a run that a signal stopped: try again (EX_TEMPFAIL of sysexits.h)


def train(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe: a Python file that names a card, data and stages.")
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH=VALUE]...",
            help="What to change, such as size=tiny, out=runs/mine or stages.align.steps=100.",
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what each stage would train.")] = False,
) -> None:
    """Train by a recipe, such as recipes/llava.py; one that was stopped goes on where it was when it is run again.

    Under torchrun, several processes train together. A recipe is a program: run only those you trust. What follows one that is
    a whole program of its own, such as recipes/mini/train.py, are its own options; RECIPE --help tells them.
    """
    from beholder.train.recipe import changed, read_recipe
    from beholder.train.recipe import train as run_recipe

    read = read_recipe(recipe)
    if read is None:
        run_program(recipe, arguments or [])
        return
    chosen = changed(read, arguments or [])
    if plan:
        show_plan(chosen)
        return
    from beholder.train.memory import keep_freed_memory
    from beholder.train.processes import joined

    if chosen.device == "cpu":
        keep_freed_memory()
    world = joined(shard=chosen.shard)
    outcome = run_recipe(chosen, world)
    if not world.leads:
        return
    if not outcome.finished:
        console().print(f"stopped; the same command goes on ({chosen.out})")
        raise typer.Exit(STOPPED)
    console().print(f"done: {chosen.out}/trained.safetensors")


def show_plan(recipe: Recipe) -> None:
    """What each stage would train, with counts, on no memory."""
    from beholder.model import build
    from beholder.train.stages import prepare_stage

    model = build(recipe.card, device="meta")
    for lesson in recipe.stages:
        stage = lesson.stage
        samples = stage.batch * stage.accumulate
        console().print(
            f"{stage.name}: {stage.steps:,} steps of {samples} samples, {stage.objective}, {stage.schedule} after "
            f"{stage.warmup} steps, data {lesson.data or 'not given'}"
        )
        console().print(prepare_stage(model, stage).table(), markup=False, highlight=False)


def run_program(file: Path, arguments: list[str]) -> None:
    """Run a recipe that is a whole program."""
    import runpy

    before, sys.argv = sys.argv, [str(file), *arguments]
    try:
        runpy.run_path(str(file), run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            report(end.code)
        raise typer.Exit(end.code if isinstance(end.code, int) else int(end.code is not None)) from None
    finally:
        sys.argv = before


def evaluate(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[QUESTIONS]...",
            help="JSON lines with picture (beside the file), question, answer and, if you like, task.",
        ),
    ] = None,
    model: options.ModelName = DEFAULT,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder that recipes/mini/prepare.py made: its held-out sets and easy-VQA."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Pictures of each set at most.")] = 400,
    blind: Annotated[bool, typer.Option(help="Also ask about grey pictures, to see what is guessed.")] = True,
    batch: Annotated[int, typer.Option(min=1, help="Questions answered together.")] = 32,
    out: Annotated[Path | None, typer.Option(help="Write the rows as JSON here too.")] = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    adapter: options.Adapter = None,
    chat: options.Format = None,
    as_json: Json = False,
) -> None:
    """Score a model's answers, beside what can be answered without looking."""
    from beholder.data.question_file import QuestionFile
    from beholder.evals import EvalSet, answer_with
    from beholder.evals.run import evaluate as score
    from beholder.evals.run import table, write_json

    sets = [EvalSet(path.stem, QuestionFile(path), limit) for path in files or ()]
    prior = None
    if data is not None:
        sets += prepared_sets(data, limit)
        prior = fitted_prior(data)
    if not sets:
        raise BeholderError("nothing to evaluate on; give files of questions, or --data FOLDER")
    answerer = answer_with(options.open_model(model, device, dtype, chat, adapter=adapter))
    with step_bars() as progress:
        rows = score(answerer, sets, prior=prior, with_blind=blind, batch=batch, progress=progress)
    if out is not None:
        write_json(rows, out)
    if as_json:
        print_json({"model": model, "rows": rows})
    else:
        console().print(table(rows))


def prepared_sets(folder: Path, limit: int) -> list[EvalSet]:
    """Pictures that training did not see: of known things, of unknown things, in an unknown style; and easy-VQA."""
    from beholder.data import EasyVQA, Scenes
    from beholder.evals import EvalSet

    scenes = [
        EvalSet(name, Scenes(folder, split, seed=UNSEEN_SEED if split == "train" else 0), limit)
        for name, split in SCENES.items()
    ]
    return [*scenes, EvalSet("easy-VQA", EasyVQA(folder, "test"), limit)]


def fitted_prior(folder: Path) -> Prior:
    """The most common answers of the training sets."""
    from beholder.data import EasyVQA, Scenes
    from beholder.evals import Prior

    sets = (Scenes(folder), EasyVQA(folder, "train"))
    return Prior.fit(
        turn for each in sets for i in range(min(PRIOR_SAMPLES, len(each))) for turn in each[i].turns
    )
