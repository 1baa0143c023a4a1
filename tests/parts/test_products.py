"""Attention in training on a processor, against the plain formula and its gradients."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from beholder.parts.blocks import products
from beholder.parts.blocks.attention import attend
from beholder.parts.blocks.masks import AttentionMask, Visibility, dense_mask
from beholder.parts.blocks.positions import Rotary, XPos
from beholder.parts.blocks.products import pieces_of

TEXTS = [[5, 30, 3], [20, 18]]


def drawn(rows: int, queries: int, keys: int, heads: int = 4, kv_heads: int = 4) -> list[Tensor]:
    shapes = ((queries, heads), (keys, kv_heads), (keys, kv_heads))
    return [torch.randn(rows, n, h, 8).transpose(1, 2).requires_grad_() for n, h in shapes]


def plainly(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = q @ k.mT * q.shape[-1] ** -0.5
    return (scores if allowed is None else scores.masked_fill(~allowed, float("-inf"))).softmax(-1) @ v


def check(given: Tensor, wanted: Tensor, inputs: list[Tensor], padding: int = 0) -> None:
    """Results and gradients, but for so many tokens at the end of the second row."""
    assert type(given.grad_fn).__name__ == "_InPiecesBackward"
    real = torch.ones_like(given)
    real[1:, :, given.shape[2] - padding :] = 0
    assert given.isfinite().all() and torch.allclose(given * real, wanted * real, atol=1e-5)
    change = torch.randn_like(given) * real
    pairs = zip(
        torch.autograd.grad(given, inputs, change), torch.autograd.grad(wanted, inputs, change), strict=True
    )
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(products, "QUERIES", 8)
    monkeypatch.setattr(products, "WIDE", 9)
    monkeypatch.setattr(products, "SCORES", 4 * 8 * 19 * 2)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("causal", [True, False])
def test_rows_of_one_text(causal: bool, kv_heads: int) -> None:
    inputs = drawn(3, 19, 19, kv_heads=kv_heads)
    allowed = torch.ones(19, 19, dtype=torch.bool).tril() if causal else None
    check(attend(*inputs, AttentionMask(causal=causal)), plainly(*inputs, allowed), inputs)


def test_other_keys_than_queries() -> None:
    inputs = drawn(2, 7, 19)
    check(attend(*inputs, AttentionMask()), plainly(*inputs, None), inputs)


@pytest.mark.parametrize("shape", [(3, 1, 19, 19), (1, 1, 19, 19), (3, 1, 1, 19)])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_any_table(shape: tuple[int, ...], kv_heads: int) -> None:
    inputs, allowed = drawn(3, 19, 19, kv_heads=kv_heads), torch.rand(shape) > 0.5
    allowed[..., 0] = True
    check(attend(*inputs, AttentionMask(allowed_B1TS=allowed)), plainly(*inputs, allowed), inputs)


def visibility(short: int) -> Visibility:
    """Of `TEXTS` in two rows; the last text is so much shorter."""
    numbers = [[number for number, length in enumerate(row) for _ in range(length)] for row in TEXTS]
    places = [[place for length in row for place in range(length)] for row in TEXTS]
    segments_BT, blocks_BT = torch.tensor(numbers), torch.tensor(places)
    segments_BT[1, len(segments_BT[1]) - short :] = -1
    return Visibility(segments_BT, blocks_BT, (-1, -1, -1))


@pytest.mark.parametrize("short", [0, 4])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_texts_side_by_side(short: int, kv_heads: int) -> None:
    seen = visibility(short)
    assert seen.runs == ((5, 30, 3, 20, 18) if not short else (5, 30, 3, 20, 14, 4))
    mask = AttentionMask.of(seen, seen, None)
    assert mask.runs == seen.runs and mask.allowed_B1TS is None
    table = dense_mask(seen, seen.segments_BT, seen.blocks_BT)
    assert torch.equal(mask.allowed(38, 38, table.device)[:, 0], table)
    inputs = drawn(2, 38, 38, kv_heads=kv_heads)
    wanted = plainly(*inputs, table[:, None])
    check(attend(*inputs, mask), wanted, inputs, short)
    with torch.no_grad():  # kernels for inference read the table
        given = attend(*inputs, mask)
    assert torch.allclose(given[1, :, : 38 - short], wanted[1, :, : 38 - short], atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        {"parents": (-1, 0, 0)},
        {"both_ways": True},
        {"blocks_BT": torch.zeros(2, 38, dtype=torch.long)},
        {"segments_BT": torch.tensor([0] * 10 + [1] * 10 + [0] * 18).expand(2, 38)},
        {"groups_BT": torch.zeros(2, 38, dtype=torch.long)},
    ],
)
def test_anything_else_has_its_table(other: dict[str, object]) -> None:
    seen = dataclasses.replace(visibility(0), **other)
    assert seen.runs == ()
    assert AttentionMask.of(seen, seen, None).allowed_B1TS is not None


def test_windows_and_biases_have_their_table() -> None:
    seen = visibility(0)
    assert AttentionMask.of(seen, seen, 30).runs and not AttentionMask.of(seen, seen, 29).runs
    biased = AttentionMask.of(seen, seen, None).plus(torch.zeros(1, 4, 38, 38))
    assert not biased.runs and biased.allowed(38, 38, torch.device("cpu")) is not None
    assert pieces_of(AttentionMask(causal=True), (1, 4, 7, 8), 19) is None
    assert pieces_of(AttentionMask(causal=True, window=4), (1, 4, 19, 8), 19) is None


def test_under_autocast_it_is_near() -> None:
    inputs = drawn(2, 19, 19)
    wanted = plainly(*inputs, torch.ones(19, 19, dtype=torch.bool).tril())
    with torch.autocast("cpu", torch.bfloat16):
        given = attend(*inputs, AttentionMask(causal=True))
    assert given.dtype == torch.bfloat16 and torch.allclose(given.float(), wanted, atol=3e-2)
    (gradient,) = torch.autograd.grad(given.float().sum(), inputs[:1])
    assert gradient.dtype == torch.float32


@pytest.mark.parametrize("rotary", [Rotary(), XPos(pairs="half"), Rotary(share=0.5)])
def test_turning_has_the_gradients_of_the_formula(rotary: Rotary) -> None:
    x, tables = (
        torch.randn(2, 3, 7, 8, requires_grad=True),
        rotary.tables(torch.arange(7)[None], 8, torch.float32),
    )
    given = rotary.rotate(x, tables)
    with torch.no_grad():
        assert torch.allclose(rotary.rotate(x, tables), given, atol=1e-6)
    torch.autograd.gradcheck(
        lambda y: rotary.rotate(y, tuple(each.double() for each in tables)),
        x.detach().double().requires_grad_(),
    )
