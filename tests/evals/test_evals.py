"""Scores mean what they say, and what needs no picture is known."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from beholder.data.samples import Sample, Turn
from beholder.evals import EvalSet, Prior, Question, answer_with, blind, evaluate
from beholder.evals.run import markdown, table, write_json
from beholder.evals.scoring import is_right, normalise, score
from beholder.model import build
from beholder.pipeline import Pipeline
from beholder.prompts.messages import Picture
from tests.toys import SEES, byte_tokenizer

NAMES = ("cat", "dog", "owl", "bus")


class Pictures:
    """Pictures whose first pixel says what they show; every other shows nothing but a question of presence."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Sample:
        pixels = np.full((8, 8, 3), index % 4, np.uint8)
        name = NAMES[index % 4]
        turns = (
            Turn("What is this?", name, "naming"),
            Turn("Is there a cat?", "yes" if name == "cat" else "no", "presence"),
            Turn("Describe it.", f"a {name}", "caption"),
        )
        return Sample(pixels, turns, f"pictures/{index}")


def looks(pictures: Sequence[np.ndarray], questions: Sequence[str]) -> list[str]:
    """Always right, in its own words."""
    names = [NAMES[pixels[0, 0, 0]] if pixels[0, 0, 0] < 4 else "?" for pixels in pictures]
    return [
        f"A {name.title()}." if question.startswith("What") else ("Yes" if name == "cat" else "No.")
        for name, question in zip(names, questions, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The Cat.", "cat"),
        ("  three ", "3"),
        ("Grey!", "gray"),
        ("top-left", "top left"),
        ("middle", "center"),
    ],
)
def test_answers_are_compared_without_dress(text: str, plain: str) -> None:
    assert normalise(text) == plain
    assert is_right(text, plain) and not is_right(text, plain + " x")


@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def asked(answers: Sequence[str], task: str, per_picture: int = 1) -> list[Question]:
    pixels = np.zeros((1, 1, 3), np.uint8)
    return [Question(pixels, "?", a, task, f"p{i // per_picture}") for i, a in enumerate(answers)]


def test_accuracy_and_its_error() -> None:
    result = score("naming", asked(["cat"] * 10, "naming"), ["cat"] * 8 + ["dog"] * 2)
    assert result.value == 0.8 and result.count == 10
    assert result.error == pytest.approx(math.sqrt(0.8 * 0.2 / 10))


def test_questions_about_one_picture_are_not_independent() -> None:
    given_answers = ["cat"] * 8 + ["dog"] * 2
    apart = score("naming", asked(["cat"] * 10, "naming"), given_answers)
    together = score("naming", asked(["cat"] * 10, "naming", per_picture=2), given_answers)
    assert together.error == pytest.approx(apart.error * math.sqrt(2))


def test_always_yes_scores_a_half_at_presence() -> None:
    questions = asked(["yes"] * 9 + ["no"], "presence")
    assert score("presence", questions, ["yes"] * 10).value == 0.5
    assert score("presence", questions, ["yes"] * 9 + ["No."]).value == 1.0


def test_the_prior_knows_wordings_not_names() -> None:
    rng = np.random.default_rng(0)
    plurals = [f"thing{i}s" for i in range(300)]
    turns = [
        Turn(f"How many {rng.choice(plurals)} are there?", "2" if i % 3 else "5", "counting")
        for i in range(300)
    ]
    turns += [
        Turn(f"Is the {rng.choice(plurals)} on the left or the right?", "left", "position")
        for _ in range(100)
    ]
    prior = Prior.fit(turns)
    picture = np.zeros((1, 1, 3), np.uint8)
    questions = ["How many golden retrievers are there?", "Is the owl on the left or the right?", "Who won?"]
    assert prior([picture] * 3, questions) == ["2", "left", "2"]


def test_evaluation_has_a_row_per_task_with_prior_and_blind(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    prior = Prior.fit([turn for i in range(40) for turn in Pictures()[i].turns])
    sets = [EvalSet("pictures", Pictures(), limit=20), EvalSet("all", Pictures(), limit=None)]
    rows = evaluate(looks, sets, prior=prior, batch=7, progress=lambda *step: seen.append(step))
    assert [(row.set, row.task) for row in rows] == [
        ("pictures", "naming"),
        ("pictures", "presence"),
        ("all", "naming"),
        ("all", "presence"),
    ]
    naming, presence = rows[2:]
    assert naming.model.value == presence.model.value == 1 and naming.model.count == 40
    assert naming.prior is not None and naming.prior.value == 0.25
    assert presence.prior is not None and presence.prior.value == 0.5
    assert naming.blind is not None and naming.blind.value == 0
    assert seen[0] == ("pictures", 7, 40) and ("all, blind", 80, 80) in seen
    write_json(rows, tmp_path / "rows.json")
    assert json.loads((tmp_path / "rows.json").read_text())[2]["prior"]["value"] == 0.25
    console = Console(width=100, record=True, quiet=True)
    console.print(table(rows))
    assert "| all | naming | 40 | 100.0 ± 0.0 | 25.0" in markdown(rows)


def test_blind_shows_grey_pictures_of_the_same_size() -> None:
    shown: list[np.ndarray] = []

    def remembers(pictures: Sequence[np.ndarray], questions: Sequence[str]) -> list[str]:
        shown.extend(pictures)
        return list(questions)

    black, tall = np.zeros((3, 5, 3), np.uint8), np.zeros((5, 3, 3), np.uint8)
    answerer = blind(remembers)
    assert answerer([black, black, tall, black], ["a", "b", "a", "a"]) == ["a", "b", "a", "a"]
    assert [pixels.shape for pixels in shown] == [(3, 5, 3), (3, 5, 3), (5, 3, 3)]
    assert all((pixels == 127).all() for pixels in shown)
    assert answerer([black], ["a"]) == ["a"] and len(shown) == 3


def test_a_model_answers_as_its_pipeline_does() -> None:
    pipeline = Pipeline(build(SEES), byte_tokenizer())
    pictures = [np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8) for i in range(3)]
    given_answers = answer_with(pipeline, max_tokens=4)(pictures, ["a?", "which is it?", "b"])
    alone = [str(pipeline.ask(p, q, max_tokens=4)) for p, q in zip(pictures, ["a?", "which is it?", "b"])]
    assert given_answers == alone
    assert isinstance(Picture(pictures[0]).source, np.ndarray)
