"""Lengths are those of training, and kept as long as nothing that they depend on changes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beholder.data import Packed, Sample, Turn
from beholder.data.lengths import lengths, signature
from beholder.data.readers.open import Records, open_rows
from beholder.errors import BeholderError
from beholder.train.collate import Collator
from tests.toys import SEES, TILES, byte_tokenizer


def written(folder: Path, count: int = 6) -> Path:
    Image.fromarray(np.zeros((30, 70, 3), np.uint8)).save(folder / "a.png")
    rows = [
        {"image": "a.png", "text": "x" * number}
        if number % 2
        else {"question": "?" * number, "answer": "yes"}
        for number in range(1, count + 1)
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "rows.jsonl"


@pytest.mark.parametrize("chosen", [SEES, TILES])
def test_they_are_those_of_training(chosen, tmp_path: Path) -> None:
    data, collate = Records(open_rows(written(tmp_path))), Collator(chosen, byte_tokenizer())
    counted = lengths(data, collate)
    batch = collate([data[index] for index in range(6)]).batch
    assert tuple(counted.tokens) == batch.lengths
    assert counted.media.tolist() == [sum(plan.num_tokens for plan in plans) for plans in batch.plans]
    again = lengths([data[index] for index in range(6)], collate)
    assert np.array_equal(again.tokens, counted.tokens)
    order = Packed(data, counted.tokens, 0, 1, tokens=int(counted.tokens.sum()), window=6)
    assert (
        len(
            Collator(chosen, byte_tokenizer(), tokens=10_000)(
                [data[n] for n in next(order.batches())]
            ).batch.lengths
        )
        == 1
    )


def test_samples_take_the_room_of_all_their_questions() -> None:
    turns = (Turn("What?", "a", "x"), Turn("Which one?", "b", "x"))
    sample, collate = Sample(np.zeros((28, 28, 3), np.uint8), turns, "a"), Collator(SEES, byte_tokenizer())
    assert lengths([sample], collate).tokens.tolist() == list(collate([sample]).batch.lengths)


def test_they_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, kept = written(tmp_path), tmp_path / "kept" / "lengths.npz"
    data, collate = Records(open_rows(path)), Collator(SEES, byte_tokenizer())
    first = lengths(data, collate, kept=kept)
    with monkeypatch.context() as patch:
        patch.setattr(Collator, "measure", lambda *_: pytest.fail("counted again"))
        assert np.array_equal(lengths(data, collate, kept=kept).tokens, first.tokens)
    marks = {signature(data, collate), signature(data, Collator(TILES, byte_tokenizer()))}
    marks.add(signature(Records(open_rows(path), caption="Tell."), collate))
    os.utime(path, ns=(1, 1))
    marks.add(signature(data, collate))
    assert len(marks) == 4
    kept.write_bytes(b"no numbers")
    assert np.array_equal(lengths(data, collate, kept=kept).tokens, first.tokens)


def test_rows_are_named(tmp_path: Path) -> None:
    data, collate = Records(open_rows(written(tmp_path))), Collator(SEES, byte_tokenizer())
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(BeholderError, match=r"rows.jsonl line 1, image: .*text is not a picture"):
        lengths(data, collate)
    (tmp_path / "a.png").unlink()
    with pytest.raises(BeholderError, match=r"rows.jsonl line 1, image: .*does not exist"):
        lengths(data, collate)
