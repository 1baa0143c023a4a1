"""Rows of parquet files, of Arrow files and of folders that `datasets.Dataset.save_to_disk` wrote, and of anything that gives
rows by number. Arrow files are mapped; of parquet files a few row groups are held at a time.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from beholder.data.order import Near
from beholder.data.readers.rows import Place, RowError, first_line, named
from beholder.errors import BeholderError

HELD = 1 << 28  # bytes of row groups, at least one


def pyarrow(module: str) -> Any:
    """A module of pyarrow. Raises `BeholderError` where it is not installed."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise BeholderError("parquet and Arrow files need pyarrow; pip install 'beholder[train]'") from None


class ParquetRows:
    """The rows of parquet files, one file behind the other."""

    def __init__(self, paths: Sequence[Path], *, held: int = HELD) -> None:
        parquet = pyarrow("pyarrow.parquet")
        self.paths, self.root, self.held = list(paths), paths[0].parent, held
        self._files, counts = [], []
        self._groups: list[tuple[int, int]] = []
        for number, path in enumerate(paths):
            try:
                file = named(partial(parquet.ParquetFile, path, memory_map=True), str(path))
            except pyarrow("pyarrow").ArrowException as error:
                raise BeholderError(
                    f"{path}: is no parquet file ({first_line(error)}); fetch it again"
                ) from None
            self._files.append(file)
            for group in range(file.num_row_groups):
                self._groups.append((number, group))
                counts.append(file.metadata.row_group(group).num_rows)
        self._ends = np.cumsum(counts, dtype=np.int64)
        if not len(self):
            raise BeholderError(f"{paths[0]}: holds no rows; give a file that has some")
        widest = max(
            file.metadata.row_group(g).total_byte_size
            for file in self._files
            for g in range(file.num_row_groups)
        )
        self.near = Near(int(max(counts)), max(1, held // (2 * max(widest, 1))))
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def _at(self, index: int) -> tuple[int, int]:
        group = int(np.searchsorted(self._ends, index, side="right"))
        return group, index - int(self._ends[group - 1] if group else 0)

    def place(self, index: int) -> Place:
        group, inside = self._at(index)
        file, first = self._groups[group]
        before = sum(self._files[file].metadata.row_group(g).num_rows for g in range(first))
        return Place(str(self.paths[file]), before + inside + 1)

    def sizes(self) -> None:
        return None

    def row(self, index: int) -> Mapping[str, Any]:
        group, inside = self._at(index)
        return _row(self._table(group), inside, self.place, index)

    def _table(self, group: int) -> Any:
        with self._lock:
            if group not in self._open:
                file, number = self._groups[group]
                try:
                    table = self._files[file].read_row_group(number)
                except (OSError, pyarrow("pyarrow").ArrowException) as error:
                    raise BeholderError(
                        f"{self.paths[file]}: row group {number + 1} cannot be read ({first_line(error)}); fetch it again"
                    ) from None
                while self._open and sum(t.nbytes for t in self._open.values()) + table.nbytes > self.held:
                    self._open.popitem(last=False)
                self._open[group] = table
            self._open.move_to_end(group)
            return self._open[group]


class ArrowRows:
    """The rows of Arrow files (streams, as Hugging Face's datasets keep them, or files), mapped into memory."""

    near = None

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths, self.root = list(paths), paths[0].parent
        self._batches: list[Any] = []
        self._owners: list[tuple[int, int]] = []  # file, and its rows before the batch
        for number, path in enumerate(paths):
            before = 0
            for batch in _batches(path):
                self._batches.append(batch)
                self._owners.append((number, before))
                before += batch.num_rows
        self._ends = np.cumsum([batch.num_rows for batch in self._batches], dtype=np.int64)
        if not len(self):
            raise BeholderError(f"{paths[0]}: holds no rows; give a file that has some")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def _at(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - int(self._ends[number - 1] if number else 0)

    def place(self, index: int) -> Place:
        number, inside = self._at(index)
        file, before = self._owners[number]
        return Place(str(self.paths[file]), before + inside + 1)

    def sizes(self) -> None:
        return None

    def row(self, index: int) -> Mapping[str, Any]:
        number, inside = self._at(index)
        return _row(self._batches[number], inside, self.place, index)


def _row(table: Any, inside: int, place: Callable[[int], Place], index: int) -> Mapping[str, Any]:
    """Row `inside` of a table or batch, which is row `index` of all. It is validated first: reading a damaged one could take
    the program down. Raises `RowError`.
    """
    one = table.slice(inside, 1)
    try:
        one.validate(full=True)
        row: Mapping[str, Any] = one.to_pylist()[0]
    except UnicodeDecodeError:
        raise RowError(
            place(index), "", "not UTF-8", "holds text that is not UTF-8", "write it as UTF-8"
        ) from None
    except (ValueError, OverflowError, pyarrow("pyarrow").ArrowException) as error:
        raise RowError(
            place(index), "", "damaged", f"cannot be read ({first_line(error)})", "fetch the file again"
        ) from None
    return row


def _batches(path: Path) -> list[Any]:
    arrow, ipc = pyarrow("pyarrow"), pyarrow("pyarrow.ipc")
    mapped = named(lambda: arrow.memory_map(str(path)), str(path))
    try:
        try:
            file = ipc.open_file(mapped)
            return [file.get_batch(i) for i in range(file.num_record_batches)]
        except arrow.ArrowInvalid:
            mapped.seek(0)
            return list(ipc.open_stream(mapped))
    except (OSError, arrow.ArrowException) as error:
        raise BeholderError(f"{path}: is no Arrow file ({first_line(error)}); fetch it again") from None


def saved_files(folder: Path) -> list[Path]:
    """The Arrow files of a folder that `save_to_disk` wrote. Raises `BeholderError` for one with several splits, or rows that
    were chosen or shuffled and not written so.
    """
    if (splits := folder / "dataset_dict.json").is_file():
        names = _json(splits).get("splits", [])
        if len(names) != 1:
            raise BeholderError(f"{folder}: has the splits {', '.join(names)}; give one of these folders")
        folder = folder / names[0]
    state = _json(folder / "state.json")
    if state.get("_indices_data_files"):
        raise BeholderError(
            f"{folder}: its rows were chosen or shuffled; save data.flatten_indices() instead, which writes them so"
        )
    return [folder / entry["filename"] for entry in state.get("_data_files", [])]


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(named(lambda: path.read_text(encoding="utf-8"), str(path)))
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise BeholderError(f"{path}: is damaged; save the data set again")
    return data


class IndexableRows:
    """Rows of something that has a length and gives mappings by number, such as a `datasets.Dataset` or a list."""

    near = None

    def __init__(self, data: Any, name: str) -> None:
        self.data, self.name, self.root = data, name, Path()
        if not len(data):
            raise BeholderError(f"{name}: holds no rows; give one that has some")

    def __len__(self) -> int:
        return len(self.data)

    def place(self, index: int) -> Place:
        return Place(self.name, index + 1)

    def sizes(self) -> None:
        return None

    def row(self, index: int) -> Mapping[str, Any]:
        row = self.data[index]
        if not isinstance(row, Mapping):
            raise RowError(
                self.place(index),
                "",
                "wrong type",
                f"a {type(row).__name__}, not a mapping",
                "give fields by name",
            )
        return row
