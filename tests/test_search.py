"""Vectors that are kept, and pictures found by them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import beholder.vectors as vectors
from beholder.errors import BeholderError
from beholder.files import DiskError
from beholder.media.sheet import picture_sheet
from beholder.pipeline import Pipeline
from beholder.search import index_file, search
from beholder.vectors import Item, Store, fill, model_mark, picture_item, pictures_in
from tests.dual_toys import made, paint


@pytest.fixture(scope="module")
def dual() -> Pipeline:
    return made()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paint(tmp_path / "pictures")
    return tmp_path / "pictures"


def test_the_nearest_picture_is_first(dual: Pipeline, folder: Path) -> None:
    paths = [path for path in pictures_in(folder) if path.name != "broken.jpg"]
    compared = dual.embed(images=[str(path) for path in paths], texts=["something red"])
    likeness = compared.images @ compared.texts[0]
    found = search(dual, folder, "something red", top=3)
    order = np.argsort(-likeness)[:3]
    assert [hit.picture for hit in found.hits] == [paths[number] for number in order]
    assert np.allclose([hit.likeness for hit in found.hits], likeness[order], atol=1e-5)
    assert (found.pictures, found.new) == (4, 4)
    assert list(found.skipped) == ["broken.jpg"] and "not a picture" in found.skipped["broken.jpg"]


def test_a_picture_finds_itself(dual: Pipeline, folder: Path) -> None:
    best = search(dual, folder, folder / "blue.png", top=1).hits[0]
    assert best.picture == folder / "blue.png" and best.likeness == pytest.approx(1, abs=1e-5)


def test_only_changed_pictures_are_read_again(
    dual: Pipeline, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search(dual, folder, "x")
    assert first.index == index_file(folder, model_mark(dual)) and first.index.is_file()
    before = first.index.read_bytes()
    seen: list[int] = []
    embed = dual.embed

    def counted(images=None, texts=None):
        seen.append(len(images or ()))
        return embed(images=images, texts=texts)

    monkeypatch.setattr(dual, "embed", counted)
    again = search(dual, folder, "x")
    assert again.new == 0 and sum(seen) == 0 and again.hits == first.hits
    assert again.index.read_bytes() == before
    (folder / "more" / "green.png").unlink()
    Image.new("RGB", (40, 30), (9, 9, 200)).save(folder / "red.png")
    os.utime(folder / "red.png", ns=(1, 1))
    Image.new("RGB", (31, 30), (200, 9, 200)).save(folder / "new.png")
    third = search(dual, folder, "x")
    assert third.new == sum(seen) == 2 and third.pictures == 4
    names = {hit.picture.name for hit in third.hits}
    assert names == {"red.png", "blue.png", "grey.png", "new.png"}
    (folder / "broken.jpg").unlink()
    Image.new("RGB", (30, 30)).save(folder / "broken.jpg")
    mended = search(dual, folder, "x")
    assert mended.new == 1 and mended.skipped == {}


def test_models_keep_vectors_apart(dual: Pipeline, folder: Path, tmp_path: Path) -> None:
    other = made(seed=5)
    assert model_mark(other) != model_mark(dual) == model_mark(made())
    assert search(dual, folder, "x").index != search(other, folder, "x").index
    kept = tmp_path / "kept.safetensors"
    search(dual, folder, "x", index=kept)
    with pytest.raises(BeholderError, match=r"kept.safetensors holds vectors of another model \(toy-dual"):
        search(other, folder, "x", index=kept)


def test_a_folder_that_cannot_be_written_is_searched(
    dual: Pipeline, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Store, path: Path) -> None:
        raise DiskError(path, "the file system is read-only")

    monkeypatch.setattr(Store, "save", refuse)
    found = search(dual, folder, "x")
    assert found.index is None and found.pictures == 4
    with pytest.raises(DiskError):
        search(dual, folder, "x", index=folder / "own.safetensors")


def test_stopped_work_goes_on(
    dual: Pipeline, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "AT_ONCE", 1)
    items = [picture_item(path) for path in pictures_in(folder)] + [Item("text", "a"), Item("text", "b")]
    kept, told = tmp_path / "kept", []

    def stop(what: str, done: int, total: int) -> None:
        told.append((what, done, total))
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(Store("m"), items, dual, keep_in=kept, progress=stop)
    assert told[0] == ("pictures", 1, 5)
    half = Store.load(kept, "m")
    assert len(half.vectors) + len(half.skipped) == 3
    assert fill(half, items, dual, keep_in=kept) == 4
    whole = Store("m")
    fill(whole, items, dual)
    again = Store.load(kept, "m")
    assert again.skipped == whole.skipped and set(again.vectors) == set(whole.vectors)
    rows = list(whole.vectors)
    assert np.allclose(again.table(rows), whole.table(rows), atol=1e-6)


def test_files_that_are_no_store(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"vectors": np.zeros((1, 2), np.float32)}, tmp_path / "other")
    (tmp_path / "text").write_text("no")
    for name in ("other", "text"):
        with pytest.raises(BeholderError, match=f"{name} is no file of vectors"):
            Store.load(tmp_path / name, "m")
    Store("m").save(tmp_path / "empty")
    assert Store.load(tmp_path / "empty", "m") == Store("m")


def test_folders_and_queries_that_cannot_be_searched(dual: Pipeline, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / ".hidden.png").touch()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").touch()
    for place, query, said in (
        (tmp_path / "none", "x", "holds no pictures"),
        (tmp_path / "absent", "x", "no such folder"),
        (folder / "notes.txt", "x", "is one file"),
        (tmp_path / "bad", "x", "none of its 1 pictures can be read; .*empty"),
        (folder, " ", "query is empty"),
        (folder, folder / "broken.jpg", "not a picture"),
    ):
        with pytest.raises(BeholderError, match=said):
            search(dual, place, query)


def test_names_of_any_kind_and_links_to_nowhere(dual: Pipeline, folder: Path) -> None:
    odd = os.fsdecode(b"caf\xe9 \n.png")
    (folder / "red.png").rename(folder / odd)
    (folder / "lost.png").symlink_to(folder / "nowhere.png")
    (folder / "loop").symlink_to(folder)
    found = search(dual, folder, "x")
    assert odd in {hit.picture.name for hit in found.hits} and found.pictures == 4
    assert set(found.skipped) == {"broken.jpg", "lost.png"}
    again = search(dual, folder, "x")
    assert again.new == 0 and again.hits == found.hits


def test_a_sheet_has_a_place_for_each_picture() -> None:
    pictures = [np.full((60, 30 + 10 * n, 3), 40 * n, np.uint8) for n in range(1, 6)]
    sheet = picture_sheet(
        pictures, [f"a long caption of picture number {n}" for n in range(5)], title="t" * 300, columns=3
    )
    assert sheet.dtype == np.uint8 and sheet.shape[1] > 600
    for n in range(1, 6):
        assert (sheet == 40 * n).all(-1).sum() >= 60 * (30 + 10 * n)
    assert picture_sheet(pictures[:1], ["x"]).shape[1] < 300
