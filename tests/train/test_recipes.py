"""Every recipe: its rules decide something at full size, and at tiny size it teaches a small model what the tiny data holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from beholder.model import build
from beholder.train.objectives import named
from beholder.train.recipe import Recipe, changed, read_recipe, train
from beholder.train.resolution import card_at
from beholder.train.stages import prepare_stage

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
CARDS = {
    "blip_2": "blip-2-pretrain-vit-g",
    "blip_2_generate": "blip-2-opt-2.7b",
    "clip": "clip-l-14",
    "cogvlm": "cogvlm-chat",
    "flamingo": "openflamingo-3b",
    "llava": "llava-7b",
    "llava_1_5": "llava-1.5-7b",
    "mobilevlm": "mobilevlm-1.7b",
    "paligemma": "paligemma-3b-224",
    "qwen2_5_vl": "qwen2.5-vl-7b",
    "qwen2_audio": "qwen2-audio-7b",
    "qwen_vl": "qwen-vl-chat",
    "siglip": "siglip-b-16-224",
}
NAMES = sorted(CARDS)
QUICK = {"llava_1_5", "clip", "blip_2", "flamingo", "paligemma"}  # the others are `large`


def recipe(name: str) -> Recipe:
    found = read_recipe(FOLDER / f"{name}.py")
    assert found is not None
    return found


def test_the_published_recipes_are_there() -> None:
    assert {file.stem for file in FOLDER.glob("*.py")} == set(NAMES)
    assert {name: recipe(name).card.name for name in NAMES} == CARDS


@pytest.mark.parametrize("name", NAMES)
def test_its_rules_decide_something_at_full_size(name: str) -> None:
    chosen = recipe(name)
    for lesson in chosen.stages:
        if lesson.stage.side:
            card_at(chosen.card, lesson.stage.side)
        if not lesson.stage.objective.startswith("masked"):
            named(lesson.stage.objective)
        plan = prepare_stage(build(chosen.card, device="meta"), lesson.stage)
        assert sum(group.num_values for group in plan.groups) > 0
        assert lesson.stage.data and lesson.small


@pytest.mark.evidence("trains")
@pytest.mark.parametrize(
    ("name", "card_name"),
    [
        (name, held) if name in QUICK else pytest.param(name, held, marks=pytest.mark.large)
        for name, held in sorted(CARDS.items())
    ],
)
def test_it_teaches_a_tiny_model(name: str, card_name: str, tmp_path: Path) -> None:
    chosen = changed(recipe(name), ["size=tiny", f"out={tmp_path}", "board=false"])
    assert train(chosen).finished and chosen.card.name == card_name
    learned: set[str] = set()  # data that an earlier stage has taught already
    for lesson in chosen.stages:
        lines = (tmp_path / lesson.name / "metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line)["loss"] for line in lines]
        assert len(losses) == lesson.stage.steps
        speaks = any(rule.matches("languages.main.blocks.0.attn.q.weight") for rule in lesson.stage.rules)
        fall = (
            1.05 if lesson.data in learned else 0.9 if speaks else 1.0
        )  # what is frozen is random at this size
        assert np.mean(losses[-8:]) < fall * np.mean(losses[:4]), lesson.name
        learned.add(lesson.data)
