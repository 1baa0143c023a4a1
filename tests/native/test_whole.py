"""Compiled attention of whole sequences equals PyTorch's in float32 within the rounding of bf16."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from beholder.cards import card
from beholder.model import Batch, build
from beholder.native.whole import attend_whole, usable
from beholder.parts.blocks.attention import attend
from beholder.parts.blocks.masks import AttentionMask
from beholder.speed.packed import pack

pytestmark = pytest.mark.skipif(not usable(), reason="no kernel for this processor, or not built")
CAUSAL, ALL = AttentionMask(causal=True), AttentionMask()


def made(rows: int, heads: int, tokens: int, width: int, seed: int = 0) -> Tensor:
    """As projections give them: heads side by side."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, tokens, heads, width, generator=generator).bfloat16().transpose(1, 2)


@pytest.mark.parametrize("width", [16, 64, 72, 80, 96, 128, 144, 10, 256])
@pytest.mark.parametrize("tokens", [32, 33, 64, 97, 250])
def test_equals_torch(tokens: int, width: int) -> None:
    q, k, v = made(2, 4, tokens, width), made(2, 2, tokens, width, 1), made(2, 2, tokens, width, 2)
    with torch.inference_mode():
        for mask, scale in ((CAUSAL, None), (ALL, None), (ALL, 0.3)):
            given = attend_whole(q, k, v, mask, scale)
            wanted = attend(q.float(), k.float(), v.float(), mask, scale=scale)
            rounded = attend(q, k, v, mask, scale=scale)
            assert given.shape == wanted.shape and given.dtype == torch.bfloat16
            allowed = 1.5 * (rounded - wanted).abs().max() + 2e-3
            assert (given - wanted).abs().max() < allowed


def test_keys_of_another_length() -> None:
    q, k, v = made(1, 4, 50, 64), made(1, 4, 131, 64, 1), made(1, 4, 131, 64, 2)
    with torch.inference_mode():
        given, wanted = attend_whole(q, k, v, ALL, None), attend(q.float(), k.float(), v.float(), ALL)
    assert (given - wanted).abs().max() < 0.01


@settings(deadline=None, max_examples=60)
@drawn(
    st.integers(32, 90),
    st.integers(0, 200),
    st.none() | st.integers(1, 300),
    st.sampled_from([10, 64, 80]),
)
def test_queries_behind_earlier_keys(queries: int, before: int, window: int | None, width: int) -> None:
    """Pieces of a prompt, with windows and without, equal the table of who sees whom."""
    mask = AttentionMask(causal=True, window=window)
    q, k, v = (made(1, h, before + queries, width, seed) for seed, h in enumerate((4, 2, 2)))
    q = q[:, :, before:]
    allowed = AttentionMask(allowed_B1TS=mask.allowed(queries, before + queries, q.device))
    with torch.inference_mode():
        given, wanted = attend_whole(q, k, v, mask, None), attend(q.float(), k.float(), v.float(), allowed)
    assert given is not None
    assert (given - wanted).abs().max() < 0.02


def test_large_scores_and_many_threads_change_nothing() -> None:
    q, k, v = 30 * made(1, 8, 200, 64), made(1, 8, 200, 64, 1), made(1, 8, 200, 64, 2)
    threads = torch.get_num_threads()
    found = []
    with torch.inference_mode():
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(attend_whole(q, k, v, CAUSAL, None))
        torch.set_num_threads(threads)
    assert torch.isfinite(found[0]).all()
    assert all(torch.equal(found[0], other) for other in found)


def test_rows_do_not_depend_on_each_other() -> None:
    q, k, v = made(3, 4, 70, 64), made(3, 2, 70, 64, 1), made(3, 2, 70, 64, 2)
    with torch.inference_mode():
        together = attend_whole(q, k, v, CAUSAL, None)
        for row in range(3):
            alone = attend_whole(q[row : row + 1], k[row : row + 1], v[row : row + 1], CAUSAL, None)
            assert torch.equal(alone[0], together[row])


def test_what_is_not_covered_is_declined() -> None:
    q, k, v = (made(1, 2, 40, 64, seed) for seed in range(3))
    with torch.inference_mode():
        assert attend_whole(q, k, v, ALL, None) is not None
        assert attend_whole(q.float(), k.float(), v.float(), ALL, None) is None
        assert attend_whole(q[:, :, :8], k, v, ALL, None) is None
        assert attend_whole(q, k, v[..., :32], ALL, None) is None
        assert attend_whole(q, k[:, :, :35], v[:, :, :35], CAUSAL, None) is None
        assert attend_whole(q, k, v, AttentionMask(segments=(20, 20)), None) is None
        dense = AttentionMask(allowed_B1TS=torch.ones(1, 1, 40, 40, dtype=torch.bool))
        assert attend_whole(q, k, v, dense, None) is None
        assert attend_whole(q, k, v, ALL, -0.1) is None
    assert attend_whole(q.clone().requires_grad_(), k, v, ALL, None) is None


def test_packed_models_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import beholder.speed.packed as packed

    taken = []

    def counted(*given: object) -> Tensor | None:
        found = attend_whole(*given)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(packed, "attend_whole", counted)
    one = card("llama-2-7b").tiny()
    plain, quick = (build(one, seed=3).to(torch.bfloat16).eval() for _ in range(2))
    pack(quick, "bf16", smallest=1)
    ids = torch.arange(3, 73)[None]
    with torch.inference_mode():
        wanted = plain(Batch(ids)).heads["text"].float()
        given = quick(Batch(ids)).heads["text"].float()
    assert taken and all(taken)
    assert (given - wanted).abs().max() < 0.03 * wanted.abs().max()
