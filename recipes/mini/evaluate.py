"""Scores `mini` on what it has not seen: easy-VQA's test questions, new concepts, and a new style of drawing.

    python recipes/mini/evaluate.py --data DIR [--model mini] [--samples 400] [--out results.json]

--data is what prepare.py made. Prints a table; `prior` answers by the question alone, `blind` is the model on grey
pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

import beholder
from beholder.data import EasyVQA, Mixture, Scenes
from beholder.evals import EvalSet, Prior, answer_with, evaluate
from beholder.evals.run import markdown, table, write_json

PRIOR_SAMPLES = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--samples", default=400, type=int, help="pictures of each set")
    parser.add_argument("--out", type=Path, help="JSON file for the results, and a page's table beside it")
    args = parser.parse_args()

    train = Mixture([Scenes(args.data, seed=2), EasyVQA(args.data, "train", questions=4)], [0.8, 0.2])
    prior = Prior.fit(turn for index in range(PRIOR_SAMPLES) for turn in train[index].turns)
    # easy-VQA's questions come ordered by picture, so the first are as good as any.
    sets = (
        EvalSet("easy-vqa", EasyVQA(args.data, "test", questions=4), args.samples),
        EvalSet("new pictures", Scenes(args.data, "train", seed=1000), args.samples),
        EvalSet("new style", Scenes(args.data, "test-style"), args.samples),
        EvalSet("new concepts", Scenes(args.data, "test-concepts"), args.samples),
    )
    answerer = answer_with(beholder.load(args.model))
    console = Console()
    with Progress(console=console) as bar:
        tasks = {}

        def show(what: str, done: int, total: int) -> None:
            task = tasks.setdefault(what, None) or bar.add_task(what, total=total)
            tasks[what] = task
            bar.update(task, completed=done)

        rows = evaluate(answerer, sets, prior=prior, progress=show)
    console.print(table(rows))
    if args.out is not None:
        write_json(rows, args.out)
        args.out.with_suffix(".md").write_text(markdown(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
