"""Vectors of many pictures and texts, kept in one file that grows as they are made and is renewed where pictures change.

N items, D width.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from beholder.errors import BeholderError, MediaError
from beholder.files import atomic_file
from beholder.media.endings import PICTURES

if TYPE_CHECKING:
    from beholder.pipeline import Pipeline

SUFFIXES = frozenset(f".{ending}" for ending in PICTURES)
AT_ONCE = 32
SAVE_SECONDS = 20.0  # between two writings of a store that grows
SAMPLE = 64  # values of each weight that tell models apart
FORMAT = "beholder vectors 1"
KINDS = ("picture", "text")

Report = Callable[[str, int, int], None]  # what is being done, items done, items in all


class Item(NamedTuple):
    """What a vector is of. name: a picture's path, or the text itself; size, modified: of the picture's file, in bytes and
    nanoseconds.
    """

    kind: str
    name: str
    size: int = 0
    modified: int = 0


@dataclass
class Store:
    """Unit vectors by item, of one model. skipped: pictures that could not be read, with what is wrong with them."""

    model: str
    vectors: dict[Item, np.ndarray] = field(default_factory=dict)
    skipped: dict[Item, str] = field(default_factory=dict)

    def table(self, items: Sequence[Item]) -> np.ndarray:
        """Vectors (N, D) of items that it has."""
        if not items:
            return np.zeros((0, 0), np.float32)
        return np.stack([self.vectors[item] for item in items])

    def keep(self, items: Iterable[Item]) -> None:
        """Forget all but these."""
        wanted = set(items)
        self.vectors = {item: vector for item, vector in self.vectors.items() if item in wanted}
        self.skipped = {item: why for item, why in self.skipped.items() if item in wanted}

    def save(self, path: Path) -> None:
        """Write all in one file, whole or not at all."""
        from safetensors.numpy import save_file

        about = {"format": FORMAT, "model": self.model}
        about["items"] = json.dumps([list(item) for item in self.vectors])
        about["skipped"] = json.dumps([[*item, why] for item, why in self.skipped.items()])
        with atomic_file(path) as temporary:
            save_file({"vectors": self.table(list(self.vectors))}, temporary, about)

    @classmethod
    def load(cls, path: Path, model: str) -> Store:
        """What `save` wrote, or an empty store where there is no such file. Raises `BeholderError` for a file of another
        model and for one that is no store.
        """
        from safetensors import SafetensorError, safe_open

        if not path.exists():
            return cls(model)
        damaged = BeholderError(
            f"{path} is no file of vectors that beholder wrote; remove it or choose another"
        )
        try:
            with safe_open(path, framework="np") as file:
                about = file.metadata() or {}
                if about.get("format") != FORMAT:
                    raise damaged
                vectors = file.get_tensor("vectors")
                items = [Item(*item) for item in json.loads(about["items"])]
                skipped = {Item(*item): why for *item, why in json.loads(about["skipped"])}
        except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError):
            raise damaged from None
        if about.get("model") != model:
            raise BeholderError(
                f"{path} holds vectors of another model ({about.get('model')}, not {model}); "
                "choose another file, or remove it to make it anew"
            )
        if len(vectors) != len(items):
            raise damaged
        return cls(model, dict(zip(items, vectors, strict=True)), skipped)


def model_mark(pipeline: Pipeline) -> str:
    """A model's name with a digest of its settings and of some values of every weight: equal for equal models."""
    digest = hashlib.sha256(json.dumps(pipeline.card.but(weights=()).to_data(), sort_keys=True).encode())
    for name, tensor in sorted(pipeline.model.state_dict().items()):
        values = tensor.detach().flatten()[:SAMPLE].double().cpu().numpy()
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + values.tobytes())
    return f"{pipeline.card.name} {digest.hexdigest()[:12]}"


def pictures_in(folder: Path) -> list[Path]:
    """Files below the folder that are named like pictures, sorted; hidden ones are left out. Raises `BeholderError`
    where there are none.
    """
    if not folder.is_dir():
        what = "is one file" if folder.exists() else "no such folder"
        raise BeholderError(f"{folder}: {what}; give a folder of pictures")
    found = sorted(Path(place) / name for place, names in _walk(folder) for name in names)
    if not found:
        raise BeholderError(
            f"{folder} holds no pictures; give a folder of JPEG, PNG, WebP, GIF, BMP or TIFF files"
        )
    return found


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield (
            place,
            [name for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES],
        )


def picture_item(path: Path) -> Item:
    """A picture as it is now. Raises `MediaError` where there is no such file."""
    try:
        about = path.stat()
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}; check the path") from None
    return Item("picture", path.as_posix(), about.st_size, about.st_mtime_ns)


def items_in(folder: Path, *, short: bool = False) -> list[Item]:
    """Every picture below the folder as it is now; links to nowhere are among them, and cannot be read later. short: names
    leave out the folder.
    """
    items = []
    for path in pictures_in(folder):
        try:
            item = picture_item(path)
        except MediaError:
            item = Item("picture", path.as_posix())
        items.append(item._replace(name=path.relative_to(folder).as_posix()) if short else item)
    return items


def fill(
    store: Store,
    items: Sequence[Item],
    pipeline: Pipeline,
    *,
    folder: Path | None = None,
    keep_in: Path | None = None,
    progress: Report | None = None,
) -> int:
    """Make the vectors of items that the store lacks; returns of how many. A picture that cannot be read is noted in
    `store.skipped`. folder: where names of pictures begin. keep_in: a file that the store is written to now and then, so
    that work which is stopped goes on from there.
    """
    missing = [item for item in items if item not in store.vectors and item not in store.skipped]
    saved, made = time.monotonic(), 0
    try:
        for kind in KINDS:
            chosen = [item for item in missing if item.kind == kind]
            for first in range(0, len(chosen), AT_ONCE):
                some = chosen[first : first + AT_ONCE]
                new = (
                    _texts(some, pipeline)
                    if kind == "text"
                    else _pictures(some, pipeline, folder, store.skipped)
                )
                store.vectors.update(new)
                made += len(new)
                if progress is not None:
                    progress(f"{kind}s", first + len(some), len(chosen))
                if keep_in is not None and time.monotonic() - saved > SAVE_SECONDS:
                    store.save(keep_in)
                    saved = time.monotonic()
    finally:
        if keep_in is not None and missing:
            store.save(keep_in)
    return made


def _texts(items: Sequence[Item], pipeline: Pipeline) -> dict[Item, np.ndarray]:
    vectors = pipeline.embed(texts=[item.name for item in items]).texts
    assert vectors is not None
    return dict(zip(items, vectors, strict=True))


def _pictures(
    items: Sequence[Item], pipeline: Pipeline, folder: Path | None, skipped: dict[Item, str]
) -> dict[Item, np.ndarray]:
    paths = [item.name if folder is None else folder / item.name for item in items]
    with ThreadPoolExecutor(min(len(paths), os.cpu_count() or 1)) as pool:
        decoded = dict(zip(items, pool.map(_decoded, paths), strict=True))
    skipped.update({item: each for item, each in decoded.items() if isinstance(each, str)})
    good = [item for item, each in decoded.items() if not isinstance(each, str)]
    pixels = [decoded[item] for item in good]
    if not good:
        return {}
    try:
        vectors = pipeline.embed(images=pixels).images
    except MediaError as problem:  # a size that the system cannot take
        if len(good) == 1:
            skipped[good[0]] = str(problem)
            return {}
        halves = good[: len(good) // 2], good[len(good) // 2 :]
        return {
            key: row for half in halves for key, row in _pictures(half, pipeline, folder, skipped).items()
        }
    assert vectors is not None
    if vectors.ndim > 2:
        raise BeholderError(
            f"{pipeline.card.name} gives {vectors.shape[1]} vectors of a picture; a file of vectors holds one, so choose a "
            "dual encoder such as clip-b-32"
        )
    return dict(zip(good, vectors, strict=True))


def _decoded(path: str | Path) -> np.ndarray | str:
    """The pixels of a picture, or what is wrong with it."""
    from beholder.media.decode import decode

    try:
        return decode(path)
    except MediaError as problem:
        return str(problem)
