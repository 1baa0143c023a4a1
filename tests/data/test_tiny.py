"""The small data set that recipes are tried on: whole, apart from its held-out rows, and small."""

from __future__ import annotations

from pathlib import Path

import pytest

from beholder.data.check import NOTES, check
from beholder.data.readers.open import Records, open_rows
from beholder.model import build
from beholder.train.collate import Collator
from beholder.train.objectives import next_token
from tests.toys import DECODER, SEES, byte_tokenizer
from tests.train.toys_of_media import ALL_KINDS

HOME = Path(__file__).parents[2] / "recipes" / "tiny"
ROWS = {"captions": 180, "instruct": 220, "interleaved": 60, "clips": 24, "sounds": 4, "held-out": 30}


@pytest.mark.parametrize("name", ROWS)
def test_nothing_is_wrong_with_it(name: str) -> None:
    collator = Collator(ALL_KINDS, byte_tokenizer())
    data = Records(open_rows(HOME / f"{name}.json"))
    report = check(data, collator=collator)
    assert (report.rows, report.problems) == (ROWS[name], 0), report.shown
    assert set(report.counts) <= set(NOTES)


def test_held_out_pictures_are_in_no_other_file() -> None:
    shown = {
        name: {source for index in range(len(data)) for source in data.record(index).sources}
        for name, data in ((name, Records(open_rows(HOME / f"{name}.json"))) for name in ROWS)
    }
    kept = {path.read_bytes() for path in shown.pop("held-out")}
    assert not kept & {path.read_bytes() for paths in shown.values() for path in paths}


def test_it_is_small_and_trains() -> None:
    files = [path for path in HOME.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_500_000
    data, chosen = Records(open_rows(HOME / "instruct.json")), SEES.but(language=DECODER.but(context=512))
    batch = Collator(chosen, byte_tokenizer(), tokens=512)([data[index] for index in range(24)])
    next_token(build(chosen), batch).backward()
