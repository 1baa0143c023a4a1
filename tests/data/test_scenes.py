"""Composed scenes: reproducible, held-out things kept apart, and answers that agree with the pixels."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from beholder.data import Scenes, Turn
from beholder.data.canvas import COLOURS, Placed, background, lay_out, recoloured
from beholder.data.cutouts import PIXELS, Concept, CutOut, CutOuts
from beholder.data.questions import Scene, beside, box, neighbour, side, where
from beholder.errors import BeholderError

SIZE = 32
NAMES = ("ant", "bell", "cup", "dog", "eel", "fork", "gem", "harp", "iris", "jug", "kite", "lamp")
HELD_OUT = frozenset({"kite", "lamp", "jug"})


def write_cutouts(folder: Path, *, marked: str = "") -> CutOuts:
    """Discs in two styles, tinted or coloured; cut-outs of `marked` are of a colour that nothing else has."""
    pixels = np.zeros((3 * len(NAMES), SIZE, SIZE, 4), np.uint8)
    rows = []
    for row in range(len(pixels)):
        name, style = NAMES[row // 3], ("flat", "flat", "held")[row % 3]
        stencil = row % 3 == 1
        colour = (255, 0, 255) if name == marked else (0, 0, 0) if stencil else (90, 110, 100)
        tile = Image.new("RGBA", (SIZE, SIZE))
        ImageDraw.Draw(tile).ellipse((0, 0, SIZE - 1, SIZE - 1), fill=(*colour, 255))
        pixels[row] = np.asarray(tile)
        rows.append(CutOut(row, name, style, SIZE, SIZE, None if stencil and name != marked else colour))
    cutouts = CutOuts(
        pixels, tuple(rows), {name: Concept(name, "tool") for name in NAMES}, HELD_OUT, test_style="held"
    )
    np.save(folder / PIXELS, pixels)
    cutouts.save_index(folder)
    return cutouts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_cutouts(tmp_path)
    return tmp_path


def placed(name: str, x: float, y: float, *, side_px: int = 10) -> Placed:
    """A thing with its centre at (x, y) of a scene of 100 px."""
    cutout = CutOut(0, name, "flat", SIZE, SIZE, (0, 0, 0))
    return Placed(cutout, round(x - side_px / 2), round(y - side_px / 2), side_px, side_px)


def answers(maker: object, scene: Scene) -> set[tuple[str, str]]:
    """All (question, answer) pairs that a maker gives for a scene."""
    turns: list[Turn | None] = [maker(np.random.default_rng(seed), scene) for seed in range(60)]
    return {(turn.question, turn.answer) for turn in turns if turn is not None}


def test_index_survives_saving(tmp_path: Path) -> None:
    saved = write_cutouts(tmp_path)
    opened = CutOuts.open(tmp_path)
    assert opened.rows == saved.rows
    assert opened.concepts == saved.concepts
    assert (opened.test_concepts, opened.test_style) == (saved.test_concepts, saved.test_style)


def test_a_sample_depends_on_settings_and_number_alone(folder: Path) -> None:
    first, second = Scenes(folder, seed=3), Scenes(folder, seed=3)
    backwards = [second[index] for index in reversed(range(12))][::-1]
    for index, other in enumerate(backwards):
        assert np.array_equal(first[index].pixels, other.pixels)
        assert (first[index].turns, first[index].key) == (other.turns, other.key)


def test_a_pickled_copy_is_small_and_equal(folder: Path) -> None:
    scenes = Scenes(folder, seed=3)
    pickled = pickle.dumps(scenes)
    assert len(pickled) < scenes.pixels.nbytes
    assert np.array_equal(pickle.loads(pickled)[9].pixels, scenes[9].pixels)


def test_odds_choose_kinds_of_scene(folder: Path) -> None:
    scenes = Scenes(folder, odds=(0, 0, 0, 1))
    assert all(turn.task != "naming" for index in range(10) for turn in scenes[index].turns)
    assert all(any(turn.task == "reading" for turn in scenes[index].turns) for index in range(10))


def test_words_of_tests_are_never_read_in_training(folder: Path) -> None:
    alone = (0, 0, 0, 1)
    words = {
        split: {
            turn.answer
            for index in range(80)
            for turn in Scenes(folder, split, odds=alone)[index].turns
            if turn.task == "reading"
        }
        for split in ("train", "test-style")
    }
    assert words["train"] and words["test-style"] and not words["train"] & words["test-style"]
    assert not words["train"] & HELD_OUT
    assert all(len(word) <= 6 for said in words.values() for word in said)


def test_boxes_are_hundredths_around_the_thing() -> None:
    scene = Scene(200, (placed("dog", 40, 100, side_px=20),), "red")
    assert {answer for _, answer in answers(box, scene)} == {"[15,45,25,55]"}


def test_another_seed_or_split_is_another_picture(folder: Path) -> None:
    one, other = Scenes(folder, seed=0)[5], Scenes(folder, seed=1)[5]
    assert not np.array_equal(one.pixels, other.pixels)
    assert one.key != other.key


def test_splits_share_neither_held_out_concepts_nor_style(folder: Path) -> None:
    cutouts = CutOuts.open(folder)
    train, concepts, style = (cutouts.pool(split) for split in ("train", "test-concepts", "test-style"))
    assert set(train) == set(style) == set(NAMES) - HELD_OUT
    assert set(concepts) == HELD_OUT
    assert {row.style for rows in (*train.values(), *concepts.values()) for row in rows} == {"flat"}
    assert {row.style for rows in style.values() for row in rows} == {"held"}


def test_held_out_names_are_never_said_in_training(folder: Path) -> None:
    scenes = Scenes(folder)
    said = " ".join(f"{turn.question} {turn.answer}" for index in range(150) for turn in scenes[index].turns)
    assert "dog" in said
    assert not any(name in said.replace(".", " ").replace("?", " ").split() for name in HELD_OUT)


def test_every_sample_has_the_turns_asked_for(folder: Path) -> None:
    for questions in (1, 4, 6):
        scenes = Scenes(folder, size=64, questions=questions)
        for index in range(60):
            sample = scenes[index]
            asked = {turn.question for turn in sample.turns}
            assert len(asked) == len(sample.turns) == questions
            assert sample.pixels.shape == (64, 64, 3)
            assert sample.pixels.dtype == np.uint8


def test_presence_and_naming_agree_with_the_pixels(tmp_path: Path) -> None:
    write_cutouts(tmp_path, marked="dog")
    scenes = Scenes(tmp_path)
    seen: Counter[str] = Counter()
    for index in range(300):
        sample = scenes[index]
        red, green, blue = np.moveaxis(sample.pixels.astype(int), -1, 0)
        there = bool(((red > 230) & (green < 25) & (blue > 230)).sum() > 20)
        for turn in sample.turns:
            if turn.task == "presence" and " dog" in turn.question:
                assert turn.answer == ("yes" if there else "no")
                seen[turn.answer] += 1
            if turn.task == "naming":
                assert (turn.answer == "a dog") == there
    assert min(seen["yes"], seen["no"]) >= 5


def test_background_colour_agrees_with_the_pixels(folder: Path) -> None:
    scenes = Scenes(folder)
    checked = 0
    for index in range(60):
        sample = scenes[index]
        for turn in sample.turns:
            if turn.task == "colour" and ("background" in turn.question or "behind" in turn.question):
                border = np.concatenate([sample.pixels[0], sample.pixels[-1]]).astype(float)
                median = np.median(border, axis=0)
                nearest = min(COLOURS, key=lambda name: float(np.abs(median - COLOURS[name]).sum()))
                assert nearest == turn.answer
                checked += 1
    assert checked > 10


def test_counts_are_digits_and_spread(folder: Path) -> None:
    scenes = Scenes(folder)
    counts = Counter(
        turn.answer for index in range(400) for turn in scenes[index].turns if turn.task == "counting"
    )
    assert set(counts) == set("0123456")
    assert max(counts.values()) < 0.4 * counts.total()


def test_presence_is_balanced(folder: Path) -> None:
    scenes = Scenes(folder)
    found = Counter(
        turn.answer for index in range(400) for turn in scenes[index].turns if turn.task == "presence"
    )
    assert 0.4 < found["yes"] / found.total() < 0.6


def test_positions_follow_from_places() -> None:
    scene = Scene(100, (placed("dog", 20, 80), placed("cup", 80, 78)), "red")
    halves = answers(side, scene)
    assert ("Is the dog on the left or on the right?", "left") in halves
    assert ("Is the cup on the left or on the right?", "right") in halves
    assert ("Is the dog at the top or at the bottom?", "bottom") in halves
    assert {answer for question, answer in answers(where, scene) if "dog" in question} == {"bottom left"}
    assert answers(beside, scene) == {
        ("Is the dog to the left or to the right of the cup?", "left"),
        ("Is the cup to the left or to the right of the dog?", "right"),
    }


def test_unclear_positions_are_not_asked() -> None:
    assert not answers(side, Scene(100, (placed("dog", 50, 50),), "red"))
    assert not answers(where, Scene(100, (placed("dog", 34, 50),), "red"))
    assert not answers(where, Scene(100, (placed("dog", 20, 20, side_px=60),), "red"))
    assert not answers(beside, Scene(100, (placed("dog", 20, 20), placed("dog", 80, 80)), "red"))


def test_neighbours_are_asked_for_only_when_there_is_one() -> None:
    two = Scene(100, (placed("dog", 20, 50), placed("cup", 80, 50)), "red")
    assert {answer for question, answer in answers(neighbour, two) if "left of the cup" in question} == {
        "a dog"
    }
    three = Scene(100, (*two.placed, placed("jug", 25, 50)), "red")
    assert not [question for question, _ in answers(neighbour, three) if "left of the cup" in question]


def test_things_do_not_overlap() -> None:
    cutouts = [CutOut(0, "dog", "flat", SIZE, SIZE // 2, None)] * 5
    for seed in range(20):
        things = lay_out(np.random.default_rng(seed), cutouts, 224, [(0.2, 0.6)] * 5)
        covered = np.zeros((224, 224), int)
        for thing in things:
            covered[thing.top : thing.top + thing.height, thing.left : thing.left + thing.width] += 1
        assert covered.max() == 1
        assert covered.sum() == sum(thing.width * thing.height for thing in things)


def test_recoloured_drawings_keep_their_form_and_greys() -> None:
    drawn = np.zeros((8, 8, 4), np.uint8)
    drawn[:4] = (200, 60, 60, 255)
    drawn[4:6] = (120, 120, 120, 128)
    changed = [recoloured(np.random.default_rng(seed), drawn) for seed in range(20)]
    assert all(np.array_equal(each[..., 3], drawn[..., 3]) for each in changed)
    assert all(np.ptp(each[4:6, :, :3].astype(int), axis=-1).max() <= 1 for each in changed)
    reds = [each[0, 0, :3].astype(int) for each in changed]
    assert all(red[0] > red[1:].max() for red in reds) and len({tuple(red) for red in reds}) == 20


def test_recolouring_changes_coloured_cut_outs_alone(tmp_path: Path) -> None:
    write_cutouts(tmp_path)
    plain, other = (Scenes(tmp_path, odds=(1, 0, 0, 0), recolour=share) for share in (0.0, 1.0))
    coloured = 0
    for number in range(20):
        before, after = plain[number], other[number]
        (thing,) = before.scene.placed
        assert after.scene.placed == before.scene.placed
        assert np.array_equal(before.pixels, after.pixels) == (thing.tint is not None)
        coloured += thing.tint is None
    assert 0 < coloured < 20


@pytest.mark.parametrize("name", COLOURS)
def test_grounds_keep_their_colour(name: str) -> None:
    for seed in range(10):
        mean = background(np.random.default_rng(seed), name, 64).mean((0, 1))
        assert min(COLOURS, key=lambda other: float(np.linalg.norm(mean - COLOURS[other]))) == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"questions": 0}, "questions=0"),
        ({"size": 8}, "size=8"),
        ({"split": "validation"}, "test-concepts"),
        ({"odds": (1, 1, 0, 0)}, "sum to 1"),
    ],
)
def test_settings_out_of_range(folder: Path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scenes(folder, **settings)


def test_unprepared_folder_names_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(BeholderError, match=r"prepare\.py"):
        Scenes(tmp_path)


def test_number_beyond_the_end(folder: Path) -> None:
    scenes = Scenes(folder, "test-style")
    assert len(scenes) == 400
    with pytest.raises(IndexError):
        scenes[400]
