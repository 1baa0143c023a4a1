"""Runs an evaluation and shows its results: per set and task the score, and beside it what needs no picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from beholder.data import tasks as known_tasks
from beholder.evals.answerers import Answerer, blind
from beholder.evals.prior import Prior
from beholder.evals.scoring import Score, score
from beholder.evals.tasks import EvalSet, Question
from beholder.files import write_text_atomic

Report = Callable[[str, int, int], None]  # what is being answered, questions done, questions in all


@dataclass(frozen=True)
class Row:
    """One task of one set. prior: the question-only prior. blind: the same model on grey pictures. None: not run."""

    set: str
    task: str
    model: Score
    prior: Score | None = None
    blind: Score | None = None


def evaluate(
    answerer: Answerer,
    sets: Iterable[EvalSet],
    *,
    prior: Prior | None = None,
    with_blind: bool = True,
    batch: int = 32,
    progress: Report | None = None,
) -> list[Row]:
    """Scores of every task of every set, in the order of reports. batch: questions answered together."""
    rows = []
    for each in sets:
        questions = list(each.questions())
        given = {"model": _answers(answerer, questions, batch, f"{each.name}", progress)}
        if with_blind:
            given["blind"] = _answers(blind(answerer), questions, batch, f"{each.name}, blind", progress)
        if prior is not None:
            given["prior"] = _answers(prior, questions, batch, f"{each.name}, prior", None)
        for task in _in_order({question.task for question in questions}):
            chosen = [i for i, question in enumerate(questions) if question.task == task]
            asked = [questions[i] for i in chosen]
            scores = {who: score(task, asked, [answers[i] for i in chosen]) for who, answers in given.items()}
            rows.append(Row(each.name, task, **scores))
    return rows


def write_json(rows: Sequence[Row], path: str | Path) -> None:
    """The rows as a JSON list."""
    write_text_atomic(path, json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal; shares in percent, with standard errors."""
    shown = Table("set", "task", "questions", "score", "prior", "blind")
    for row in rows:
        shown.add_row(
            row.set, row.task, str(row.model.count), *map(_percent, (row.model, row.prior, row.blind))
        )
    return shown


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table for a page."""
    lines = ["| set | task | questions | score | prior | blind |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = (row.set, row.task, str(row.model.count), *map(_percent, (row.model, row.prior, row.blind)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _answers(
    answerer: Answerer, questions: Sequence[Question], batch: int, what: str, progress: Report | None
) -> list[str]:
    given: list[str] = []
    for first in range(0, len(questions), batch):
        some = questions[first : first + batch]
        given += answerer([question.pixels for question in some], [question.question for question in some])
        if progress is not None:
            progress(what, len(given), len(questions))
    return given


def _in_order(tasks: set[str]) -> list[str]:
    order = known_tasks()
    return sorted(tasks, key=lambda task: (order.index(task) if task in order else len(order), task))


def _percent(score: Score | None) -> str:
    return "" if score is None else f"{100 * score.value:.1f} ± {100 * score.error:.1f}"
