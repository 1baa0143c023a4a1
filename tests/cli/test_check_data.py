"""`check-data`: every bad row is found, named and counted, and a good file passes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beholder.data.check import NOTES, SHOWN, check
from beholder.data.histogram import histogram
from beholder.data.readers.open import Records, open_rows
from beholder.train.collate import Collator
from tests.cli.conftest import Run
from tests.toys import SEES, byte_tokenizer


def row(image: Any = "0.png", said: str = "<image>\nWhat?", answer: str = "Dots.") -> dict[str, Any]:
    turns = [{"from": "human", "value": said}, {"from": "gpt", "value": answer}]
    return {"image": image, "conversations": turns}


BAD = {
    "missing picture": row("none.png"),
    "broken picture": row("cut.png"),
    "marks": row(said="What?"),
    "empty answer": row(answer=" "),
    "no answer": {"conversations": [{"from": "human", "value": "Hm?"}]},
    "unknown role": {"conversations": [{"from": "cat", "value": "Hm?"}]},
    "wrong type": row(image=4),
    "unknown form": {"name": "x"},
    "too long": row(answer="x" * 300),
    "cannot be written": {
        "conversations": [{"from": "gpt", "value": "a"}, {"from": "system", "value": "Hm?"}]
    },
    "duplicate picture": row("same.png"),
    "duplicate row": row(),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    shutil.copy(tmp_path / "0.png", tmp_path / "same.png")
    return tmp_path


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.json"
    path.write_text(json.dumps(rows))
    return path


def test_every_kind_of_problem_is_found(folder: Path) -> None:
    path = written(folder, [row(), *BAD.values(), {"text": "plain words"}])
    report = check(Records(open_rows(path)), collator=Collator(SEES, byte_tokenizer()))
    assert set(report.counts) == set(BAD)
    assert report.problems == len(BAD) - len(NOTES)
    for number, kind in enumerate(BAD, start=2):
        (found,) = report.shown[kind]
        assert (found.place.file, found.place.number) == (str(path), number) and found.remedy
    assert report.text_only == 3 and report.distinct == 1
    quick = check(Records(open_rows(path)), quick=True)
    assert set(BAD) - set(quick.counts) == {"broken picture", "too long", "cannot be written"}


def test_lengths_are_those_of_training(folder: Path) -> None:
    collator = Collator(SEES, byte_tokenizer())
    data = Records(
        open_rows(written(folder, [row(), row("1.png", answer="A longer one."), {"text": "words"}]))
    )
    report = check(data, collator=collator)
    assert report.tokens == [collator([data[i]]).batch.lengths[0] for i in range(3)]
    assert report.media == [4, 4, 0] and report.at == [0, 1, 2]


def test_problems_are_counted_and_the_first_ones_shown(folder: Path) -> None:
    report = check(Records(open_rows(written(folder, [row("none.png", answer=f"{n}") for n in range(700)]))))
    assert report.counts == {"missing picture": 700}
    assert [one.place.number for one in report.shown["missing picture"]] == list(range(1, SHOWN + 1))


def test_the_command(run: Run, folder: Path) -> None:
    good = written(folder, [row(), row("1.png")])
    passed = run("check-data", good)
    assert passed.code == 0 and "2 rows" in passed.out and "no problems" in passed.out
    (folder / "bad.json").write_text(json.dumps([row(), row("none.png")]))
    failed = run("check-data", f"mix:{good}=2,{folder / 'bad.json'}=1")
    assert failed.code == 1 and "bad.json row 2, image" in failed.out and "1 problems" in failed.out
    document = run("check-data", folder / "bad.json", "--json")
    assert document.code == 1
    (shown,) = document.json["data"][str(folder / "bad.json")]["shown"]
    assert (shown["row"], shown["field"], shown["kind"]) == (2, "image", "missing picture")


def test_the_command_with_a_card(run: Run, folder: Path) -> None:
    home, out = folder / "tokenizer", folder / "lengths.png"
    byte_tokenizer().save(home)
    path = written(folder, [row(), row("1.png")])
    given = ("check-data", path, "--card", "llava-1.5-7b", "--tokenizer", home, "--histogram", out)
    shown = run(*given)
    assert shown.code == 0 and "llava-1.5-7b reads at most 4,096 tokens" in shown.out
    assert Image.open(out).size == (840, 360)
    run("check-data", path, "--card", "llava-1.5-7b").assert_refused("--tokenizer")
    run("check-data", path, "--histogram", out).assert_refused("--card")
    run("check-data", folder / "none.json").assert_refused("no such file")


def test_the_histogram_has_bars_and_its_limit() -> None:
    drawn = histogram([5, 5, 9, 100], "title", limit=90)
    assert drawn.shape == (360, 840, 3)
    assert (drawn == (64, 108, 176)).all(-1).any() and (drawn == (190, 60, 50)).all(-1).any()
    assert not (histogram([5, 9], "title", limit=90) == (190, 60, 50)).all(-1).any()
    with pytest.raises(ValueError, match="no values"):
        histogram([], "title")
