"""Pictures of a folder by words or by another picture: the nearest vectors of a dual encoder (2103.00020)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beholder.errors import BeholderError
from beholder.files import DiskError
from beholder.vectors import Item, Report, Store, fill, items_in, model_mark

if TYPE_CHECKING:
    from beholder.pipeline import Pipeline

INDEX_FOLDER = ".beholder"


@dataclass(frozen=True)
class Hit:
    """A picture that was found. likeness: the cosine of its vector and the query's."""

    picture: Path
    likeness: float


@dataclass(frozen=True)
class Found:
    """hits: best first. pictures: how many were compared. new: how many of them had no vector of this model yet. skipped:
    pictures that could not be read, with what is wrong with them. index: the file that keeps the vectors, None where it
    could not be written.
    """

    hits: tuple[Hit, ...]
    pictures: int
    new: int
    skipped: dict[str, str]
    index: Path | None


def index_file(folder: Path, mark: str) -> Path:
    """Where a folder's vectors of a model are kept."""
    return folder / INDEX_FOLDER / f"{mark.replace(' ', '-').replace('/', '-')}.safetensors"


def search(
    pipeline: Pipeline,
    folder: str | Path,
    query: Any,
    *,
    top: int = 12,
    index: str | Path | None = None,
    progress: Report | None = None,
) -> Found:
    """The `top` pictures below a folder that are most like the query.

    query: words, or a picture (a `Path`, bytes, an array or a Pillow picture). The folder's vectors are kept in `index`,
    by default beside the pictures; only new and changed pictures are read again. Raises `BeholderError` for a folder
    without a readable picture and for an index of another model.
    """
    folder = Path(folder)
    if isinstance(query, str) and not query.strip():
        raise BeholderError("the query is empty; say in words what to look for, or give a picture")
    if top < 1:
        raise BeholderError(f"top = {top}; ask for one picture at least")
    items = items_in(folder, short=True)
    asked = (
        pipeline.embed(texts=[query]).texts
        if isinstance(query, str)
        else pipeline.embed(images=[query]).images
    )
    assert asked is not None
    store, kept, new = renew(pipeline, folder, items, index=index, progress=progress)
    readable = [item for item in items if item in store.vectors]
    if not readable:
        raise BeholderError(
            f"{folder}: none of its {len(items)} pictures can be read; {next(iter(store.skipped.values()))}"
        )
    likeness_N = store.table(readable) @ asked[0]
    best = np.argsort(-likeness_N, kind="stable")[:top]
    hits = tuple(Hit(folder / readable[number].name, float(likeness_N[number])) for number in best)
    skipped = {item.name: why for item, why in store.skipped.items()}
    return Found(hits, len(readable), new, skipped, kept)


def renew(
    pipeline: Pipeline,
    folder: Path,
    items: list[Item],
    *,
    index: str | Path | None = None,
    progress: Report | None = None,
) -> tuple[Store, Path | None, int]:
    """The vectors of pictures as they are now, the file that keeps them (None where it cannot be written), and how many
    pictures had none.
    """
    mark = model_mark(pipeline)
    path = index_file(folder, mark) if index is None else Path(index)
    store = Store.load(path, mark)
    known = set(store.vectors) | set(store.skipped)
    store.keep(items)
    changed = known != set(items)
    try:
        if changed:
            store.save(path)  # before the work, to see whether it can be kept
    except DiskError:
        if index is not None:
            raise
        return store, None, fill(store, items, pipeline, folder=folder, progress=progress)
    new = fill(store, items, pipeline, folder=folder, keep_in=path, progress=progress)
    return store, path, new
