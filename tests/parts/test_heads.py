"""Similarity and next-token heads."""

from __future__ import annotations

import math

import pytest
import torch

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.contracts import BranchOutput, HeadInputs, Packed
from beholder.parts.heads.next_token import NextToken
from beholder.parts.heads.similarity import Similarity
from tests.toys import DECODER


def branches(vectors):
    return {"image": BranchOutput(Packed(vectors, (Grid(1, 1, 1),) * len(vectors)), ((),))}


@pytest.mark.parametrize("bias", [None, -10.0])
def test_scores_are_scaled_cosines(bias):
    images, texts = torch.randn(3, 8), torch.randn(2, 8) * 5
    head = Similarity(scale=1.5, bias=bias).build(None)
    with torch.no_grad():
        likeness = head(HeadInputs(pooled_BD=texts, branches=branches(images)))
    for i, image in enumerate(images):
        for j, text in enumerate(texts):
            cosine = float(image @ text / image.norm() / text.norm())
            assert float(likeness.scores_VB[i, j]) == pytest.approx(
                cosine * math.exp(1.5) + (bias or 0), abs=1e-4
            )
    assert torch.allclose(likeness.images_VD.norm(dim=-1), torch.ones(3), atol=1e-6)
    assert torch.allclose(likeness.texts_BD.norm(dim=-1), torch.ones(2), atol=1e-6)


def test_one_side_alone_gives_its_vectors_and_no_scores():
    head = Similarity().build(None)
    assert head(HeadInputs(branches=branches(torch.randn(2, 4))))[1:] == (None, None)
    likeness = head(HeadInputs(pooled_BD=torch.randn(2, 4)))
    assert (likeness.images_VD, likeness.scores_VB) == (None, None)
    assert head.scale.exp().item() == pytest.approx(1 / 0.07)


def test_next_token_uses_the_language_parts_own_map():
    hidden = torch.randn(2, 3, 4)
    head = NextToken().build(DECODER)
    assert torch.equal(head(HeadInputs(hidden_BTD=hidden, unembed=lambda x: x * 2)), hidden * 2)
    with pytest.raises(BeholderError, match="language part"):
        NextToken().build(None)
