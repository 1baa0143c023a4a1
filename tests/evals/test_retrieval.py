"""Recall against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from beholder.errors import BeholderError
from beholder.evals import retrieval as module
from beholder.evals.retrieval import retrieval


def unit(count: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_hand(queries: np.ndarray, answers: np.ndarray, right: list[set[int]], k: int) -> float:
    """Share of queries with a right answer among the first k of all answers in order."""
    hits = 0
    for query, wanted in zip(queries, right, strict=True):
        order = sorted(range(len(answers)), key=lambda a: -float(query @ answers[a]))
        hits += bool(set(order[:k]) & wanted)
    return hits / len(queries)


@pytest.mark.parametrize("seed", range(4))
def test_both_ways_equal_counting_by_hand(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    images, texts = unit(20, 4, seed), unit(46, 4, seed + 10)
    owner = [*range(20), *np.random.default_rng(seed).integers(0, 18, 26).tolist()]
    texts += 0.6 * images[owner]
    found = retrieval(images, texts, owner, ks=(1, 3, 10))
    texts_of = [{number for number, picture in enumerate(owner) if picture == v} for v in range(20)]
    for k in (1, 3, 10):
        assert found.texts_by_picture.at[k] == pytest.approx(by_hand(images, texts, texts_of, k))
        assert found.pictures_by_text.at[k] == pytest.approx(by_hand(texts, images, [{v} for v in owner], k))
    assert found.texts_by_picture.count == 20 and found.pictures_by_text.count == 46
    assert 0 < found.pictures_by_text.at[1] < found.pictures_by_text.at[10] < 1


def test_equal_vectors_earn_nothing_and_perfect_ones_all() -> None:
    same = np.ones((5, 3)) / np.sqrt(3)
    nothing = retrieval(same, same, range(5), ks=(1, 4, 5))
    assert nothing.pictures_by_text.at == {1: 0.0, 4: 0.0, 5: 1.0} and nothing.pictures_by_text.median == 5
    images = unit(5, 8, 0)
    best = retrieval(images, images, range(5))
    assert best.texts_by_picture.at[1] == best.pictures_by_text.reciprocal == 1.0


def test_a_picture_without_texts_asks_nothing() -> None:
    images = unit(3, 8, 1)
    found = retrieval(images, images[:2], [0, 1])
    assert found.texts_by_picture.count == 2 and found.pictures_by_text.at[1] == 1.0


@pytest.mark.parametrize(
    ("owner", "said"),
    [([0], "2 texts and the pictures of 1"), ([0, 3], "picture 3, but"), ([0, -1], "picture -1")],
)
def test_pairs_that_do_not_fit(owner: list[int], said: str) -> None:
    with pytest.raises(BeholderError, match=said):
        retrieval(unit(3, 4, 0), unit(2, 4, 1), owner)
