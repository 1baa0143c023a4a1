"""Rows of JSON: one object a line, or a list of objects. Only where each row begins and ends is kept in memory; the file is
mapped and a row is parsed when it is asked for.
"""

from __future__ import annotations

import csv
import json
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from beholder.data.readers.rows import Place, RowError, named
from beholder.errors import BeholderError

CHUNK = 1 << 20  # bytes looked through at a time
STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{}]', re.DOTALL)
MARK = b"\xef\xbb\xbf"  # of UTF-8 at the beginning of a file
WIDE = (b"\xff\xfe", b"\xfe\xff")  # of UTF-16


class JsonRows:
    """The rows of a .json or .jsonl file. Raises `BeholderError` for a file that is neither, and `RowError` for a bad row."""

    near = None

    def __init__(self, path: Path) -> None:
        self.path, self.root = path, path.parent
        self._map = named(lambda: _mapped(path), str(path))
        if self._map[:2] in WIDE:
            raise BeholderError(f"{path}: is not UTF-8 but UTF-16; save it as UTF-8")
        start = len(MARK) if self._map[:3] == MARK else 0
        first = self._map[start : start + 4096].lstrip()[:1]
        self.lines = first != b"["
        if self.lines:
            self.starts, self.ends, self.numbers = _line_places(self._map, start)
        else:
            self.starts, self.ends = _element_places(self._map, path)
            self.numbers = np.arange(1, len(self.starts) + 1)
        if not len(self.starts):
            raise BeholderError(f"{path}: holds no rows; write a list of objects, or one object a line")
        if self.lines and first == b"{" and len(self.starts) > 1:
            self._check_lines()

    def __len__(self) -> int:
        return len(self.starts)

    def place(self, index: int) -> Place:
        return Place(str(self.path), int(self.numbers[index]), "line" if self.lines else "row")

    def sizes(self) -> np.ndarray:
        return self.ends - self.starts

    def row(self, index: int) -> Mapping[str, Any]:
        text = self._map[self.starts[index] : self.ends[index]]
        try:
            row = json.loads(text.decode())
        except UnicodeDecodeError as error:
            raise RowError(
                self.place(index),
                "",
                "not UTF-8",
                f"byte {error.start} is not UTF-8",
                "save the file as UTF-8",
            ) from None
        except (json.JSONDecodeError, RecursionError) as error:
            what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            raise RowError(
                self.place(index), "", "not JSON", f"not JSON ({what})", "write one object"
            ) from None
        if not isinstance(row, dict):
            raise RowError(
                self.place(index), "", "wrong type", f"a {type(row).__name__}, not an object", "write {...}"
            )
        return row

    def _check_lines(self) -> None:
        """Raises `BeholderError` for one object over many lines, which would be as many bad rows."""
        head = self._map[self.starts[0] : self.ends[0]].strip()
        if head in (b"{", b"{ "):
            raise BeholderError(
                f"{self.path}: is one object over many lines; write a list of objects, or one object a line"
            )


class CsvRows:
    """The rows of a .csv or .tsv file with a header; held in memory."""

    near = None

    def __init__(self, path: Path) -> None:
        self.path, self.root = path, path.parent
        try:
            text = named(lambda: path.read_text(encoding="utf-8-sig"), str(path))
        except UnicodeDecodeError:
            raise BeholderError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
        delimiter = "\t" if path.suffix == ".tsv" else ","
        self._rows = list(csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter))
        if not self._rows:
            raise BeholderError(f"{path}: holds no rows; write a header and a row for each picture")

    def __len__(self) -> int:
        return len(self._rows)

    def place(self, index: int) -> Place:
        return Place(str(self.path), index + 1)

    def sizes(self) -> np.ndarray:
        return np.array([sum(map(len, map(str, row.values()))) for row in self._rows])

    def row(self, index: int) -> Mapping[str, Any]:
        row = self._rows[index]
        if None in row or None in row.values():
            raise RowError(
                self.place(index),
                "",
                "wrong type",
                "has another number of fields than the header",
                "quote them",
            )
        return row


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise BeholderError(f"{path}: is empty; write a list of objects, or one object a line") from None


def _line_places(data: mmap.mmap, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Beginning, end and number of every line that is not blank."""
    breaks = [
        np.flatnonzero(np.frombuffer(data[at : at + CHUNK], np.uint8) == 10) + at
        for at in range(0, len(data), CHUNK)
    ]
    ends = np.concatenate([*breaks, [len(data)]])
    starts = np.concatenate([[start], ends[:-1] + 1])
    numbers = np.arange(1, len(starts) + 1)
    short = np.flatnonzero(ends - starts < 16)
    blank = [i for i in short.tolist() if not data[starts[i] : ends[i]].strip()]
    keep = np.ones(len(starts), bool)
    keep[blank] = False
    return starts[keep], ends[keep], numbers[keep]


def _element_places(data: mmap.mmap, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Beginning and end of every object of a list. Raises `BeholderError` for a list that is cut off or badly written."""
    depth, starts, ends, closed = 0, [], [], 0
    for match in STRUCTURE.finditer(data):
        mark = data[match.start()]
        if mark in b"[{":
            depth += 1
            if depth == 2:
                starts.append(match.start())
        elif mark in b"]}":
            depth -= 1
            if depth == 1:
                ends.append(match.end())
            elif depth == 0:
                closed = match.end()
                break
    if not closed or data[closed:].strip():
        where = "does not end" if not closed else f"goes on behind its end at byte {closed:,}"
        raise BeholderError(
            f"{path}: the list {where}; the file is cut off or two were joined: write it again"
        )
    edges = [data.find(b"[") + 1, *ends], [*starts, closed - 1]
    for number, (end, start) in enumerate(zip(*edges, strict=True)):
        between = data[end:start].strip()
        inner = 0 < number < len(starts)
        if between != (b"," if inner else b""):
            raise BeholderError(
                f"{path}: {between[:20]!r} stands behind row {number} where {'a comma' if inner else 'nothing'} belongs; "
                "repair the JSON"
            )
    return np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)
