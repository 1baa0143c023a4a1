"""Retrieval of pictures by texts and of texts by pictures: recall at k, and where the first right one stands.

V pictures, B texts, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beholder.errors import BeholderError

ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Recall:
    """at: k -> share of queries that find a right answer among the first k. median: of the first right answer's rank;
    reciprocal: mean of one over that rank; count: queries.
    """

    at: dict[int, float]
    median: float
    reciprocal: float
    count: int


@dataclass(frozen=True)
class Retrieval:
    """texts_by_picture: texts found for pictures (R@k of image-to-text); pictures_by_text: the other way."""

    texts_by_picture: Recall
    pictures_by_text: Recall


def retrieval(
    images_VD: np.ndarray, texts_BD: np.ndarray, picture_of: Sequence[int], *, ks: Sequence[int] = (1, 5, 10)
) -> Retrieval:
    """Both ways, by the cosine of unit vectors. picture_of: for each text the number of the picture it belongs to; a
    picture may have several texts, of which finding one is right. Pictures without a text are found by none and ask
    nothing. Among equally near answers the right one counts as last, so that equal vectors earn nothing.
    """
    owner_B = np.asarray(picture_of, dtype=np.int64)
    if owner_B.shape != (len(texts_BD),) or not len(owner_B):
        raise BeholderError(
            f"{len(texts_BD)} texts and the pictures of {owner_B.size}; give one number for each text"
        )
    if owner_B.min() < 0 or owner_B.max() >= len(images_VD):
        raise BeholderError(
            f"a text belongs to picture {int(owner_B.max() if owner_B.min() >= 0 else owner_B.min())}, "
            f"but there are {len(images_VD)}, counted from 0"
        )
    asking = np.unique(owner_B)
    by_picture = _ranks(images_VD[asking], texts_BD, asking[:, None] == owner_B[None, :])
    by_text = _ranks(texts_BD, images_VD, owner_B[:, None] == np.arange(len(images_VD))[None, :])
    return Retrieval(_recall(by_picture, ks), _recall(by_text, ks))


def _ranks(queries_QD: np.ndarray, answers_AD: np.ndarray, right_QA: np.ndarray) -> np.ndarray:
    """For each query the rank, from 1, of its best right answer: the wrong ones as near or nearer, and one."""
    ranks = []
    for first in range(0, len(queries_QD), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        likeness_qA = queries_QD[rows] @ answers_AD.T
        right_qA = right_QA[rows]
        best_q = np.where(right_qA, likeness_qA, -np.inf).max(1, keepdims=True)
        ranks.append(1 + ((likeness_qA >= best_q) & ~right_qA).sum(1))
    return np.concatenate(ranks)


def _recall(ranks: np.ndarray, ks: Sequence[int]) -> Recall:
    at = {int(k): float((ranks <= k).mean()) for k in ks}
    return Recall(at, float(np.median(ranks)), float((1 / ranks).mean()), len(ranks))
