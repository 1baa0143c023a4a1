"""Recipes: read from files, changed from the command line, run at tiny size, resumed, refused with the path that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from beholder.cards import card
from beholder.cli.app import app
from beholder.errors import BeholderError, UnknownName
from beholder.model import build
from beholder.train.recipe import (
    TINY_RATE,
    Lesson,
    Recipe,
    Start,
    changed,
    put_part,
    read_recipe,
    train,
)

LLAVA = card("llava-1.5-7b")
COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}
FILE = """
from beholder.cards import card
from beholder.train.recipe import Lesson, Recipe

CARD = card("llava-1.5-7b")
RECIPE = Recipe(CARD, tuple(Lesson(stage, small={data!r}, caption="What is this?") for stage in CARD.stages))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures with captions beside them."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(24):
        name = list(COLOURS)[index % 3]
        pixels = np.empty((32, 32, 3), np.uint8)
        pixels[:] = COLOURS[name]
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
        (folder / f"{index:02d}.txt").write_text(name)
    return folder


@pytest.fixture
def recipe(pictures: Path) -> Recipe:
    lessons = tuple(Lesson(stage, small=str(pictures), caption="c?") for stage in LLAVA.stages)
    return Recipe(LLAVA, lessons, board=False)


def test_settings_change_recipes_cards_and_stages(recipe: Recipe) -> None:
    new = changed(
        recipe,
        ["stages.align.steps=7", "stages.instruct.data=x.json", "card.language.num_layers=3", "minutes=2"],
    )
    assert [lesson.stage.steps for lesson in new.stages] == [7, LLAVA.stages[1].steps]
    assert (new.stages[1].data, new.card.main.num_layers, new.minutes) == ("x.json", 3, 2.0)
    tiny = changed(recipe, ["stages.align.steps=5", "size=tiny"])
    assert tiny.stages[0].stage.steps == 5 and tiny.card.main.num_layers == 2
    assert max(rule.lr for rule in tiny.stages[0].stage.rules) == pytest.approx(TINY_RATE)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps", "'steps' is no setting; write path=value"),
        ("stages.algin.steps=1", "'algin'; nearest: align"),
        ("stages.align.step=1", "'step'; nearest: steps"),
        ("stages.align.steps=many", "stages.align.steps: 'many' is a str, expected int"),
        ("card.language.layers=2", "unknown field of Decoder 'layers'"),
        ("size=huge", "unknown size 'huge'"),
        ("stages.align.schedule=cosin", "unknown schedule of stage align 'cosin'; nearest: cosine"),
    ],
)
def test_wrong_settings_are_refused_with_the_path(recipe: Recipe, setting: str, message: str) -> None:
    with pytest.raises((BeholderError, UnknownName), match=message):
        changed(recipe, [setting])


def test_a_recipe_trains_a_tiny_model_and_goes_on(recipe: Recipe, tmp_path: Path) -> None:
    chosen = changed(
        recipe, ["size=tiny", f"out={tmp_path}", "stages.align.steps=4", "stages.instruct.steps=30"]
    )
    watched = chosen.but(
        look=15, stages=(chosen.stages[0], chosen.stages[1].but(held_out=chosen.stages[1].data))
    )
    assert train(watched).finished
    records = [
        json.loads(line) for line in (tmp_path / "instruct" / "metrics.jsonl").read_text().splitlines()
    ]
    losses = [record["loss"] for record in records if "loss" in record]
    assert len(losses) == 30 and np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert [record["step"] for record in records if "held_out" in record] == [15, 30]
    assert (tmp_path / "trained.safetensors").exists() and (tmp_path / "recipe.json").exists()
    longer = changed(watched, ["stages.instruct.steps=32"])
    assert train(longer).finished
    assert len((tmp_path / "instruct" / "metrics.jsonl").read_text().splitlines()) == 34


def test_a_stage_without_data_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(BeholderError, match=r"add stages.align.data=PATH"):
        train(changed(recipe, ["size=tiny", f"out={tmp_path}", "stages.align.data="]))
    with pytest.raises(BeholderError, match="add out=runs/NAME"):
        train(changed(recipe, ["size=tiny"]))
    with pytest.raises(BeholderError, match="no tokenizer is known; add tokenizer=FOLDER"):
        train(recipe.but(card=recipe.card.tiny(), out=str(tmp_path)))


def test_parts_begin_with_the_weights_of_others() -> None:
    source, model = build(LLAVA, "tiny", seed=1), build(LLAVA, "tiny", seed=2)
    vision = "branches.image.vision"
    put_part(model, Start(vision, "there"), source)
    for name, value in model.get_submodule(vision).state_dict().items():
        assert torch.equal(value, source.get_submodule(vision).state_dict()[name]), name
    words = source.get_submodule("languages.main").state_dict()
    assert not torch.equal(
        model.get_submodule("languages.main").state_dict()["embedding.weight"], words["embedding.weight"]
    )
    with pytest.raises(BeholderError, match="start branches.image.vison from there"):
        put_part(model, Start("branches.image.vison", "there"), source)
    other = build(LLAVA.tiny().but(**{"language.dim": 64}), seed=1)
    with pytest.raises(
        BeholderError, match=r"start languages.main from there: .* here, a tensor of .* there"
    ):
        put_part(model, Start("languages.main", "there"), other)


def test_files_hold_recipes_or_are_programs(pictures: Path, tmp_path: Path) -> None:
    file, program, wrong = tmp_path / "llava.py", tmp_path / "program.py", tmp_path / "wrong.py"
    file.write_text(FILE.format(data=str(pictures)))
    program.write_text("if __name__ == '__main__':\n    raise SystemExit(3)\n")
    wrong.write_text("RECIPE = 'llava'\n")
    assert isinstance(read_recipe(file), Recipe) and read_recipe(program) is None
    with pytest.raises(BeholderError, match="RECIPE is a str"):
        read_recipe(wrong)
    runner = CliRunner()
    assert runner.invoke(app, ["train", str(program)]).exit_code == 3
    shown = runner.invoke(app, ["train", "--plan", str(file)])
    assert shown.exit_code == 0 and "align" in shown.output and "branches.image.connector" in shown.output
    settings = [
        "size=tiny",
        f"out={tmp_path / 'run'}",
        "stages.align.steps=2",
        "stages.instruct.steps=2",
        "board=false",
    ]
    ran = runner.invoke(app, ["train", str(file), *settings])
    assert ran.exit_code == 0 and "trained.safetensors" in ran.output.replace("\n", "")


def test_rows_are_packed_and_features_kept(recipe: Recipe, tmp_path: Path) -> None:
    settings = [
        *("size=tiny", f"out={tmp_path}", "stages.align.steps=3", "stages.instruct.steps=2"),
        *("stages.align.tokens=700", "stages.align.batch=2", f"stages.align.kept={tmp_path / 'features'}"),
    ]
    assert train(changed(recipe, settings)).finished
    assert list((tmp_path / "features").glob("features-*.bin"))
    rows = [json.loads(line) for line in (tmp_path / "align" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 3
