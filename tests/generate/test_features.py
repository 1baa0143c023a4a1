"""Pictures of several requests through encoders together equal each request's alone, and those seen before come back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from beholder.cards import FAMILIES
from beholder.generate.features import FeatureCache, encode_requests
from beholder.model import Batch
from beholder.parts.contracts import Packed
from tests.test_cards import Tiny

PHOTO = Path(__file__).resolve().parents[2] / "docs" / "samples" / "cat.jpg"


def last(steps):
    *breaks, found = list(steps)
    assert all(each is None for each in breaks)
    return found, len(breaks)


def darker(batch: Batch) -> Batch:
    return replace(batch, views={name: [0.5 * view for view in views] for name, views in batch.views.items()})


def same(one: Packed, other: Packed) -> bool:
    close = torch.allclose(one.tokens_ND, other.tokens_ND, atol=2e-4, rtol=1e-3)
    return close and one.grids == other.grids and all(same(one.taps[n], other.taps[n]) for n in other.taps)


TILED = {"monkey-10b", "textmonkey-10b"}  # encoders whose views of a picture see each other


@pytest.mark.parametrize("name", sorted({names[0] for names in FAMILIES.values()} | TILED))
def test_together_in_pieces_and_from_memory_equals_each_alone(name: str) -> None:
    tiny = Tiny(name, PHOTO)
    if not tiny.views:
        pytest.skip("reads no pictures")
    first, cache = tiny.batch(), FeatureCache(2**30)
    batches = [first, darker(first), first]
    with torch.inference_mode():
        wanted = [tiny.model.encode(batch) for batch in batches]
    together, _ = last(encode_requests(tiny.model, batches, 2, cache))
    again, _ = last(encode_requests(tiny.model, batches[::-1], 3, cache))
    for want, *given in zip(wanted, together, again[::-1], strict=True):
        for got in given:
            assert got.keys() == want.keys()
            for branch in want:
                assert same(got[branch].packed, want[branch].packed)
                assert got[branch].plans == want[branch].plans


def test_a_picture_is_encoded_once(monkeypatch) -> None:
    tiny, cache, seen = Tiny("smolvlm-256m", PHOTO), FeatureCache(2**30), []
    real = tiny.model.branch("image").vision.forward
    monkeypatch.setattr(
        tiny.model.branch("image").vision, "forward", lambda views: seen.append(len(views)) or real(views)
    )
    batch = tiny.batch()
    views = len(batch.views["image"])
    _, breaks = last(encode_requests(tiny.model, [batch, batch], 4, cache))
    assert sum(seen) == views and max(seen) <= 4 and breaks + 1 == len(seen) == -(-views // 4)
    last(encode_requests(tiny.model, [batch], 4, cache))
    assert sum(seen) == views and cache.hits == 1
    last(encode_requests(tiny.model, [darker(batch)], 4, cache))
    assert sum(seen) == 2 * views


def test_the_longest_unused_picture_makes_room() -> None:
    tiny = Tiny("clip-b-32", PHOTO)
    batch = tiny.batch()
    probe = FeatureCache(2**30)
    last(encode_requests(tiny.model, [batch], 4, probe))
    cache = FeatureCache(2 * probe.nbytes)
    for shown in (batch, darker(batch), batch, darker(darker(batch)), batch, darker(batch)):
        last(encode_requests(tiny.model, [shown], 4, cache))
        assert cache.nbytes <= cache.limit
    assert (cache.hits, cache.misses) == (2, 4)
    small = FeatureCache(probe.nbytes - 1)
    last(encode_requests(tiny.model, [batch], 4, small))
    assert small.nbytes == 0
