"""Spectrograms folded to squares, pooled vectors through an MLP, likeness with two scales."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.audio.spectrogram_swin import SpectrogramSwin
from beholder.parts.connectors.projections import Mlp, OfPooled
from beholder.parts.contracts import BranchOutput, HeadInputs, Packed
from beholder.parts.heads.two_ways import TwoWaySimilarity
from beholder.parts.vision.swin import Swin

SWIN = Swin(image_size=16, patch=2, width=8, depths=(1, 1), heads=(2, 2), window=4, channels=1)
ENCODER = SpectrogramSwin(SWIN, bins=8)


def test_pieces_of_time_lie_above_each_other() -> None:
    """Of a view of full length, which is not stretched: cell (r, c) of piece p is bin r at time p S + c."""
    encoder, view = ENCODER.build().eval(), torch.randn(1, 8, 32)
    with torch.no_grad():
        encoder.norm.running_mean.normal_()
        square = encoder.square(view)
        normed = (view[0] - encoder.norm.running_mean[:, None]) / (1 + 1e-5) ** 0.5
    assert square.shape == (1, 16, 16)
    assert torch.allclose(square[0, :8], normed[:, :16], atol=1e-5)
    assert torch.allclose(square[0, 8:], normed[:, 16:], atol=1e-5)


def test_shorter_sounds_are_stretched_and_padding_is_not_heard() -> None:
    torch.manual_seed(0)
    encoder, view = ENCODER.build().eval(), torch.randn(1, 8, 30)
    with torch.no_grad():
        cut, padded = encoder([view[..., :20]]), encoder([view], [20])
        stretched = F.interpolate(view[None, ..., :20], (8, 32), mode="bicubic", align_corners=True)[0]
        assert torch.allclose(encoder([stretched]).tokens_ND, cut.tokens_ND, atol=1e-3)
    assert torch.equal(cut.tokens_ND, padded.tokens_ND)


def test_tokens_are_frequencies_by_time() -> None:
    torch.manual_seed(0)
    encoder, view = ENCODER.build().eval(), torch.randn(1, 8, 32)
    with torch.no_grad():
        packed = encoder([view])
        folded = encoder.encoder([encoder.square(view)]).tokens_ND.view(4, 4, -1)
    assert packed.grids == (Grid(1, 2, 8),) == (ENCODER.grid((8, 32)),)
    rows = packed.tokens_ND.view(2, 8, -1)
    assert torch.equal(rows[:, :4], folded[:2]) and torch.equal(rows[:, 4:], folded[2:])
    assert packed.pooled_VD is not None
    assert torch.allclose(packed.pooled_VD[0], packed.tokens_ND.mean(0), atol=1e-6)


def test_what_does_not_fold() -> None:
    with pytest.raises(BeholderError, match="do not fold"):
        SpectrogramSwin(SWIN, bins=6)
    with pytest.raises(BeholderError, match="up to 32 columns"):
        ENCODER.grid((8, 33))


def test_pooled_vectors_go_through_the_map() -> None:
    connector, pooled = OfPooled(Mlp(act="relu"), 6).build(4, 9), torch.randn(2, 4)
    packed = Packed(torch.randn(8, 4), (Grid(1, 2, 2),) * 2, pooled_VD=pooled)
    first, second = connector.then.layers
    assert torch.allclose(connector(packed).tokens_ND, second(first(pooled).relu()))
    with pytest.raises(BeholderError, match="maps pooled vectors"):
        connector(Packed(torch.randn(4, 4), (Grid(1, 2, 2),)))


def test_both_sides_have_a_scale() -> None:
    config = TwoWaySimilarity(branch="audio", scale=math.log(2), back=math.log(3), dim=5, width=4)
    head, sounds, texts = config.build(None), torch.randn(2, 4), torch.randn(3, 5)
    branch = BranchOutput(Packed(sounds, (Grid(1, 1, 1),) * 2), ())
    found = head(HeadInputs(branches={"audio": branch}, pooled_BD=texts))
    first, second = head.texts.layers
    cosines = F.normalize(sounds, dim=-1) @ F.normalize(second(first(texts).relu()), dim=-1).T
    assert torch.allclose(found.scores_VB, 2 * cosines, atol=1e-6)
    assert torch.allclose(head.compare_back(found.texts_BD, found.images_VD), 3 * cosines.T, atol=1e-6)
