"""Mixtures: reproducible, with the odds asked for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from beholder.data import Augmented, Mixture, Sample, tasks
from beholder.data.samples import Bare
from beholder.errors import BeholderError


class Numbers:
    """Ten samples whose keys say where they come from."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.zeros((1, 1, 3), np.uint8), (), f"{self.name}/{index}")


def test_odds_and_order_are_fixed() -> None:
    mixture = Mixture([Numbers("a"), Numbers("b")], [3, 1], seed=7, length=2000)
    keys = [mixture[index].key for index in range(2000)]
    assert [mixture[index].key for index in (1999, 0, 77)] == [keys[1999], keys[0], keys[77]]
    assert 0.71 < Counter(key[0] for key in keys)["a"] / 2000 < 0.79
    assert len(set(keys)) == 20
    other = Mixture([Numbers("a"), Numbers("b")], [3, 1], seed=8, length=2000)
    assert [other[index].key for index in range(50)] != keys[:50]


def test_length_and_its_end() -> None:
    mixture = Mixture([Numbers("a"), Numbers("b")], [1, 1])
    assert len(mixture) == 20
    assert mixture[-1].key == mixture[19].key
    with pytest.raises(IndexError):
        mixture[20]


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -2]])
def test_weights_must_fit(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        Mixture([Numbers("a"), Numbers("b")], weights)


def test_task_names() -> None:
    assert len(set(tasks())) == len(tasks())
    assert {"naming", "counting", "position", "colour", "presence", "easy-vqa/yes-no"} <= set(tasks())


def test_what_stands_over_a_data_set_keeps_its_order_and_lengths() -> None:
    class Filed(Numbers):
        near = "runs"

        def sizes(self) -> np.ndarray:
            return np.arange(10)

    for over in (Bare(Filed("a")), Augmented(Filed("a"))):
        assert over.near == "runs" and over.sizes().tolist() == list(range(10)) and len(over) == 10
    assert Bare(Augmented(Numbers("a"))).by_epoch and not Bare(Numbers("a")).by_epoch
    assert Bare(Numbers("a")).near is None and Bare(Numbers("a")).sizes() is None


def test_temperature_levels_the_odds_of_data_sets() -> None:
    def made(temperature: float) -> list[float]:
        parts = [[Numbers("a")[0]] * 1000, [Numbers("b")[0]] * 10]
        return Mixture(parts, temperature=temperature).odds.tolist()

    assert made(1) == pytest.approx([1000 / 1010, 10 / 1010])
    assert made(2) == pytest.approx([10 / 11, 1 / 11])
    assert made(1e9) == pytest.approx([0.5, 0.5])
    with pytest.raises(BeholderError, match="temperature 0 of a mixture is not positive"):
        made(0)
    with pytest.raises(BeholderError, match="data set 2 of the mixture is empty"):
        Mixture([Numbers("a"), []])
