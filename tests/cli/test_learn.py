"""`train` and `eval`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from beholder.data.question_file import QuestionFile
from tests.cli.conftest import Run


def test_recipe_gets_its_own_options(run: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text("import sys\nprint(__name__, sys.argv[1:])\nsys.exit(len(sys.argv) - 1)\n")
    shown = run("train", recipe, "--out", "x", "--json")
    assert shown == (3, "__main__ ['--out', 'x', '--json']\n", "")
    assert run("train", recipe).code == 0


def questions(folder: Path, cat: Path) -> Path:
    shutil.copy(cat, folder / "cat.jpg")
    rows = [
        {"picture": "cat.jpg", "question": "What is this?", "answer": "a cat"},
        {"picture": "cat.jpg", "question": "How many?", "answer": "1", "task": "counting"},
    ]
    path = folder / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return path


def test_what_a_recipe_says_at_its_end_is_shown(run: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text("raise SystemExit('no data in this folder')\n")
    assert run("train", recipe) == (1, "", "error: no data in this folder\n")


def test_questions_about_one_picture_are_one_sample(tmp_path: Path, cat: Path) -> None:
    samples = QuestionFile(questions(tmp_path, cat))
    assert len(samples) == 1
    assert [(turn.answer, turn.task) for turn in samples[0].turns] == [("a cat", "all"), ("1", "counting")]
    assert samples[0].pixels.shape == (300, 451, 3)


@pytest.mark.parity
def test_eval_scores_each_task(run: Run, oracle: Callable[[str], Path], tmp_path: Path, cat: Path) -> None:
    path, out = questions(tmp_path, cat), tmp_path / "rows.json"
    given = ("eval", path, "--model", oracle("llava"), "--chat", "llava-hf")
    document = run(*given, "--out", out, "--json").json
    assert {row["task"]: row["model"]["count"] for row in document["rows"]} == {"all": 1, "counting": 1}
    assert all(row["blind"] is not None and row["prior"] is None for row in document["rows"])
    assert json.loads(out.read_text()) == document["rows"]
    shown = run(*given, "--no-blind")
    assert shown.code == 0 and "counting" in shown.out


def test_missing_picture_is_told_by_name(run: Run, tmp_path: Path, cat: Path) -> None:
    path = questions(tmp_path, cat)
    (tmp_path / "cat.jpg").unlink()
    with pytest.raises(ValueError, match=r"mine.jsonl .*cat.jpg"):
        QuestionFile(path)[0]
