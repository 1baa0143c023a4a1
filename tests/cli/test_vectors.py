"""`embed --out`, `search` and `classify` with a toy system and a tiny checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import beholder
from tests.cli.conftest import Run
from tests.dual_toys import made, paint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights."""
    return made().save(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paint(tmp_path / "pictures")
    return tmp_path / "pictures"


def test_vectors_are_those_of_the_library(run: Run, model: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("a red thing\n\nblue\n")
    options = ("--texts", tmp_path / "texts", "--text", "first", "--model", model)
    ran = run("embed", folder, *options, "--out", tmp_path / "v.npy")
    assert ran.code == 0 and ran.out == f"wrote 7 vectors of width 24 to {tmp_path / 'v.npy'}\n"
    assert ran.err.startswith("skipped: ") and "broken.jpg" in ran.err
    rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    table = np.load(tmp_path / "v.npy")
    paths = [row["picture"] for row in rows[:4]]
    assert [row.get("text") for row in rows[4:]] == ["first", "a red thing", "blue"]
    wanted = beholder.load(model).embed(images=paths, texts=["first", "a red thing", "blue"])
    assert np.allclose(table, np.concatenate([wanted.images, wanted.texts]), atol=1e-5)
    lines = run("embed", folder, *options, "--out", tmp_path / "w.jsonl", "--json").json
    assert lines["written"] == 7 and list(lines["skipped"]) == [str(folder / "broken.jpg")]
    again = [json.loads(line) for line in (tmp_path / "w.jsonl").read_text().splitlines()]
    assert [row["picture"] for row in again[:4]] == paths
    assert np.allclose([row["vector"] for row in again], table, atol=1e-6)
    run("embed", "--text", "first", "--model", model, "--out", tmp_path / "x.json")
    document = json.loads((tmp_path / "x.json").read_text())
    assert document["items"] == [{"text": "first"}] and np.allclose(
        document["vectors"], table[4:5], atol=1e-6
    )
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]


def test_embed_goes_on_where_it_was_stopped(
    run: Run, model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from beholder import vectors

    real, calls = vectors._texts, []

    def stopped(*given: object) -> object:
        calls.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr(vectors, "_texts", stopped)
    words = ("embed", folder, "--text", "x", "--model", model, "--out", tmp_path / "v.npy")
    assert run(*words).code == 130 and (tmp_path / "v.npy.partial").is_file()
    assert not (tmp_path / "v.npy").exists()
    monkeypatch.setattr(vectors, "_texts", real)
    monkeypatch.setattr(vectors, "_pictures", lambda *_: pytest.fail("made again"))
    assert run(*words).code == 0 and len(np.load(tmp_path / "v.npy")) == 5
    other = made(seed=5).save(tmp_path / "other")
    monkeypatch.setattr(vectors, "_texts", stopped)
    run(*words[:-1], tmp_path / "u.npy")
    run(*words[:5], other, "--out", tmp_path / "u.npy").assert_refused("u.npy.partial", "another model")


def test_names_that_are_no_text_and_encoders_of_texts_alone(run: Run, model: Path, tmp_path: Path) -> None:
    import os

    from PIL import Image

    from beholder.cards.schema import Card
    from tests.toys import TEXT_TOWER

    odd = tmp_path / "odd" / os.fsdecode(b"caf\xe9.png")
    odd.parent.mkdir()
    Image.new("RGB", (30, 30), (200, 0, 0)).save(odd)
    assert run("embed", odd.parent, "--model", model, "--out", tmp_path / "odd.npy").code == 0
    assert json.loads((tmp_path / "odd.jsonl").read_text())["picture"] == str(odd)
    assert run("search", odd.parent, "x", "--model", model).code == 0
    tower = TEXT_TOWER.but(causal=False, pool="mean", projection=0)
    encoder = made(Card(name="toy-encoder", language=tower))
    folder = encoder.save(tmp_path / "encoder")
    run("embed", "-t", "one", "-t", "another", "--model", folder, "--out", tmp_path / "t.npy")
    wanted = encoder.embed(texts=["one", "another"]).texts
    assert np.allclose(np.load(tmp_path / "t.npy"), wanted, atol=1e-5)


def test_a_mask_says_where_to_look(run: Run, tmp_path: Path, cat: Path) -> None:
    from PIL import Image

    from tests.toys import DUAL

    masked = made(DUAL.but(**{"vision.patches.mask": True})).save(tmp_path / "masked")
    height, width = np.asarray(Image.open(cat)).shape[:2]
    left = np.zeros((height, width), np.uint8)
    left[:, : width // 2] = 255
    Image.fromarray(left).save(tmp_path / "left.png")
    given = ("embed", cat, "--model", masked, "--json")
    vectors = [run(*given, *more).json["image_vectors"] for more in ((), ("--mask", tmp_path / "left.png"))]
    want = beholder.load(masked).embed(images=[cat], masks=[left]).images
    assert np.allclose(vectors[1], want, atol=1e-5) and not np.allclose(vectors[0], vectors[1], atol=1e-4)
    run(*given, "--mask", tmp_path / "left.png", "--out", "v.npy").assert_refused("--mask and --out")
    run(*given, "--mask", cat, "--mask", cat).assert_refused("2 masks for 1 pictures")


def test_search_finds_draws_and_keeps(run: Run, model: Path, folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    sheet = tmp_path / "hits.png"
    found = run("search", folder, "a red thing", "--model", model, "--top", 3, "--sheet", sheet, "--json")
    assert found.code == 0 and "broken.jpg" in found.err
    document = found.json
    assert document["pictures"] == document["new"] == 4 and len(document["hits"]) == 3
    assert Path(document["index"]).parent == folder / ".beholder"
    assert Image.open(sheet).size[0] > 3 * 200
    table = run("search", folder, "a red thing", "--model", model, "--top", 3)
    assert table.code == 0
    for hit in document["hits"]:
        assert f"{hit['likeness']:.3f}" in table.out and Path(hit["picture"]).name in table.out
    again = run("search", folder, folder / "blue.png", "--model", model, "--json").json
    assert again["new"] == 0 and again["hits"][0]["picture"] == str(folder / "blue.png")
    assert again["hits"][0]["likeness"] == pytest.approx(1, abs=1e-4) and again["sheet"] is None


def test_classify_gives_the_probabilities_of_the_library(
    run: Run, model: Path, cat: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels").write_text("tree\nhouse\n")
    given = ("classify", cat, "--label", "cat", "--labels", tmp_path / "labels", "--model", model)
    wanted = beholder.load(model).classify(cat, ["cat", "tree", "house"]).top(5)[0]
    document = run(*given, "--json").json
    got = [(one["label"], one["probability"]) for one in document["pictures"][0]["labels"]]
    assert [word for word, _ in got] == [word for word, _ in wanted] and len(document["templates"]) == 7
    assert np.allclose([odds for _, odds in got], [odds for _, odds in wanted], atol=1e-6)
    shown = run(*given, "--top", 1, "--templates", "imagenet-7").out
    assert f"{100 * wanted[0][1]:.1f} %" in shown and "cat.jpg" in shown
    own = run(*given, "--templates", "a {}", "--templates", "the {}", "--json").json
    assert own["templates"] == ["a {}", "the {}"]


@pytest.mark.parity
def test_a_classifier_tells_its_own_labels(run: Run, cat: Path, tmp_path: Path) -> None:
    from beholder.model import build
    from beholder.pipeline import Pipeline
    from tests.test_labels import CARD, NAMES

    folder = Pipeline(build(CARD, seed=3)).save(tmp_path / "labelled")
    wanted = beholder.load(folder).classify(cat).top(2)[0]
    told = run("classify", cat, "--model", folder, "--top", "2", "--json").json
    assert told["templates"] == [] and [row["label"] for row in told["pictures"][0]["labels"]] == [
        name for name, _ in wanted
    ]
    table = run("classify", cat, "--model", folder)
    assert table.code == 0 and all(name in table.out for name in NAMES)
    run("classify", cat, "--label", "cat", "--model", folder).assert_refused("3 labels of its own")
    run("ask", cat, "What is it?", "--model", folder).assert_refused("labelled", "labels with classify")


def test_published_checkpoints_search_and_classify(
    run: Run, oracle: Callable[[str], Path], folder: Path, cat: Path
) -> None:
    for family in ("clip", "siglip"):
        found = run("search", folder, cat, "--model", oracle(family), "--json").json
        assert found["pictures"] == 4 and max(hit["likeness"] for hit in found["hits"]) <= 1
        odds = run("classify", cat, "-l", "a", "-l", "b", "--model", oracle(family), "--json").json
        total = sum(one["probability"] for one in odds["pictures"][0]["labels"])
        assert family == "siglip" or total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("search", "{}/none", "x"), ("holds no pictures", "give a folder")),
        (("search", "{}/absent", "x"), ("no such folder",)),
        (("search", "{}", " "), ("query is empty",)),
        (("search", "{}", "x", "--model", "clipp-b-32"), ("clipp-b-32", "nearest: clip-b-32")),
        (("search", "{}", "x", "--sheet", "hits.jpg"), ("hits.jpg", ".png")),
        (("search", "{}", "lost.png"), ("lost.png", "no such file")),
        (("classify", "{}/blue.png"), ("no labels", "--label")),
        (("classify", "{}/broken.jpg", "-l", "x"), ("broken.jpg", "not a picture")),
        (("classify", "{}/blue.png", "-l", "x", "--templates", "imagnet"), ("imagnet", "imagenet-7")),
        (("classify", "{}/blue.png", "--labels", "{}/absent"), ("absent", "check the path")),
        (("classify", "{}/blue.png", "--labels", "{}/empty"), ("empty", "one entry a line")),
        (("embed", "{}", "--out", "v.txt"), ("v.txt", ".npy, .json, .jsonl")),
        (("embed", "{}", "--out", "{}"), ("ends in none",)),
        (("embed", "{}/absent.png", "--out", "v.npy"), ("absent.png", "check the path")),
    ],
)
def test_what_a_user_can_get_wrong(
    run: Run, folder: Path, words: tuple[str, ...], said: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "none").mkdir()
    (folder / "empty").touch()
    run(*(word.format(folder) for word in words)).assert_refused(*said)


def test_systems_without_vectors_and_indexes_of_others(
    run: Run, model: Path, folder: Path, tmp_path: Path
) -> None:
    from tests.toys import TEXT

    writes = made(TEXT).save(tmp_path / "writes")
    run("search", folder, "x", "--model", writes).assert_refused("makes no vector")
    run("classify", folder / "blue.png", "-l", "x", "--model", writes).assert_refused("choose a dual encoder")
    kept = tmp_path / "kept"
    assert run("search", folder, "x", "--model", model, "--index", kept).code == 0
    other = made(seed=5).save(tmp_path / "other")
    run("search", folder, "x", "--model", other, "--index", kept).assert_refused("kept", "another model")
    kept.write_text("damaged")
    run("search", folder, "x", "--model", model, "--index", kept).assert_refused("no file of vectors")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_text("no")
    run("embed", tmp_path / "bad", "--model", model, "--out", tmp_path / "v.npy", "--json")
    assert not (tmp_path / "v.npy").exists() and not (tmp_path / "v.npy.partial").exists()
