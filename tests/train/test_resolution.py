"""Stages at other resolutions: tables are resized, the rest is what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from beholder.errors import BeholderError
from beholder.model import build
from beholder.train.checkpoints import checkpoints
from beholder.train.collate import Collator
from beholder.train.resolution import at_side, card_at
from beholder.train.run import Task, run
from tests.toys import SEES, byte_tokenizer
from tests.train.test_loop import COLLATE, STAGE, Plain, settings


def test_only_the_table_of_places_changes() -> None:
    model = build(SEES)
    side = model.card.branch().encoders[0].image_size
    larger = at_side(model, 2 * side)
    changed = [
        name
        for name, value in larger.state_dict().items()
        if not torch.equal(value, model.state_dict().get(name, value[:0]))
    ]
    assert changed == ["branches.image.vision.positions"]
    vision = larger.get_submodule("branches.image.vision")
    assert len(vision.positions) - vision.placed == 4 * (len(model.get_parameter(changed[0])) - vision.placed)
    assert at_side(model, side) is model
    back = at_side(larger, side).get_parameter(changed[0])
    assert torch.cosine_similarity(back.flatten(), model.get_parameter(changed[0]).flatten(), dim=0) > 0.9


def test_a_side_of_broken_patches_is_refused() -> None:
    with pytest.raises(
        BeholderError, match="15 pixels per side are no whole number of patches of 14; take 14"
    ):
        card_at(SEES, 15)


def test_a_run_through_two_resolutions_goes_on_in_the_second(tmp_path: Path) -> None:
    side = SEES.branch().encoders[0].image_size
    small, large = (
        STAGE.but(name="small", steps=2, side=side),
        STAGE.but(name="large", steps=2, side=2 * side),
    )

    def collate(card):  # type: ignore[no-untyped-def]
        return Collator(card, byte_tokenizer())

    tasks = [Task(stage, Plain(), collate=collate) for stage in (small, large)]
    first = run(build(SEES), COLLATE, tasks, tmp_path, settings=settings(tmp_path))
    assert first.finished and first.model.card.branch().encoders[0].image_size == 2 * side
    longer = [tasks[0], Task(large.but(steps=3), Plain(), collate=collate)]
    again = run(build(SEES), COLLATE, longer, tmp_path, settings=settings(tmp_path))
    assert again.finished and checkpoints(tmp_path / "large")[0].name == "checkpoint-00000003"
