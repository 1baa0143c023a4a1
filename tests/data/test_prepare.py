"""The recipe that prepares mini's data, on a handful of icons and without rendering them."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beholder.data.cutouts import PIXELS

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "mini"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(RECIPE))
    for name in ("prepare", "vocabulary"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import prepare

    return prepare


def write_package(path: Path, files: dict[str, Any]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def vocabulary(recipe: Any, tmp_path: Path) -> Any:
    labels = [("dog face", "A", 1), ("dog", "B", 1), ("keycap: 1", "C", 2), ("one o’clock", "D", 3)]
    files = {
        "en/data.json": [
            {"label": label, "hexcode": code, "subgroup": group, "tags": ["pet"]}
            for label, code, group in labels
        ],
        "meta/groups.json": {"subgroups": {"1": "animal-mammal", "2": "keycap", "3": "time"}},
        **{f"en/shortcodes/{name}.json": {"A": ["doggy"]} for name in ("emojibase", "joypixels", "iamcal")},
    }
    return recipe.Vocabulary.read(write_package(tmp_path / "labels.tgz", files))


def fact(licence: str = "MIT", category: str = "UI 24px", **more: Any) -> dict[str, Any]:
    return {
        "name": "Set",
        "license": {"spdx": licence},
        "category": category,
        "author": {"name": "A"},
        **more,
    }


def test_labels_become_concepts(vocabulary: Any) -> None:
    assert vocabulary.concepts["dog"].kind == "animal"
    assert {"pet", "dog face"} <= set(vocabulary.concepts["dog"].tags)
    assert "keycap: 1" not in vocabulary.concepts
    assert not any("clock" in name for name in vocabulary.concepts)
    assert vocabulary.concept_of("dog-face", is_emoji=True) == "dog"
    assert vocabulary.concept_of("doggy", is_emoji=True) == "dog"
    assert vocabulary.concept_of("washing-machine", is_emoji=False) == "washing machine"


def test_names_that_mean_something_else_in_user_interfaces(vocabulary: Any) -> None:
    assert vocabulary.concept_of("table", is_emoji=True) == "table"
    assert vocabulary.concept_of("table", is_emoji=False) is None


def test_tables_are_consistent(recipe: Any) -> None:
    import tomllib

    tables = tomllib.loads((RECIPE / "concepts.toml").read_text(encoding="utf-8"))
    for name in ("kinds", "keep", "rename", "aliases"):
        values = Counter(value for entries in tables[name].values() for value in entries)
        assert [value for value, count in values.items() if count > 1] == []
    renamed = {label for labels in tables["rename"].values() for label in labels}
    assert renamed & set(tables["drop"]) == set()


def test_only_permissive_sets_of_things_are_used(recipe: Any) -> None:
    assert recipe.acceptable("good", fact())
    assert recipe.acceptable("good", fact("CC-BY-4.0"))
    for bad in (
        fact("CC-BY-SA-4.0"),
        fact("GPL-3.0"),
        fact(category="Logos"),
        fact(hidden=True),
        fact(tags=["Contains Animations"]),
    ):
        assert not recipe.acceptable("bad", bad)
    assert not recipe.acceptable("emojione-monotone", fact())


def test_suffixes_of_drawing_styles(recipe: Any) -> None:
    assert recipe.split_suffix("apple-bold-20", is_emoji=False) == ("apple", "bold")
    assert recipe.split_suffix("apple", is_emoji=False) == ("apple", "")
    assert recipe.split_suffix("red-circle-outline", is_emoji=True) == ("red-circle-outline", "")


def icons_and_sets(recipe: Any, vocabulary: Any) -> tuple[list[Any], dict[str, Any]]:
    names = ("dog", "oven", "oven-fill", "oven-thin", "unknown-thing")
    sets = {f"set{n}": {"icons": {name: {"body": f"{n}"} for name in names}} for n in range(6)}
    collections = {name: fact(palette=name == "set0") for name in sets}
    return recipe.choose_icons(collections, sets, vocabulary), sets


def test_choice_of_icons(recipe: Any, vocabulary: Any) -> None:
    icons, _ = icons_and_sets(recipe, vocabulary)
    chosen = {(icon.style, icon.name) for icon in icons}
    assert ("set0", "oven-thin") in chosen  # a coloured set gives all its drawings
    stencils = [icon for icon in icons if icon.stencil and icon.concept == "oven"]
    assert len(stencils) == recipe.MAX_STENCILS
    assert {icon.name for icon in stencils} == {"oven-fill"}
    assert not any("unknown" in icon.name for icon in icons)


def test_rendering_resumes_at_the_set_it_had_reached(
    recipe: Any, vocabulary: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    icons, sets = icons_and_sets(recipe, vocabulary)
    drawn: list[Any] = []

    def draw(icon: Any, _: Any) -> np.ndarray:
        if len(drawn) == 4:
            drawn.append(None)
            raise KeyboardInterrupt
        drawn.append(icon)
        return np.full((recipe.SIZE, 9, 4), 200, np.uint8)

    monkeypatch.setattr(recipe, "render", draw)
    parts, target = tmp_path / "parts", tmp_path / PIXELS
    with pytest.raises(KeyboardInterrupt):
        recipe.render_sets(icons, sets, parts, target)
    assert not target.exists()
    rows = recipe.render_sets(icons, sets, parts, target)
    first_set = sum(icon.style == "set0" for icon in icons)
    again = Counter(icon for icon in drawn if icon)
    assert all(count == 1 for icon, count in again.items() if icon.style == "set0")
    assert sum(again.values()) < len(icons) + first_set
    assert [row.row for row in rows] == list(range(len(icons)))
    assert np.load(target).shape == (len(icons), recipe.SIZE, recipe.SIZE, 4)
    assert {row.mean for row in rows if row.style == "set0"} == {(200, 200, 200)}


def test_attribution_names_every_set(recipe: Any, tmp_path: Path) -> None:
    recipe.write_attribution(tmp_path / "A.md", {"one": fact("CC-BY-4.0")}, Counter(one=12))
    assert "| Set (`one`) | 12 | A | CC-BY-4.0 |" in (tmp_path / "A.md").read_text()


def test_about_a_tenth_is_held_out(recipe: Any) -> None:
    share = sum(recipe.held_out(f"thing {n}") for n in range(2000)) / 2000
    assert 0.07 < share < 0.13
