"""How many tokens each item of a data set has, for batches of like length and packed rows; counted once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from beholder.data.readers.open import Records
from beholder.data.readers.rows import RowError, check_there, loaded
from beholder.data.samples import Dataset, Mixture
from beholder.errors import BeholderError, MediaError
from beholder.files import atomic_file
from beholder.media.decode import picture_size

if TYPE_CHECKING:
    from beholder.train.collate import Collator


class Lengths(NamedTuple):
    """Of every item: its tokens in a row, and how many of them are features."""

    tokens: np.ndarray
    media: np.ndarray


def lengths(
    dataset: Dataset,
    collator: Collator,
    *,
    kept: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Lengths:
    """Count every item. Of pictures and sounds in files only the heads are read, of clips the index and the first frame. kept:
    a .npz file to read them from, and to write them to, as long as data files, card and tokenizer stay as they are. Raises as
    reading and collating do.
    """
    mark = None if kept is None else signature(dataset, collator)
    if kept is not None and mark is not None and kept.is_file():
        try:
            with np.load(kept) as found:
                if str(found["mark"]) == mark:
                    return Lengths(found["tokens"], found["media"])
        except (OSError, ValueError, KeyError):
            pass  # damaged, or of another kind; it is written anew
    table = np.empty((2, len(dataset)), dtype=np.int64)
    for index in range(len(dataset)):
        table[:, index] = _measured(dataset, index, collator)
        if progress is not None and (index % 256 == 0 or index + 1 == len(dataset)):
            progress("lengths", index + 1, len(dataset))
    if kept is not None and mark is not None:
        with atomic_file(kept) as part, part.open("wb") as file:
            np.savez(file, mark=np.array(mark), tokens=table[0], media=table[1])
    return Lengths(table[0], table[1])


def _measured(dataset: Dataset, index: int, collator: Collator) -> tuple[int, int]:
    if isinstance(dataset, Mixture) and not dataset.by_epoch:
        part, number = dataset.drawn(index)
        return _measured(dataset.datasets[part], number, collator)
    if not isinstance(dataset, Records):
        return collator.measure_item(dataset[index])
    record = dataset.record(index)
    sizes = []
    for number, source in enumerate(record.sources):
        try:
            check_there(source, record.place, record.fields[number], "picture")
            sizes.append(picture_size(loaded(source), name="picture", limits=dataset.limits))
        except MediaError as error:
            raise RowError(
                record.place, record.fields[number], "broken picture", str(error), "see check-data"
            ) from None
    try:
        return collator.measure(dataset.opened(record), sizes, record.key)
    except (RowError, MediaError):
        raise  # which name the row
    except BeholderError as error:
        raise BeholderError(f"{record.place}: {error}") from None


def signature(dataset: Dataset, collator: Collator) -> str | None:
    """A digest of all that lengths depend on; None where that cannot be told from files."""
    if not isinstance(dataset, Records):
        return None
    files = getattr(dataset.rows, "paths", None) or [getattr(dataset.rows, "path", None)]
    if None in files:
        return None
    found = hashlib.blake2b(digest_size=16)
    for file in files:
        status = Path(file).stat()
        found.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    settings = (
        collator.tokens,
        collator.longest,
        dataset.caption,
        sorted(dataset.columns.items()),
        str(dataset.root),
    )
    found.update(repr((collator.card, settings)).encode())
    found.update(collator.tokenizer.published().encode())
    return found.hexdigest()
