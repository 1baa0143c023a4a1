"""Fills the tables of `docs/mini.md` from results, draws learning curves, and asks 30 unselected questions.

    python recipes/mini/page.py --data DIR --results results.json --before v0.json [--curve STEP=results.json ...]

--before: results of the earlier version on the same sets. --curve: results of a run's earlier states, by pictures that its
language model had seen. Questions are the first ones of the first pictures of every test set.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from evaluate import sets_of
from PIL import Image

import beholder
from beholder.evals import answer_with
from beholder.evals.scoring import normalise
from beholder.weights.pull import ASSEMBLIES

DOCS = Path(__file__).resolve().parents[2] / "docs"
CURVES = (
    ("new pictures", "position"),
    ("new pictures", "place"),
    ("new pictures", "box"),
    ("new pictures", "reading"),
)
GOALS = (  # what is measured, sets, tasks, goal
    ("easy-VQA, shape", ("easy-vqa",), "easy-vqa/shape", 97),
    ("easy-VQA, colour", ("easy-vqa",), "easy-vqa/colour", 97),
    ("easy-VQA, yes or no", ("easy-vqa",), "easy-vqa/yes-no", 97),
    ("presence, balanced", ("new pictures", "new style"), "presence", 88),
    ("counting to six", ("new pictures", "new style"), "counting", 90),
    ("left, right, above, below", ("new pictures", "new style"), "position", 85),
    ("where a thing is", ("new pictures", "new style"), "place", 85),
    ("colour", ("new pictures", "new style"), "colour", 95),
    ("naming in a new style", ("new style",), "naming", 50),
    ("the same, aliases too", ("new style",), "naming/or-alias", 60),
    ("boxes", ("new pictures", "new style"), "box", 50),
    ("reading words never seen", ("new pictures", "new style"), "reading", 60),
)
ASKED, ACROSS, SIDE = 30, 6, 150  # questions, pictures in a row of the sheet, pixels of each

Rows = Sequence[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument("--before", required=True, type=Path)
    parser.add_argument("--curve", nargs="*", default=[])
    args = parser.parse_args()
    rows, before = (json.loads(path.read_text(encoding="utf-8")) for path in (args.results, args.before))
    fill("results", results(rows, before))
    fill("goals", goals(rows))
    text = json.loads(args.results.with_suffix(".text.json").read_text(encoding="utf-8"))
    change = 100 * (text["perplexity"] / text["base"] - 1)
    fill(
        "text",
        f"{text['perplexity']:.2f}, of the language model alone {text['base']:.2f} ({change:+.1f} %; goal: 2 %).\n",
    )
    fill("trained", trained(ASSEMBLIES["mini"].trained.with_suffix(".json")))
    fill("samples", samples(args.data, args.model))
    if args.curve:
        draw(dict(pair.split("=", 1) for pair in args.curve), DOCS / "mini-curves.png")


def results(rows: Rows, before: Rows) -> str:
    """A line for each task of each set."""
    old = {(row["set"], row["task"]): row["model"] for row in before}
    lines = ["| set | task | questions | score | prior | blind | v0 |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        scores = (row["model"], row["prior"], row["blind"], old.get((row["set"], row["task"])))
        cells = (row["set"], row["task"], str(row["model"]["count"]), *map(percent, scores))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def goals(rows: Rows) -> str:
    """What was aimed for, and what came of it."""
    found = {(row["set"], row["task"]): row for row in rows}
    lines = ["| skill | goal | score | prior | met |", "|---|---|---|---|---|"]
    for what, sets, task, goal in GOALS:
        chosen = [found[name, task] for name in sets if (name, task) in found]
        shown = (
            " and ".join(f"{100 * row[who]['value']:.0f}" for row in chosen) for who in ("model", "prior")
        )
        met = [100 * row["model"]["value"] >= goal for row in chosen]
        verdict = "yes" if all(met) else "in known styles" if met[0] else "no"
        lines.append(f"| {what} | {goal} | {' | '.join(shown)} | {verdict} |")
    return "\n".join(lines) + "\n"


def trained(facts: Path) -> str:
    """Steps, pictures and minutes of every stage."""
    lines = ["| stage | steps | pictures | minutes |", "|---|---|---|---|"]
    for run in json.loads(facts.read_text(encoding="utf-8"))["runs"]:
        for stage, done in run.items():
            lines.append(f"| {stage} | {done['steps']:,} | {done['pictures']:,} | {done['minutes']} |")
    return "\n".join(lines) + "\n"


def percent(score: dict[str, float] | None) -> str:
    """A share and its standard error in percent; nothing where it was not measured."""
    return "" if score is None else f"{100 * score['value']:.1f} ± {100 * score['error']:.1f}"


def samples(data: Path, model: str) -> str:
    """Asks, draws the sheet `docs/mini-samples.png`, and tells question, truth and answer."""
    chosen = []
    sets = sets_of(data, ASKED)
    for number in range(ASKED):
        sample = sets[number % len(sets)].dataset[number // len(sets)]
        chosen.append((sets[number % len(sets)].name, sample.pixels, sample.turns[0]))
    ask = answer_with(beholder.load(model), max_tokens=48)
    answers = ask([pixels for _, pixels, _ in chosen], [turn.question for _, _, turn in chosen])
    sheet = Image.new("RGB", (ACROSS * SIDE, -(-ASKED // ACROSS) * SIDE))
    lines = ["| | set | question | truth | answer |", "|---|---|---|---|---|"]
    for number, ((name, pixels, turn), answer) in enumerate(zip(chosen, answers, strict=True)):
        tile = Image.fromarray(np.asarray(pixels)).resize((SIDE, SIDE))
        sheet.paste(tile, (number % ACROSS * SIDE, number // ACROSS * SIDE))
        same = "" if normalise(answer) != normalise(turn.answer) else " ✓"
        lines.append(f"| {number + 1} | {name} | {turn.question} | {turn.answer} | {answer.strip()}{same} |")
    sheet.save(DOCS / "mini-samples.png", optimize=True)
    return "\n".join(lines) + "\n"


def draw(curve: dict[str, str], path: Path) -> None:
    """Scores of CURVES over pictures seen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5))
    steps = sorted(curve, key=int)
    for name, task in CURVES:
        scores = []
        for step in steps:
            rows = json.loads(Path(curve[step]).read_text(encoding="utf-8"))
            scores += [row["model"]["value"] for row in rows if (row["set"], row["task"]) == (name, task)]
        axes.plot([int(step) for step in steps], scores, marker="o", label=task)
    axes.set(xlabel="pictures seen by the language model", ylabel="share right", ylim=(0, 1))
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def fill(name: str, text: str) -> None:
    """Puts a text between the page's marks of that name."""
    page = DOCS / "mini.md"
    old = page.read_text(encoding="utf-8")
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    new = re.sub(
        rf"({marks[0]}\n).*?({marks[1]})", lambda match: match[1] + text + match[2], old, flags=re.DOTALL
    )
    page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
