"""Tar shards as webdataset writes them: files that follow each other and share a name up to its first dot are one sample.

A shard's table of contents is read once and kept in the cache folder, so that any sample is read by itself.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beholder.data.readers.rows import Place, RowError, Slice, named
from beholder.errors import BeholderError
from beholder.files import atomic_file
from beholder.media.endings import CLIPS, PICTURES, SOUNDS
from beholder.packages import cache_folder

MEDIA = {"images": PICTURES, "videos": CLIPS, "audios": SOUNDS}  # field -> endings of files
TEXTS = ("txt", "caption", "text")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class ShardRows:
    """The samples of shards, one shard behind the other: pictures, clips and sounds, with a text, or with a JSON object."""

    near = None

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths, self.root = list(paths), paths[0].parent
        self._shards = [Contents(path) for path in paths]
        self._ends = np.cumsum([len(shard) for shard in self._shards], dtype=np.int64)
        if not len(self):
            raise BeholderError(f"{paths[0]}: holds no samples; give a shard that has some")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _at(self, index: int) -> tuple[Contents, int]:
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return self._shards[shard], index - int(self._ends[shard - 1] if shard else 0)

    def place(self, index: int) -> Place:
        shard, inside = self._at(index)
        return Place(str(shard.path), inside + 1, "sample")

    def sizes(self) -> None:
        return None

    def row(self, index: int) -> Mapping[str, Any]:
        shard, inside = self._at(index)
        key, members = shard.sample(inside)
        row: dict[str, Any] = {"id": key}
        media = defaultdict[str, list[Slice]](list)
        if len(dict(members)) < len(members):
            raise RowError(
                self.place(index), "", "wrong type", f"{key} has two files of one kind", "rename one"
            )
        for kind, source in sorted(members):
            last = kind.rpartition(".")[2]
            if (field := field_of(last)) is not None:
                media[field].append(source)
            elif kind in TEXTS:
                row["text"] = self._text(index, kind, source)
            elif kind == "json":
                row |= self._object(index, source)
        for field, sources in media.items():
            row[field] = sources
            row.pop(field.removesuffix("s"), None)  # the name it had elsewhere
        return row

    def _text(self, index: int, field: str, source: Slice) -> str:
        try:
            return source.read().decode()
        except UnicodeDecodeError as error:
            raise RowError(
                self.place(index), field, "not UTF-8", f"byte {error.start} is not UTF-8", "save it as UTF-8"
            ) from None

    def _object(self, index: int, source: Slice) -> dict[str, Any]:
        try:
            data = json.loads(self._text(index, "json", source))
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise RowError(self.place(index), "json", "not JSON", "is not a JSON object", "write {...}")
        return data


def field_of(ending: str) -> str | None:
    """The field of pictures, clips or sounds that files of an ending belong to."""
    return next((field for field, endings in MEDIA.items() if ending in endings), None)


TABLES = ("firsts", "offsets", "sizes", "ends", "names")


class Contents:
    """The table of contents of one shard.

    firsts: of each sample its first file, and the number of files; offsets, sizes: of each file; names: all files' names
    without a gap, which end at `ends`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        status = named(path.stat, str(path))
        mark = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} 1"
        kept = cache_folder() / "shards" / f"{hashlib.blake2b(mark.encode(), digest_size=16).hexdigest()}.npz"
        if kept.is_file():
            with np.load(kept) as data:
                tables = {name: data[name] for name in TABLES}
        else:
            tables = _contents(path)
            with atomic_file(kept) as part, part.open("wb") as file:
                np.savez(file, **tables)  # type: ignore[arg-type]
        self.firsts, self.offsets, self.sizes, self.ends, self.names = (tables[name] for name in TABLES)

    def __len__(self) -> int:
        return len(self.firsts) - 1

    def sample(self, index: int) -> tuple[str, list[tuple[str, Slice]]]:
        """The key of a sample, and the kind and content of each of its files."""
        key, files = "", []
        for number in range(int(self.firsts[index]), int(self.firsts[index + 1])):
            name = self.names[int(self.ends[number - 1]) if number else 0 : int(self.ends[number])]
            key, kind = _parted(name.tobytes().decode())
            files.append((kind, Slice(self.path, int(self.offsets[number]), int(self.sizes[number]))))
        return key, files


def _parted(name: str) -> tuple[str, str]:
    """The key and the kind of a file: what stands before and behind the first dot of its last name."""
    folder, slash, file = name.rpartition("/")
    stem, _, kind = file.partition(".")
    return f"{folder}{slash}{stem}", kind.lower()


def _contents(path: Path) -> dict[str, np.ndarray]:
    """The tables of `Contents`. Raises `BeholderError` for what is no whole tar file."""
    firsts, offsets, sizes, ends = list[int](), list[int](), list[int](), list[int]()
    names, last = bytearray(), None
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # the archive would keep them all
                if not member.isreg() or member.name.rpartition("/")[2].startswith("."):
                    continue
                if (key := _parted(member.name)[0]) != last:
                    firsts.append(len(offsets))
                    last = key
                names += member.name.encode("utf-8", "replace")
                ends.append(len(names))
                offsets.append(member.offset_data)
                sizes.append(member.size)
    except tarfile.ReadError as error:
        packed = path.suffix in (".gz", ".tgz", ".zst", ".xz", ".bz2")
        remedy = "unpack it to .tar, which can be read anywhere" if packed else "fetch it again"
        raise BeholderError(f"{path}: cannot be read as a tar file ({error}); {remedy}") from None
    if offsets and offsets[-1] + sizes[-1] > named(path.stat, str(path)).st_size:
        raise BeholderError(f"{path}: is cut off within {last}; fetch it again")
    columns = ([*firsts, len(offsets)], offsets, sizes, ends)
    tables = {name: np.array(column, np.int64) for name, column in zip(TABLES, columns, strict=False)}
    return tables | {"names": np.frombuffer(bytes(names), np.uint8)}


def shard_paths(pattern: str) -> list[Path]:
    """The shards that a pattern such as `data/{00000..00012}.tar` names, or the one that it is."""
    match = RANGE.search(pattern)
    if match is None:
        return [Path(pattern)]
    first, last = match.groups()
    names = [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    return [Path(pattern[: match.start()] + name + pattern[match.end() :]) for name in names]
