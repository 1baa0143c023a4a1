"""Attention by distance, from the equation; generation; and positions that are shifted."""

from __future__ import annotations

import torch

from beholder.model import Batch, build
from beholder.parts.blocks.positions import waves
from beholder.parts.blocks.transformer_xl import XlAttention
from beholder.parts.language.sizes_chinchilla import CHINCHILLA_1_4B
from beholder.parts.language.state import State
from tests.toys import TEXT

CONFIG = CHINCHILLA_1_4B.but(
    vocab_size=64, dim=32, num_layers=1, attention=XlAttention(num_heads=4), context=64, **{"mlp.hidden": 48}
)


def made(config):
    model = build(TEXT.but(language=config), seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@torch.no_grad()
def test_scores_are_those_of_the_equation():
    """Pair by pair: (q + u) k + (q + v) W_r of the waves of i - j."""
    model = made(CONFIG)
    block = model.languages["main"].blocks[0]
    attn, ids = block.attn, torch.tensor([[7, 9, 11, 13, 17]])
    x = model.language.embed(ids)[0]
    y = block.norm1(x)
    q, k, v = (part(y).view(5, 4, 8) for part in (attn.q, attn.k, attn.v))
    given = torch.zeros(5, 4, 8)
    for head in range(4):
        for i in range(5):
            scores = []
            for j in range(i + 1):
                r = attn.distance(waves(torch.tensor([i - j]), 32, ends=False))[0].view(4, 8)[head]
                content = (q[i, head] + attn.content_bias[head, 0]) @ k[j, head]
                scores.append((content + (q[i, head] + attn.distance_bias[head, 0]) @ r) / 8**0.5)
            given[i, head] = torch.stack(scores).softmax(0) @ v[: i + 1, head]
    hidden = x + attn.out(given.flatten(1))
    hidden = hidden + block.mlp(block.norm2(hidden))
    want = model.language.logits(model.language.norm(hidden))
    assert torch.allclose(model(Batch(ids)).heads["text"][0], want, atol=1e-4)


@torch.no_grad()
def test_rows_generation_and_shifts():
    model, rows = made(CONFIG.but(num_layers=2)), [[7, 9, 11], [13]]
    state, ids = State(2), torch.tensor([[7, 9, 11], [13, 0, 0]])
    together = model(Batch(ids, (3, 1)), state).heads["text"]
    step = model(Batch(torch.tensor([[17], [17]])), state).heads["text"]
    for row, words in enumerate(rows):
        whole = model(Batch(torch.tensor([[*words, 17]]))).heads["text"]
        assert torch.allclose(together[row, : len(words)], whole[0, :-1], atol=1e-5)
        assert torch.allclose(step[row, 0], whole[0, -1], atol=1e-5)
    shifted = model(Batch(ids[:1], positions=torch.tensor([[20, 21, 22]]))).heads["text"]
    assert torch.allclose(shifted, together[:1], atol=1e-5)
