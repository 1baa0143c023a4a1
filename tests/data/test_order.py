"""Orders of batches: every sample once an epoch, the same for every number of ranks, and from any step on."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beholder.data import order as orders
from beholder.data.order import Buckets, Near, Order, Packed, shuffled
from beholder.errors import BeholderError

LENGTHS = np.random.default_rng(0).integers(1, 400, 1007)
KINDS = ("plain", "near", "buckets", "packed")


def made(kind: str, batch: int = 8, ranks: int = 1, rank: int = 0, seed: int = 5) -> Order:
    data = range(len(LENGTHS))
    if kind == "buckets":
        return Buckets(data, LENGTHS, seed, batch, ranks, rank, window=16)
    if kind == "packed":
        return Packed(data, LENGTHS, seed, batch, ranks, rank, tokens=512, window=100)
    return Order(data, seed, batch, ranks, rank, near=Near(10, 4) if kind == "near" else None)


@given(st.integers(1, 3000), st.integers(0, 2**40))
def test_shuffles_are_permutations(length: int, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for small in (0, 1 << 16):  # computed and drawn
            patch.setattr(orders, "SMALL", small)
            assert sorted(shuffled(np.arange(length), length, [seed])) == list(range(length))


def test_a_large_shuffle_is_even_and_needs_no_table() -> None:
    length = 10**9
    places = np.arange(0, length, 100_003)
    numbers = shuffled(places, length, [3, 1])
    assert len(set(numbers.tolist())) == len(places) and numbers.min() >= 0 and numbers.max() < length
    assert abs(numbers.mean() / length - 0.5) < 0.02
    assert abs(np.corrcoef(places, numbers)[0, 1]) < 0.05
    assert not np.array_equal(numbers, shuffled(places, length, [3, 2]))


@pytest.mark.parametrize("kind", ["plain", "near"])
def test_every_sample_once_an_epoch(kind: str) -> None:
    order, count = made(kind), len(LENGTHS)
    epochs = [order.at(count * epoch, count).tolist() for epoch in range(3)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    kept = Order(range(5), None, 2)
    assert list(islice(kept.batches(), 4)) == [(0, 1), (2, 3), (4, 0), (1, 2)]


def test_buckets_hold_every_sample_once_an_epoch_and_like_lengths() -> None:
    order = made("buckets")
    batches = list(islice(order.batches(), 16 * len(LENGTHS)))  # windows end with the last of 128 epochs
    assert set(Counter(index for batch in batches for index in batch).values()) == {128}
    within = np.mean([np.ptp(LENGTHS[list(batch)]) for batch in batches[:200]])
    plain = np.mean([np.ptp(LENGTHS[list(batch)]) for batch in islice(made("plain").batches(), 200)])
    assert within < 0.15 * plain


def test_packed_rows_hold_every_sample_once_an_epoch_and_are_full() -> None:
    order = made("packed")
    assert isinstance(order, Packed)
    windows = -(-len(LENGTHS) // 100)
    for epoch in range(2):
        rows = [row for number in range(windows) for row in order.packed(epoch * windows + number)]
        assert sorted(index for row in rows for index in row) == list(range(len(LENGTHS)))
        assert all(LENGTHS[row].sum() <= 512 for row in rows)
        assert LENGTHS.sum() / (512 * len(rows)) > 0.93


def test_packed_rows_bound_their_media() -> None:
    media = np.where(LENGTHS > 300, 2, 1)
    order = Packed(range(len(LENGTHS)), LENGTHS, 1, 4, tokens=2048, media=media, most_media=5)
    assert all(media[row].sum() <= 5 for row in order.packed(0))
    with pytest.raises(BeholderError, match=r"sample \d+ has 2 media, a row holds 1; cut it"):
        Packed(range(len(LENGTHS)), LENGTHS, 1, 4, tokens=2048, media=media, most_media=1)
    with pytest.raises(BeholderError, match=r"sample \d+ has 399 tokens, a row holds 300"):
        Packed(range(len(LENGTHS)), LENGTHS, 1, 4, tokens=300)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [0, 1, 17, 150, 333])
def test_any_step_is_where_it_was(kind: str, step: int) -> None:
    whole = list(islice(made(kind).batches(), step + 5))
    assert list(islice(made(kind).batches(step), 5)) == whole[step:]
    assert list(islice(made(kind, seed=6).batches(step), 5)) != whole[step:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_all_ranks_together_take_what_one_takes(kind: str, ranks: int) -> None:
    alone = islice(made(kind).batches(11), 20)
    shares = [made(kind, ranks=ranks, rank=rank).batches(11) for rank in range(ranks)]
    for batch in alone:
        assert sum((next(share) for share in shares), ()) == batch


def test_neighbours_stay_near() -> None:
    """At no time are more pieces of the file in use than were allowed."""
    order = Order(range(10_000), 1, 100, near=Near(run=50, together=4))
    for batch in islice(order.batches(), 100):
        assert len({index // 50 for index in batch}) <= 4
    assert len({index // 50 for index in next(made("plain").batches())}) > 4


def test_wrong_numbers() -> None:
    with pytest.raises(BeholderError, match="data set is empty"):
        Order((), 0, 4)
    with pytest.raises(
        BeholderError, match="batch 6, rank 0 of 4: give a batch that the number of processes divides"
    ):
        Order(range(9), 0, 6, 4)
    with pytest.raises(BeholderError, match="3 lengths for 9 samples"):
        Buckets(range(9), [1, 2, 3], 0, 3)
    with pytest.raises(BeholderError, match="runs of 0"):
        Near(0)
