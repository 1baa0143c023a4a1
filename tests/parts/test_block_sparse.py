"""Phi-3-small's layers, compared with their definition token by token."""

from __future__ import annotations

import math

import pytest
import torch

from beholder.cards import card
from beholder.model import Batch, build
from beholder.parts.blocks.block_sparse import BlockSparse, BoundedGlu
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.step import Step
from beholder.parts.language.state import State

HEADS, BLOCK, NEAR = 4, 3, 2


def seen(head: int, query: int, key: int, stride: int) -> bool:
    """The release's rule for one pair of tokens."""
    query_block, key_block = query // BLOCK, key // BLOCK
    step = max(1, int(stride / HEADS))
    return key <= query and (query_block - key_block < NEAR or (key_block + head * step + 1) % stride == 0)


@pytest.mark.parametrize("stride", [3, 4, 9])
@torch.no_grad()
def test_each_head_sees_near_blocks_and_some_far_ones(stride: int) -> None:
    config = BlockSparse(HEADS, block=BLOCK, near=NEAR, stride=stride)
    layer, length = config.build(16), 26
    x = torch.randn(1, length, 16)
    visibility = Visibility.causal(1, length)
    step = Step(queries=visibility, keys=visibility, positions=visibility.blocks_BT)
    q, k, v = (part(x)[0].view(length, HEADS, 4) for part in (layer.q, layer.k, layer.v))
    rows = []
    for query in range(length):
        heads = []
        for head in range(HEADS):
            keys = [key for key in range(length) if seen(head, query, key, stride)]
            weights = (k[keys, head] @ q[query, head] / math.sqrt(4)).softmax(0)
            heads.append(weights @ v[keys, head])
        rows.append(torch.cat(heads))
    assert torch.allclose(layer(x, step)[0], layer.out(torch.stack(rows)), atol=1e-5)
    far = {head: [b for b in range(6) if seen(head, 25, b * BLOCK, stride)] for head in range(HEADS)}
    assert len({tuple(blocks) for blocks in far.values()}) > 1


@torch.no_grad()
def test_halves_are_bounded_and_multiplied() -> None:
    layer, x = BoundedGlu(5, limit=0.5).build(3), torch.randn(7, 3) * 4
    gate, up = layer.gate(x), layer.up(x)
    assert gate.max() > 0.5 and up.abs().max() > 0.5
    gate, up = torch.minimum(gate, torch.tensor(0.5)), up.clip(-0.5, 0.5)
    want = layer.down(gate * torch.sigmoid(1.702 * gate) * (up + 1))
    assert torch.allclose(layer(x), want, atol=1e-6)


@torch.inference_mode()
def test_steps_give_the_numbers_of_the_whole() -> None:
    model = build(card("phi-3-small-8k").tiny(), seed=1)
    ids = torch.randint(0, 300, (1, 21))
    whole = model(Batch(ids)).heads["text"]
    state = State(1)
    parts = [ids[:, :9], *ids[:, 9:].split(1, 1)]
    steps = torch.cat([model(Batch(part), state).heads["text"] for part in parts], 1)
    assert torch.allclose(steps, whole, atol=1e-4)


def test_every_second_layer_is_dense() -> None:
    kinds = [type(kind.mixer).__name__ for kind in card("phi-3-small-8k").main.layers]
    assert kinds == ["BlockSparse", "Attention"] * 16
