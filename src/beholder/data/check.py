"""What is wrong with a data file, before it is trained on: every row is read, every picture, clip and sound opened once, and
with a card every row's tokens are counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beholder.data.moving import kind_of, seconds_of
from beholder.data.readers.open import Records
from beholder.data.readers.rows import Place, Record, RowError, Slice, check_there, loaded
from beholder.errors import MediaError
from beholder.media.at_once import every
from beholder.media.decode import decode, picture_size
from beholder.media.plan import Size
from beholder.prompts.messages import Text

if TYPE_CHECKING:
    from beholder.train.collate import Collator

CHUNK = 256  # rows whose pictures are looked at together
MEASURED = 20_000  # rows whose tokens are counted; of more rows so many, drawn evenly, and all that could be too long
OVERHEAD = 64  # most tokens that a chat format writes around one message
SHOWN = 10  # problems of each kind that are kept
NOTES = ("duplicate picture", "duplicate row")  # kinds that are worth knowing and no error

Look = tuple[Size, bytes]  # (height, width) and the digest of a picture's file


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, with which field, what, and what to do."""

    kind: str
    place: Place
    field: str
    what: str
    remedy: str

    @classmethod
    def of(cls, error: RowError) -> Problem:
        return cls(error.kind, error.place, error.field, error.what, error.remedy)

    def __str__(self) -> str:
        return f"{self.place}{', ' + self.field if self.field else ''}: {self.what}; {self.remedy}"


@dataclass
class Report:
    """What a check found. counts: problems of each kind; shown: the first of each; tokens, media: of the rows that were
    measured, and `at` their numbers; sides: how many pictures have a longer side of so many pixels, counted at each place;
    seconds: of clips and of sounds, at each place.
    """

    rows: int
    counts: Counter[str] = field(default_factory=Counter)
    shown: dict[str, list[Problem]] = field(default_factory=dict)
    text_only: int = 0
    answers: int = 0
    pictures: int = 0
    distinct: int = 0
    sides: Counter[int] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"clip": [], "sound": []})
    tokens: list[int] = field(default_factory=list)
    media: list[int] = field(default_factory=list)
    at: list[int] = field(default_factory=list)

    @property
    def problems(self) -> int:
        """How many there are, notes aside."""
        return sum(count for kind, count in self.counts.items() if kind not in NOTES)

    def add(self, problem: Problem) -> None:
        self.counts[problem.kind] += 1
        kept = self.shown.setdefault(problem.kind, [])
        if len(kept) < SHOWN:
            kept.append(problem)

    def data(self) -> dict[str, Any]:
        """As JSON: counts, the first problems of each kind, and statistics."""
        return {
            "rows": self.rows,
            "text_only": self.text_only,
            "answers": self.answers,
            "pictures": {
                "places": self.pictures,
                "distinct": self.distinct,
                "sides": spread(list(self.sides.elements())),
            },
            **{f"{what}s": {"seconds": spread(values)} for what, values in self.seconds.items()},
            "tokens": {
                "measured": len(self.tokens),
                "all": spread(self.tokens),
                "of_pictures": spread(self.media),
            },
            "problems": self.problems,
            "counts": dict(self.counts),
            "shown": [
                {
                    "kind": kind,
                    "note": kind in NOTES,
                    "file": one.place.file,
                    one.place.unit: one.place.number,
                    "field": one.field,
                    "what": one.what,
                    "remedy": one.remedy,
                }
                for kind, found in self.shown.items()
                for one in found
            ],
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Least, middle, mean, 95th and 99th percentile, most and sum; {} of nothing."""
    if not values:
        return {}
    table = np.asarray(values)
    middle, most, nearly = np.percentile(table, (50, 95, 99))
    return {
        "least": table.min().item(),
        "median": float(middle),
        "mean": float(table.mean()),
        "p95": float(most),
        "p99": float(nearly),
        "most": table.max().item(),
        "sum": table.sum().item(),
    }


def check(
    data: Records,
    *,
    collator: Collator | None = None,
    quick: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Look at every row. quick: of pictures, clips and sounds only the heads are read, which finds missing ones and other
    files, and not those that are cut off. Memory grows by some bytes a row and a picture; problems are counted and the first
    ones kept.
    """
    report, seen = Report(len(data)), _Seen(quick)
    wanted = np.zeros(len(data), bool)
    wanted[np.random.default_rng(0).permutation(len(data))[:MEASURED]] = True
    for start in range(0, len(data), CHUNK):
        indices = range(start, min(start + CHUNK, len(data)))
        records = [(index, record) for index, record in _read(data, indices, report)]
        looks = iter(seen.look(data, [record for _, record in records]))
        seen.listen([record for _, record in records])
        for index, record in records:
            sizes = _pictures(record, next(looks), report, seen)
            heard = _moving(record, report, seen)
            answered = _words(data, index, record, report, seen)
            if collator is not None and sizes is not None and heard and answered:
                _measure(collator, data, record, sizes, report, index, wanted=bool(wanted[index]))
        if progress is not None:
            progress("rows", indices.stop, len(data))
    report.distinct = len(seen.digests)
    return report


def _read(data: Records, indices: range, report: Report) -> Iterator[tuple[int, Record]]:
    for index in indices:
        try:
            yield index, data.record(index)
        except RowError as error:
            report.add(Problem.of(error))


class _Seen:
    """What was looked at so far: files by identity, contents by digest."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.looks: dict[bytes, Look | RowError] = {}
        self.seconds: dict[bytes, float | RowError] = {}  # of clips and sounds
        self.digests: dict[bytes, str] = {}  # of a picture -> where it was first
        self.rows: dict[bytes, int] = {}  # of what a row says -> its number

    def look(self, data: Records, records: Sequence[Record]) -> list[list[Look | RowError]]:
        """What each picture of each record is; each file is read once, several at a time."""
        wanted: dict[bytes, tuple[Record, int]] = {}
        names = [[_identity(source) for source in record.sources] for record in records]
        for record, own in zip(records, names, strict=True):
            for number, name in enumerate(own):
                if name not in self.looks:
                    wanted.setdefault(name, (record, number))
        given = every(lambda one: self._look(data, *one), list(wanted.values())) if wanted else []
        self.looks.update(zip(wanted, given, strict=True))
        return [[self.looks[name] for name in own] for own in names]

    def listen(self, records: Sequence[Record]) -> None:
        """Open each clip and sound that was not opened yet, several at a time."""
        wanted = {
            name: (record, part)
            for record in records
            for part in record.moving
            if (name := _identity(part.source)) not in self.seconds
        }
        given = every(lambda one: seconds_of(*one, quick=self.quick), list(wanted.values()))
        self.seconds.update(zip(wanted, given, strict=True))

    def _look(self, data: Records, record: Record, number: int) -> Look | RowError:
        try:
            source = record.sources[number]
            check_there(source, record.place, record.fields[number], "picture")
            content = source.read_bytes() if isinstance(source, Path) else loaded(source)
            raw = (
                content
                if isinstance(content, (bytes, bytearray, memoryview))
                else np.asarray(content).tobytes()
            )
            digest = hashlib.blake2b(raw, digest_size=16).digest()
            if self.quick:
                return picture_size(content, name="picture", limits=data.limits), digest
            return decode(content, name="picture", limits=data.limits).shape[:2], digest
        except RowError as error:
            return error
        except (MediaError, OSError) as error:
            what, _, remedy = str(error).removeprefix("picture").lstrip(": ").partition("; ")
            return RowError(
                record.place, record.fields[number], "broken picture", what, remedy or "replace it"
            )


def _identity(source: Any) -> bytes:
    """Equal where it is the same file or the same bytes, and short."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        raw = bytes(source)
    elif isinstance(source, list) or (isinstance(source, tuple) and not isinstance(source, Slice)):
        raw = b"".join(map(_identity, source))  # frames, or samples and their rate
    elif isinstance(source, (Path, Slice)):
        raw = repr(source).encode()
    else:
        raw = np.asarray(source).tobytes()
    return hashlib.blake2b(raw, digest_size=16).digest()


def _pictures(
    record: Record, looks: Sequence[Look | RowError], report: Report, seen: _Seen
) -> list[Size] | None:
    """The sizes of a record's pictures; None where one of them cannot be used."""
    sizes: list[Size] = []
    report.pictures += len(looks)
    report.text_only += not looks and not record.moving
    own: set[bytes] = set()
    for number, (source, look) in enumerate(zip(record.sources, looks, strict=True)):
        at = record.fields[number]
        if isinstance(look, RowError):
            report.add(Problem(look.kind, record.place, at, look.what, look.remedy))
            continue
        size, digest = look
        sizes.append(size)
        report.sides[max(size)] += 1
        name = str(source) if isinstance(source, Path) else str(record.place)
        first = seen.digests.setdefault(digest, name)
        if digest in own or (first != name and isinstance(source, Path)):
            where = "another of this row" if digest in own else first
            report.add(
                Problem(
                    "duplicate picture",
                    record.place,
                    at,
                    f"the same picture as {where}",
                    "keep one file of it",
                )
            )
        own.add(digest)
    return sizes if len(sizes) == len(looks) else None


def _moving(record: Record, report: Report, seen: _Seen) -> bool:
    """Note how long a record's clips and sounds are; whether all can be used."""
    whole = True
    for part in record.moving:
        seconds = seen.seconds[_identity(part.source)]
        if isinstance(seconds, RowError):
            whole = False
            at = record.field_of(part)
            report.add(Problem(seconds.kind, record.place, at, seconds.what, seconds.remedy))
        else:
            report.seconds[kind_of(part)].append(seconds)
    return whole


def _words(data: Records, index: int, record: Record, report: Report, seen: _Seen) -> bool:
    """Look at what is said; whether anything is answered."""
    answers = [message for message in record.messages if message.role == "assistant"]
    report.answers += len(answers)
    if not answers:
        report.add(
            Problem(
                "no answer", record.place, "", "has no answer to learn from", "add one, or leave the row out"
            )
        )
    if any(not _text(message.parts).strip() for message in answers):
        report.add(
            Problem(
                "empty answer",
                record.place,
                "",
                "has an answer without words",
                "write it, or leave the row out",
            )
        )
    said = "\0".join(f"{message.role}\1{_text(message.parts)}" for message in record.messages)
    raw = said.encode() + b"".join(
        map(_identity, [*record.sources, *(part.source for part in record.moving)])
    )
    first = seen.rows.setdefault(hashlib.blake2b(raw, digest_size=16).digest(), index)
    if first != index:
        what = f"says the same as {data.rows.place(first)}"
        report.add(Problem("duplicate row", record.place, "", what, "leave one out"))
    return bool(answers)


def _text(parts: Sequence[object]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


def _measure(
    collator: Collator,
    data: Records,
    record: Record,
    sizes: Sequence[Size],
    report: Report,
    index: int,
    *,
    wanted: bool,
) -> None:
    """Count a record's tokens, where that is wanted or there could be too many: no token is shorter than a byte."""
    from beholder.train.collate import ItemError

    if not wanted and not record.moving:
        letters = sum(len(_text(message.parts).encode()) for message in record.messages)
        media = sum(collator.media_tokens(size) for size in sizes)
        if letters + media + OVERHEAD * (len(record.messages) + len(sizes) + 1) <= collator.room:
            return
    try:
        tokens, media = collator.measure(data.opened(record), sizes, record.key)
    except (ItemError, MediaError) as error:
        kind, said = ("cannot be read", str(error))
        if isinstance(error, ItemError):
            kind, said = error.kind, error.detail
        what, _, remedy = said.partition("; ")
        report.add(Problem(kind, record.place, "", what, remedy or "change the row or choose another card"))
        return
    if wanted:
        report.tokens.append(tokens)
        report.media.append(media)
        report.at.append(index)
