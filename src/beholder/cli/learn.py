"""`train` runs a recipe, `eval` scores a model's answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beholder.cli import options
from beholder.cli.boundary import report
from beholder.cli.names import DEFAULT
from beholder.cli.output import Json, console, print_json, step_bars
from beholder.errors import BeholderError

if TYPE_CHECKING:
    from beholder.data import Sample
    from beholder.evals import EvalSet, Prior

SCENES = {"new pictures": "train", "new concepts": "test-concepts", "new style": "test-style"}  # set -> split
UNSEEN_SEED = 1  # of scenes of known things in pictures that training did not see
PRIOR_SAMPLES = 2000  # of each training set, enough for the most common answer to each wording
FIELDS = ("picture", "question", "answer")


def train(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe: a Python file that names a card, data and stages.")
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[OPTIONS OF THE RECIPE]...", help="Passed on as they are.")
    ] = None,
) -> None:
    """Run a recipe, such as recipes/mini/train.py; RECIPE --help tells its options.

    A recipe is a program: run only those you trust. One that was stopped goes on where it was when it is run again.
    """
    import runpy

    if not recipe.is_file():
        raise BeholderError(f"{recipe}: no such recipe; give a Python file, such as recipes/mini/train.py")
    before, sys.argv = sys.argv, [str(recipe), *(arguments or ())]
    try:
        runpy.run_path(str(recipe), run_name="__main__")
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
    chat: options.Format = None,
    as_json: Json = False,
) -> None:
    """Score a model's answers, beside what can be answered without looking."""
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
    answerer = answer_with(options.open_model(model, device, dtype, chat))
    with step_bars() as progress:
        rows = score(answerer, sets, prior=prior, with_blind=blind, batch=batch, progress=progress)
    if out is not None:
        write_json(rows, out)
    if as_json:
        print_json({"model": model, "rows": rows})
    else:
        console().print(table(rows))


class QuestionFile:
    """Questions from a file of JSON lines; those that follow each other about one picture are one sample.

    Raises `BeholderError` that names the file and the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.samples: list[tuple[str, list[dict[str, str]]]] = []
        for row in self._rows():
            if not self.samples or self.samples[-1][0] != row["picture"]:
                self.samples.append((row["picture"], []))
            self.samples[-1][1].append(row)
        if not self.samples:
            raise BeholderError(f"{path}: holds no questions; write one JSON object a line")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        from beholder.data.samples import Sample, Turn
        from beholder.media.decode import decode

        picture, rows = self.samples[index]
        turns = tuple(Turn(row["question"], row["answer"], row.get("task", "all")) for row in rows)
        return Sample(decode(self.path.parent / picture, name=self.path.name), turns, picture)

    def _rows(self) -> Iterator[dict[str, str]]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise BeholderError(f"{self.path}: no such file of questions; check the path") from None
        except UnicodeDecodeError:
            raise BeholderError(f"{self.path}: is not text; give one JSON object a line") from None
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise BeholderError(f"{self.path} line {number}: not JSON ({error.msg})") from None
            lacks = [
                name for name in FIELDS if not isinstance(row, dict) or not isinstance(row.get(name), str)
            ]
            if lacks:
                raise BeholderError(f"{self.path} line {number}: has no text under {', '.join(lacks)}")
            yield row


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
