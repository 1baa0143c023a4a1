"""Any data file as a data set: the kind is found by looking."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from beholder.data.order import Near
from beholder.data.readers.forms import record_of
from beholder.data.readers.rows import Place, Record, RowError, Rows, check_there, loaded
from beholder.data.samples import Conversation, Dataset, Mixture, checked_index
from beholder.errors import BeholderError, MediaError, UnknownName
from beholder.media.at_once import every
from beholder.media.decode import DEFAULT_LIMITS, Limits, decode
from beholder.prompts.messages import Clip, Message, Sound, filled

KINDS = ("json", "csv", "questions", "parquet", "arrow", "saved", "shards", "folder")
HEAD = 1 << 16  # bytes of a line that are looked at
NAMED = (
    "metadata.jsonl",
    "captions.jsonl",
    "metadata.csv",
    "captions.csv",
    "captions.json",
)  # beside pictures


class Records:
    """Conversations of a file's rows. `record` gives one as it stands there, `[...]` with its pictures decoded.

    pictures: the folder that paths of pictures, clips and sounds begin at, the file's own where None. caption: what is asked
    about those that have a caption and no question. columns: the name that is read -> the file's own name for it.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        pictures: Path | None = None,
        caption: str = "",
        columns: Mapping[str, str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.rows, self.root, self.caption, self.limits = rows, pictures or rows.root, caption, limits
        self.columns = dict(columns or {})

    def __len__(self) -> int:
        return len(self.rows)

    def record(self, index: int) -> Record:
        """A row's conversation, no picture decoded. Raises `RowError`."""
        index = checked_index(index, len(self))
        row, place = dict(self.rows.row(index)), self.rows.place(index)
        for name, own in self.columns.items():
            if own not in row:
                raise RowError(
                    place, own, "unknown form", f"no column {own!r}", f"its columns are {', '.join(row)}"
                )
            row[name] = row.pop(own)
        return record_of(row, place, self.root, caption=self.caption)

    def __getitem__(self, index: int) -> Conversation:
        return self.many([index])[0]

    def many(self, indices: Sequence[int]) -> list[Conversation]:
        """Several rows, whose pictures are decoded side by side."""
        records = [self.record(index) for index in indices]
        places = [(record, number) for record in records for number in range(len(record.sources))]
        pictures = iter(every(lambda place: self.decoded(*place), places))
        return [
            Conversation(self.opened(record), tuple(islice(pictures, len(record.sources))), record.key)
            for record in records
        ]

    def opened(self, record: Record) -> tuple[Message, ...]:
        """A record's messages, whose clips and sounds can be decoded. Raises `RowError` where one is missing."""
        for part in record.moving:
            what = "clip" if isinstance(part, Clip) else "sound"
            check_there(part.source, record.place, record.field_of(part), what)
        messages = record.messages
        for kind in (Clip, Sound):
            own = [loaded(part.source) for part in record.moving if isinstance(part, kind)]
            messages = filled(messages, kind, own) if own else messages
        return messages

    def decoded(self, record: Record, number: int) -> np.ndarray:
        """A record's picture, (H, W, 3) uint8. Raises `RowError` where it is missing or broken."""
        source, field = record.sources[number], record.fields[number]
        check_there(source, record.place, field, "picture")
        try:
            return decode(loaded(source), name="picture", limits=self.limits)
        except MediaError as error:
            what, _, remedy = str(error).removeprefix("picture").lstrip(": (").partition("; ")
            what = what.replace("): ", ": ", 1) if isinstance(source, Path) else what
            raise RowError(record.place, field, "broken picture", what, remedy or "replace it") from None

    def sizes(self) -> np.ndarray | None:
        """A guess of the rows' lengths, in any unit; None where only reading would tell."""
        return self.rows.sizes()

    @property
    def near(self) -> Near | None:
        """The shuffle that the file can be read in; None where any will do."""
        return self.rows.near


def open_data(
    data: Any,
    kind: str | None = None,
    *,
    pictures: str | Path | None = None,
    caption: str = "",
    columns: Mapping[str, str] | None = None,
) -> Dataset:
    """A data set from a file, a folder, or anything indexable whose items are mappings. kind: one of `KINDS`; None looks.

    `mix:a.json=2,b.parquet=1` draws from several, weighted; without weights by size, tempered by `;temperature=2` behind.
    The other arguments are those of `Records`. Raises `BeholderError` for what is none of these.
    """
    root = None if pictures is None else Path(pictures)
    if isinstance(data, str) and data.startswith("mix:"):
        return _mixture(data.removeprefix("mix:"), pictures=root, caption=caption, columns=columns)
    if isinstance(data, (str, Path)) and (kind or kind_of(data)) == "questions":
        from beholder.data.question_file import QuestionFile

        return QuestionFile(Path(data))
    return Records(open_rows(data, kind), pictures=root, caption=caption, columns=columns)


def open_rows(data: Any, kind: str | None = None) -> Rows:
    """The rows of a file, a folder or something indexable, as `open_data` finds them."""
    if not isinstance(data, (str, Path)):
        from beholder.data.readers.tables import IndexableRows

        return IndexableRows(data, type(data).__name__)
    kind, path = kind or kind_of(data), Path(data)
    if kind not in KINDS:
        raise UnknownName("kind of data", kind, KINDS)
    if kind in ("parquet", "arrow", "saved"):
        from beholder.data.readers import tables

        if kind == "saved":
            return tables.ArrowRows(tables.saved_files(path))
        paths = _within(path, f".{kind}")
        return tables.ParquetRows(paths) if kind == "parquet" else tables.ArrowRows(paths)
    if kind == "shards":
        from beholder.data.readers.shards import ShardRows, shard_paths

        return ShardRows(_within(path, ".tar") if path.is_dir() else shard_paths(str(data)))
    from beholder.data.readers.folders import FolderRows
    from beholder.data.readers.json_rows import CsvRows, JsonRows

    if kind == "folder":
        return FolderRows(path)
    file = _described(path) or path
    return CsvRows(file) if file.suffix in (".csv", ".tsv") else JsonRows(file)


def kind_of(data: str | Path) -> str:
    """Which of `KINDS` a path is. Raises `BeholderError` for one that is none."""
    path = Path(data)
    if path.is_dir():
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            return "saved"
        for ending, kind in ((".tar", "shards"), (".parquet", "parquet"), (".arrow", "arrow")):
            if _within(path, ending, must=False):
                return kind
        described = _described(path)
        return "folder" if described is None else kind_of(described)
    suffix = path.suffix.lower()
    if suffix in (".json", ".jsonl", ".ndjson"):
        return "questions" if _asks(path) else "json"
    known = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".arrow": "arrow", ".tar": "shards"}
    if suffix in known:
        return known[suffix]
    if not path.exists():
        raise BeholderError(f"{path}: no such file or folder of data; check the path")
    if path.name.endswith((".tar.gz", ".tgz", ".tar.zst")):
        raise BeholderError(f"{path}: is a packed tar file; unpack it to .tar, which can be read anywhere")
    raise BeholderError(
        f"{path}: is none of JSON, JSON lines, CSV, parquet, Arrow, tar shards or a folder; convert it, or say kind="
    )


def _asks(path: Path) -> bool:
    """Whether a file holds questions with a picture each, in our own form, by its first line."""
    try:
        with path.open("rb") as file:
            first = next((line for line in iter(lambda: file.readline(HEAD), b"") if line.strip()), b"")
        return {"picture", "question", "answer"} <= set(json.loads(first.decode("utf-8-sig")))
    except (OSError, ValueError, TypeError, RecursionError):
        return False  # what is wrong is told when it is opened


def _within(path: Path, ending: str, *, must: bool = True) -> list[Path]:
    """The path itself, or a folder's files with this ending, and those of the folders directly in it."""
    if not path.is_dir():
        return [path]
    found = sorted(path.glob(f"*{ending}")) or sorted(path.glob(f"*/*{ending}"))
    if must and not found:
        raise BeholderError(f"{path}: holds no {ending} files; check the path")
    return found


def _described(path: Path) -> Path | None:
    """The file that describes a folder's pictures: one of known name, or its only JSON file."""
    if not path.is_dir():
        return None
    known = [path / name for name in NAMED if (path / name).is_file()]
    other = [file for ending in ("*.json", "*.jsonl") for file in sorted(path.glob(ending))]
    if not known and len(other) > 1:
        raise BeholderError(
            f"{path}: holds {', '.join(file.name for file in other[:5])}; give one of them, or several as mix:A,B"
        )
    return next(iter(known + other), None)


def mixed_paths(data: str) -> list[str]:
    """The paths of a mixture, or the one path that is none."""
    if not data.startswith("mix:"):
        return [data]
    return [name for name, _ in _parts(data.removeprefix("mix:"))[0]]


def _parts(text: str) -> tuple[list[tuple[str, str]], str]:
    """(path, weight) of each part of `A=2,B=1` or `A,B;temperature=2`, and the temperature."""
    names, _, after = text.partition(";")
    if after and not after.startswith("temperature="):
        raise UnknownName("setting of a mixture", after.partition("=")[0], ("temperature",))
    parts = (part.rpartition("=") if "=" in part else (part, "", "") for part in names.split(",") if part)
    return [(name, weight) for name, _, weight in parts], after.partition("=")[2]


def _mixture(text: str, **settings: Any) -> Mixture:
    parts, tempered = _parts(text)
    weights = [weight for _, weight in parts]
    try:
        temperature = float(tempered or 1)
        given: Sequence[float] | None = [float(weight) for weight in weights] if any(weights) else None
    except ValueError:
        raise BeholderError(
            f"mix:{text}: weights and temperature are numbers; write mix:a.json=2,b.json=1"
        ) from None
    return Mixture([open_data(name, **settings) for name, _ in parts], given, temperature=temperature)


__all__ = ["KINDS", "Place", "Records", "kind_of", "open_data", "open_rows"]
