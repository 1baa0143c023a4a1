"""Questions about pictures in a file of our own: JSON lines with picture (beside the file), question, answer and, if wanted,
task.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from beholder.data.readers.json_rows import JsonRows
from beholder.data.readers.rows import RowError
from beholder.data.samples import Sample, Turn, checked_index
from beholder.errors import BeholderError
from beholder.media.decode import decode

FIELDS = ("picture", "question", "answer")


class QuestionFile:
    """Questions from a file of JSON lines; those that follow each other about one picture are one sample.

    Raises `BeholderError` that names the file and the line.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, JsonRows(path)
        if not self.rows.lines:
            raise BeholderError(f"{path}: is a list; write one JSON object a line")
        firsts, last = [], None
        for index in range(len(self.rows)):
            picture = self._row(index)["picture"]
            if picture != last:
                firsts.append(index)
                last = picture
        self._edges = np.array([*firsts, len(self.rows)])

    def __len__(self) -> int:
        return len(self._edges) - 1

    def __getitem__(self, index: int) -> Sample:
        index = checked_index(index, len(self))
        rows = [self._row(number) for number in range(self._edges[index], self._edges[index + 1])]
        picture = rows[0]["picture"]
        turns = tuple(Turn(row["question"], row["answer"], row.get("task", "all")) for row in rows)
        return Sample(decode(self.path.parent / picture, name=self.path.name), turns, picture)

    def _row(self, index: int) -> Mapping[str, Any]:
        row = self.rows.row(index)
        lacks = [name for name in FIELDS if not isinstance(row.get(name), str)]
        if lacks:
            place = self.rows.place(index)
            raise RowError(
                place, lacks[0], "wrong type", f"has no text under {', '.join(lacks)}", "write it in quotes"
            )
        return row
