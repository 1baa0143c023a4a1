"""Objectives with a state in the loop: a run that was stopped goes on with the same queue, follower or reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from beholder.cards.schema import Card, Stage, Trains
from beholder.data.samples import Sample, Turn
from beholder.train.collate import Collator
from beholder.train.loop import Collate, Settings, train_stage
from beholder.train.objectives import Distilled, MomentumPairs, Objective, Preferred
from beholder.train.pairs import PairCollator
from tests.toys import DUAL, SEES, byte_tokenizer
from tests.train.learning import pictures, stirred

WORDS = ("a cat", "two", "the sea", "red", "blue", "a dog", "three", "a hill")
STAGE = Stage("learn", rules=(Trains("*", lr=1e-3),), steps=6, batch=4, accumulate=2, warmup=1)


class Pairs:
    """Pictures of noise, each with two answers to one question."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Sample:
        turns = (Turn("What?", WORDS[index], "x"), Turn("What?", WORDS[index - 1], "x"))
        return Sample(pictures(8)[index], turns, str(index))


class Stopped(Exception):
    """In place of a power cut."""


def run(
    card: Card, collate: Collate, objective: Objective, folder: Path, stop: int = 0
) -> dict[str, torch.Tensor]:
    """The weights after the stage; stop: the step after whose checkpoint the run ends."""
    model = stirred(card)

    def saved(_model: object, progress: object) -> None:
        if stop and progress.step == stop:  # type: ignore[attr-defined]
            raise Stopped

    settings = Settings(folder, precision=torch.float32, checkpoint=0.0, workers=2)
    train_stage(model, STAGE, Pairs(), collate, settings, objective=objective, on_checkpoint=saved)
    return dict(model.state_dict())


CASES = {
    "momentum": (DUAL, PairCollator(DUAL, byte_tokenizer()), lambda: MomentumPairs(size=12, momentum=0.9)),
    "preferences": (SEES, Collator(SEES, byte_tokenizer()), lambda: Preferred(beta=1.0)),
    "distillation": (SEES, Collator(SEES, byte_tokenizer()), lambda: Distilled(temperature=2.0, share=0.5)),
    "teacher": (
        SEES,
        Collator(SEES, byte_tokenizer()),
        lambda: Distilled(stirred(SEES, seed=9, spread=0.2)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_stopped_run_ends_with_the_same_weights(case: str, tmp_path: Path) -> None:
    made: Callable[[], Objective]
    card, collate, made = CASES[case]
    whole = run(card, collate, made(), tmp_path / "whole")
    with pytest.raises(Stopped):
        run(card, collate, made(), tmp_path / "parted", stop=3)
    parted = run(card, collate, made(), tmp_path / "parted")
    before = stirred(card).state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in whole.items())
    for name, value in whole.items():
        assert torch.equal(value, parted[name]), name
