"""Which samples each batch of a run has: pure functions of a seed and the batch's number, so that a run resumes exactly and
any number of processes takes the same samples together.

Epochs follow each other without end; each is a permutation of its own, made of numbers alone and never held in memory whole.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from beholder.errors import BeholderError

SMALL = 1 << 16  # up to here a permutation is drawn and kept; larger ones are computed number by number
ROUNDS = 6  # of the Feistel network; four make a pseudorandom permutation of a random function (Luby and Rackoff, 1988)


def shuffled(places: np.ndarray, length: int, seed: Sequence[int]) -> np.ndarray:
    """The numbers that stand at `places` in a permutation of 0 to length - 1, which the seed decides."""
    if length <= SMALL:
        return _drawn(length, tuple(seed))[places]
    keys = np.random.default_rng(list(seed)).integers(0, 2**63, ROUNDS, dtype=np.uint64)
    half = np.uint64(((length - 1).bit_length() + 1) // 2)
    numbers = _mixed(np.asarray(places, np.uint64), keys, half)
    while (outside := numbers >= length).any():  # walk the cycle until it is back inside
        numbers[outside] = _mixed(numbers[outside], keys, half)
    return numbers.astype(np.int64)


@lru_cache(maxsize=8)
def _drawn(length: int, seed: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(list(seed)).permutation(length)


def _mixed(numbers: np.ndarray, keys: np.ndarray, half: np.uint64) -> np.ndarray:
    """A Feistel network over pairs of `half` bits; the round's function is the finish of SplitMix64 (Steele et al., 2014)."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = numbers >> half, numbers & mask
    for key in keys:
        x = right + key
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        left, right = right, left ^ ((x ^ (x >> np.uint64(31))) & mask)
    return (left << half) | right


@dataclass(frozen=True)
class Near:
    """A shuffle that reads a file in order of its pieces: whole runs of `run` neighbours, a piece of the file such as a shard
    or row group, are shuffled, and then the samples of every `together` runs. What is open at a time stays bounded.
    """

    run: int
    together: int = 16

    def __post_init__(self) -> None:
        if min(self.run, self.together) < 1:
            raise BeholderError(f"runs of {self.run}, {self.together} together: give 1 or more of each")

    def places(self, places: np.ndarray, length: int, seed: Sequence[int]) -> np.ndarray:
        """`shuffled`, nearly. The last run, which may be short, stays last."""
        whole = length // self.run
        group, inside = np.divmod(places, self.run * self.together)
        out = np.empty_like(places)
        for number in np.unique(group):
            chosen = group == number
            first = int(number) * self.together
            size = min(self.run * self.together, length - first * self.run)
            inner = shuffled(inside[chosen], size, [*seed, int(number) + 1])
            runs = first + inner // self.run
            moved = shuffled(np.minimum(runs, max(whole - 1, 0)), max(whole, 1), [*seed, 0])
            out[chosen] = np.where(runs < whole, moved, runs) * self.run + inner % self.run
        return out


class Order:
    """Batch n has the samples at places n * batch and so on of the epochs, one behind the other. For a data set whose samples
    differ by epoch (`by_epoch`), number i + e * length is sample i of epoch e.

    seed:        None keeps the data set's own order
    batch:       samples of a batch over all ranks; rank r of `ranks` takes the r-th share of each
    near:        how far the shuffle reaches, where a file cannot be read everywhere at once; the data set's own where None
    """

    def __init__(
        self,
        dataset: Sized,
        seed: int | None,
        batch: int,
        ranks: int = 1,
        rank: int = 0,
        *,
        near: Near | None = None,
    ) -> None:
        self.length, self.seed, self.batch = len(dataset), seed, batch
        self.near: Near | None = near or getattr(dataset, "near", None)
        if self.length < 1:
            raise BeholderError("the data set is empty; there is nothing to train on")
        if batch < 1 or ranks < 1 or batch % ranks or not 0 <= rank < ranks:
            raise BeholderError(
                f"batch {batch}, rank {rank} of {ranks}: give a batch that the number of processes divides"
            )
        self.by_epoch = bool(getattr(dataset, "by_epoch", False))
        self.share = slice(rank * batch // ranks, (rank + 1) * batch // ranks)

    def at(self, first: int, count: int) -> np.ndarray:
        """The samples at `count` places from `first` on, whatever the epoch."""
        epochs, places = np.divmod(np.arange(first, first + count), self.length)
        carried = epochs * self.length if self.by_epoch else 0
        if self.seed is None:
            return places + carried
        out = np.empty_like(places)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            seed = [self.seed, int(epoch)]
            out[chosen] = (
                shuffled(places[chosen], self.length, seed)
                if self.near is None
                else self.near.places(places[chosen], self.length, seed)
            )
        return out + carried

    def batches(self, first: int = 0) -> Iterator[tuple[int, ...]]:
        """This rank's samples of batch `first`, of the next one, and so on without end."""
        number = first
        while True:
            yield tuple(self.at(number * self.batch, self.batch)[self.share].tolist())
            number += 1


class Buckets(Order):
    """Batches of samples of like length, so that little is padded: the samples of every `window` batches are sorted by length
    and the batches shuffled again. lengths: of every sample, in any unit.
    """

    def __init__(
        self,
        dataset: Sized,
        lengths: Sequence[int] | np.ndarray,
        seed: int | None,
        batch: int,
        ranks: int = 1,
        rank: int = 0,
        *,
        window: int = 64,
        near: Near | None = None,
    ) -> None:
        super().__init__(dataset, seed, batch, ranks, rank, near=near)
        self.lengths = checked_lengths(lengths, self.length)
        self.window = max(1, min(window, self.length // batch))

    def batches(self, first: int = 0) -> Iterator[tuple[int, ...]]:
        number, skip = divmod(first, self.window)
        while True:
            for batch in self._window(number)[skip:]:
                yield tuple(batch[self.share].tolist())
            number, skip = number + 1, 0

    def _window(self, number: int) -> np.ndarray:
        """The batches (window, batch) of a window; no sample of an epoch moves into another's batches but at its border."""
        size = self.window * self.batch
        indices = self.at(number * size, size)
        epochs = np.arange(number * size, (number + 1) * size) // self.length
        table = indices[np.lexsort((self.lengths[indices % self.length], epochs))].reshape(
            self.window, self.batch
        )
        return table[shuffled(np.arange(self.window), self.window, [self.seed or 0, number, 1])]


class Packed(Order):
    """Batches of `rows` rows into which whole samples are packed, best fit of the longest first among every `window` samples.
    The samples of a batch come row by row, which is how the collator takes them.

    lengths: tokens of every sample; tokens: what a row holds. media, most_media: feature tokens (or pictures) of every sample
    and what a row may hold of them, so that the memory of vision is bounded as well.
    """

    def __init__(
        self,
        dataset: Sized,
        lengths: Sequence[int] | np.ndarray,
        seed: int | None,
        rows: int,
        ranks: int = 1,
        rank: int = 0,
        *,
        tokens: int,
        media: Sequence[int] | np.ndarray | None = None,
        most_media: int | None = None,
        window: int = 1024,
        near: Near | None = None,
    ) -> None:
        super().__init__(dataset, seed, rows, ranks, rank, near=near)
        self.lengths, self.tokens = checked_lengths(lengths, self.length), tokens
        self.media = np.zeros_like(self.lengths) if media is None else checked_lengths(media, self.length)
        self.most_media = int(self.media.sum()) if most_media is None else most_media
        self.window = max(1, min(window, self.length))
        for what, sizes, most in (("tokens", self.lengths, tokens), ("media", self.media, self.most_media)):
            worst = int(sizes.argmax())
            if sizes[worst] > most:
                raise BeholderError(
                    f"sample {worst} has {sizes[worst]:,} {what}, a row holds {most:,}; cut it, leave it out or lengthen rows"
                )

    def batches(self, first: int = 0) -> Iterator[tuple[int, ...]]:
        skip, waiting, number = first * self.batch, list[list[int]](), 0
        while True:
            waiting += self.packed(number)
            number += 1
            if skip:
                dropped = min(skip, len(waiting))
                waiting, skip = waiting[dropped:], skip - dropped
            while len(waiting) >= self.batch and not skip:
                batch, waiting = waiting[: self.batch], waiting[self.batch :]
                yield tuple(index for row in batch[self.share] for index in row)

    def packed(self, number: int) -> list[list[int]]:
        """The rows of a window; windows end where epochs do."""
        epoch, place = divmod(number, -(-self.length // self.window))
        start = place * self.window
        indices = self.at(epoch * self.length + start, min(self.window, self.length - start))
        rows = pack_rows(indices, self.lengths, self.tokens, self.media, self.most_media)
        return [
            rows[i]
            for i in shuffled(np.arange(len(rows)), len(rows), [self.seed or 0, epoch, place, 1]).tolist()
        ]


def pack_rows(
    indices: np.ndarray, lengths: np.ndarray, tokens: int, media: np.ndarray, most_media: int
) -> list[list[int]]:
    """Rows of samples, none longer than `tokens` or with more than `most_media` of media: the longest first, each to the row
    that it fills best.
    """
    rows: list[list[int]] = []
    spare: list[tuple[int, int]] = []  # (tokens left, row), sorted
    seen: list[int] = []
    own = indices % len(lengths)
    for index in indices[np.argsort(-lengths[own], kind="stable")].tolist():
        size, shown = int(lengths[index % len(lengths)]), int(media[index % len(lengths)])
        at = bisect_left(spare, (size, -1))
        while at < len(spare) and seen[spare[at][1]] + shown > most_media:
            at += 1
        left, row = spare.pop(at) if at < len(spare) else (tokens, len(rows))
        if row == len(rows):
            rows.append([])
            seen.append(0)
        rows[row].append(index)
        seen[row] += shown
        insort(spare, (left - size, row))
    return rows


def checked_lengths(lengths: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """One length of 0 or more for each of `count` samples; raises `BeholderError` for another number."""
    table = np.asarray(lengths, dtype=np.int64)
    if table.shape != (count,) or (count and table.min() < 0):
        raise BeholderError(f"{table.size:,} lengths for {count:,} samples; give one of 0 or more for each")
    return table
