"""Attention over contents and distances, against loops."""

from __future__ import annotations

import math

import pytest
import torch

from beholder.errors import BeholderError
from beholder.parts.blocks.disentangled import DisentangledAttention, DistanceVectors
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.step import Step

CONFIG = DisentangledAttention(2, qkv_bias=True, out_bias=True, span=4, farthest=8, norm=Norm())


def bucket(distance: int, span: int = 4, farthest: int = 8) -> int:
    """One distance at a time, as the official code has it."""
    middle = span // 2
    if abs(distance) <= middle:
        return distance
    steps = math.ceil(math.log(abs(distance) / middle) / math.log((farthest - 1) / middle) * (middle - 1))
    return int(math.copysign(steps + middle, distance))


def test_near_distances_are_apart_and_far_ones_share_buckets() -> None:
    distances = torch.arange(-12, 13)
    want = [min(max(bucket(int(d)) + 4, 0), 7) for d in distances]
    assert CONFIG.of(distances).tolist() == want
    assert CONFIG.but(farthest=0).of(distances).tolist() == [min(max(int(d) + 4, 0), 7) for d in distances]


@pytest.mark.parametrize("to_place", [True, False])
@pytest.mark.parametrize("from_place", [True, False])
@pytest.mark.parametrize("own_maps", [True, False])
def test_scores_are_sums_of_products(to_place: bool, from_place: bool, own_maps: bool) -> None:
    torch.manual_seed(0)
    config = CONFIG.but(to_place=to_place, from_place=from_place, own_maps=own_maps)
    attn, vectors = config.build(8), DistanceVectors(config, 8)
    x, keep = torch.randn(1, 7, 8), torch.tensor([[True] * 6 + [False]])
    step = Step(queries=Visibility.bidirectional(keep), positions=torch.arange(7)[None])
    step.shared.distances = vectors()
    q, k, v = (heads[0] for heads in (attn.split(part) for part in attn.project(x)))
    given = vectors()
    place_k = attn.split((attn.place_k or attn.k)(given)[None])[0]
    place_q = attn.split((attn.place_q or attn.q)(given)[None])[0]
    heads = torch.zeros(1, 2, 6, 4)
    for head in range(2):
        for i in range(6):
            scores = []
            for j in range(6):
                near = min(max(bucket(i - j) + 4, 0), 7)
                score = q[head, i] @ k[head, j]
                score = score + (q[head, i] @ place_k[head, near] if to_place else 0.0)
                score = score + (k[head, j] @ place_q[head, near] if from_place else 0.0)
                scores.append(score / (4 * (1 + to_place + from_place)) ** 0.5)
            heads[0, head, i] = torch.stack(scores).softmax(0) @ v[head, :6]
    assert torch.allclose(attn(x, step)[:, :6], attn.merge(heads), atol=1e-5)


def test_settings_that_mean_nothing_here() -> None:
    with pytest.raises(BeholderError, match="does not read rotary"):
        CONFIG.but(rotary=Rotary())
    with pytest.raises(BeholderError, match="buckets need more"):
        CONFIG.but(span=16)
    with pytest.raises(BeholderError, match="gives no vectors"):
        CONFIG.build(8)(torch.randn(1, 2, 8), Step(positions=torch.arange(2)[None]))
