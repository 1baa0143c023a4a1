"""Changed pictures: by key and epoch alone, and never so that what is said becomes untrue."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from beholder.data import Augment, Augmented, Conversation, Mixture, Order, Packed, Sample, Turn
from beholder.data.order import Buckets
from beholder.errors import BeholderError
from beholder.media.plan import Box
from beholder.prompts.messages import Picture, Regions, assistant, user

MIRROR = Augment(crop=1, flip=1, brightness=0, contrast=0, saturation=0)
CROP = Augment(crop=0.5, flip=0, brightness=0, contrast=0, saturation=0)
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def sample(question: str, answer: str = "a cat") -> Sample:
    return Sample(PIXELS, (Turn(question, answer, "x"),), "a")


def changed(augment: Augment, *items) -> list[np.ndarray]:
    data = Augmented(items, augment)
    got = [data[number] for number in range(len(items))]
    return [item.pixels if isinstance(item, Sample) else item.pictures[0] for item in got]


def test_the_same_key_and_epoch_give_the_same_picture() -> None:
    data = Augmented([sample("What?"), sample("What?")], Augment(), seed=3)
    assert np.array_equal(data[0].pixels, Augmented([sample("What?")], Augment(), seed=3)[0].pixels)
    others = [data[1], data[2], Augmented([sample("What?")], seed=4)[0]]
    assert all(not np.array_equal(data[0].pixels, other.pixels) for other in others)
    assert len({data[2 * epoch].pixels.shape for epoch in range(20)}) > 10


def test_a_crop_keeps_its_share() -> None:
    data = Augmented([sample("What?")], CROP)
    sizes = [data[epoch].pixels.shape[:2] for epoch in range(200)]
    shares = [height * width / 1200 for height, width in sizes]
    assert min(shares) > 0.4 and max(shares) > 0.9
    cut = data[0].pixels
    rows, columns = cut.shape[:2]
    inside = [
        np.array_equal(PIXELS[top : top + rows, left : left + columns], cut)
        for top in range(31 - rows)
        for left in range(41 - columns)
    ]
    assert sum(inside) == 1


@pytest.mark.parametrize(
    ("question", "answer", "mirrored"),
    [
        ("What is it?", "a cat", True),
        ("Where is the cat?", "to the LEFT of the dog", False),
        ("Which is rightmost?", "a cat", False),
        ("What word is written?", "stop", False),
        ("Where is the cat?", "(120,30),(400,200)", False),
        ("Where is the cat?", "<loc0120><loc0300>", False),
        ("Is it bright?", "yes (2 lamps)", True),
    ],
)
def test_mirrors_stay_away_from_sides_letters_and_places(question: str, answer: str, mirrored: bool) -> None:
    (pixels,) = changed(MIRROR, sample(question, answer))
    assert np.array_equal(pixels, PIXELS[:, ::-1] if mirrored else PIXELS)


def test_regions_stay_where_they_are() -> None:
    talk = Conversation(
        (user(Picture(), Regions((Box(1, 2, 3, 4),)), "What?"), assistant("x")), (PIXELS,), "t"
    )
    plain = Conversation((user(Picture(), "What?"), assistant("x")), (PIXELS,), "t")
    for augment in (MIRROR, CROP):
        kept, moved = changed(augment, talk, plain)
        assert np.array_equal(kept, PIXELS) and not np.array_equal(moved, PIXELS)


def test_tones_stay_pictures() -> None:
    (pixels,) = changed(Augment(crop=1, flip=0, brightness=1, contrast=1, saturation=1), sample("What?"))
    assert pixels.dtype == np.uint8 and pixels.shape == PIXELS.shape and not np.array_equal(pixels, PIXELS)
    grey = np.full((4, 4, 3), 100, np.uint8)
    out = Augment(crop=1, flip=0, brightness=0, contrast=0.5, saturation=0.5).changed(
        grey, np.random.default_rng(0), moves=True, mirrors=True
    )
    assert np.array_equal(out, grey)  # neither has anything to work on


def test_orders_carry_the_epoch() -> None:
    data = Augmented([sample("What?")] * 6)
    taken = [index for batch in islice(Order(data, 1, 4).batches(), 6) for index in batch]
    assert sorted(taken) == list(range(24))
    lengths = [5, 1, 4, 2, 6, 3]
    for order in (Buckets(data, lengths, 1, 3), Packed(data, lengths, 1, 1, tokens=7, window=6)):
        indices = [index for batch in islice(order.batches(), 8) for index in batch]
        assert len(set(indices)) == len(indices) and max(indices) >= 6


def test_mixtures_carry_the_epoch_to_their_parts() -> None:
    data = Augmented([sample("What?")])
    mixed, plain = Mixture([data, [sample("Who?")]], [1, 1], length=10), Mixture([[sample("Who?")]], [1])
    assert mixed.by_epoch and not plain.by_epoch
    index = next(n for n in range(10) if mixed.drawn(n)[0] == 0)
    assert np.array_equal(mixed[index + 30].pixels, data[3].pixels)
    assert np.array_equal(mixed[next(n for n in range(10) if mixed.drawn(n)[0]) + 30].pixels, PIXELS)


def test_wrong_settings() -> None:
    with pytest.raises(BeholderError, match="crop 0, ratio"):
        Augment(crop=0)
    with pytest.raises(BeholderError, match="shares from 0 to 1"):
        Augment(flip=2)
