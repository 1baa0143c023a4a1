"""VisualGPT's sparse gates and the encoder of levels, from their equations."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.model import Batch
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.connectors.levels import Levels
from beholder.parts.contracts import Packed
from beholder.parts.fusion.resurrecting import Resurrecting
from beholder.parts.language.state import State
from tests.parts.test_cross_attention import SEES, made, pictures, plans
from tests.toys import DECODER

LEVELS = Levels(
    depth=3, attention=Attention(4, qkv_bias=True, out_bias=True), mlp=FeedForward(48, act="relu")
)
GATES = Resurrecting(num_heads=4)
CARD = SEES.but(connector=LEVELS, fusion=(GATES,))


def shown(ids: list[int], views: list[torch.Tensor]) -> Batch:
    given = {"image": views} if views else {}
    return Batch(torch.tensor([ids]), views=given, plans=(plans(CARD, len(views)),))


@torch.no_grad()
def test_levels_are_those_of_an_encoder():
    """Layers by torch's own; views see only themselves."""
    module = LEVELS.build(24, 32).eval()
    for parameter in module.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    views = [torch.randn(5, 24), torch.randn(3, 24)]
    given = module(Packed(torch.cat(views), (Grid(1, 1, 5), Grid(1, 1, 3))))
    for ours, view in zip(given.split(), views, strict=True):
        x = module.norm(nn.functional.gelu(module.linear(view), approximate="tanh"))[None]
        levels = []
        for block in module.blocks:
            layer = nn.TransformerEncoderLayer(
                32, 4, 48, dropout=0, activation="relu", batch_first=True
            ).eval()
            attn = block.attn
            for name in ("weight", "bias"):
                joined = torch.cat([getattr(part, name) for part in (attn.q, attn.k, attn.v)])
                getattr(layer.self_attn, f"in_proj_{name}").copy_(joined)
            pairs = (
                (attn.out, layer.self_attn.out_proj),
                (block.mlp.up, layer.linear1),
                (block.mlp.down, layer.linear2),
                (block.after1, layer.norm1),
                (block.after2, layer.norm2),
            )
            for own, theirs in pairs:
                theirs.load_state_dict(own.state_dict())
            x = layer(x)
            levels.append(x[0])
        assert torch.allclose(ours, torch.cat(levels, -1), atol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.45])
@torch.no_grad()
def test_a_layer_equals_the_equations(threshold):
    model = made(CARD.but(fusion=(GATES.but(threshold=threshold),), **{"language.num_layers": 1}))
    ids, views = [7, 9, 11], pictures(1)
    unit, block = model.fusion[0].layers[0], model.languages["main"].blocks[0]
    levels = model.branches["image"](views).tokens_ND.chunk(3, -1)
    x = model.language.embed(torch.tensor([ids]))
    alone = Batch(torch.tensor([ids]))
    step = {}
    hook = block.norm2.register_forward_pre_hook(lambda _, given: step.update(after=given[0]))
    model.languages["main"](model._draft(alone, None))
    text = step["after"][0]  # what self-attention leaves, without pictures
    hook.remove()
    normed, total = block.norm1(text), 0
    for level, gate in zip(levels, unit.gates, strict=True):
        memory = block.norm1(level)
        q, k, v = (
            y.view(len(y), 4, 8).transpose(0, 1) for y in (unit.q(normed), unit.k(memory), unit.v(memory))
        )
        seen = unit.out(((q @ k.transpose(1, 2) / 8**0.5).softmax(-1) @ v).transpose(0, 1).flatten(1))
        share = torch.sigmoid(gate(torch.cat((text, seen), -1)))
        lan, vis = share * (share > threshold), (1 - share) * (1 - share > threshold)
        assert ((lan > 0) | (vis > 0)).all()  # never both closed
        total = total + lan * text + vis * seen
    hidden = total / 3**0.5
    hidden = hidden + block.mlp(block.norm2(hidden))
    want = model.language.logits(model.language.norm(hidden))
    assert torch.allclose(model(shown(ids, views)).heads["text"][0], want, atol=1e-4)
    assert x.shape == (1, 3, 32)


@torch.no_grad()
def test_gates_are_sparse_and_text_alone_passes():
    model = made(CARD)
    layer = model.fusion[0].layers[0]
    shares = torch.tensor([0.05, 0.2, 0.21, 0.79, 0.8, 0.95])
    assert layer._open(shares).tolist() == pytest.approx([0, 0, 0.21, 0.79, 0.8, 0.95])
    alone = made(CARD.but(fusion=(), branches=()))
    alone.load_state_dict({k: v for k, v in model.state_dict().items() if k.startswith("languages.")})
    ids = torch.tensor([[7, 9, 11]])
    assert torch.equal(model(shown(ids[0].tolist(), [])).heads["text"], alone(Batch(ids)).heads["text"])
    with pytest.raises(BeholderError, match="both gates can be closed"):
        GATES.but(threshold=0.5)
    with pytest.raises(BeholderError, match="language part"):
        GATES.build(None)


@torch.no_grad()
def test_generation_with_kept_keys_equals_recomputing():
    model, views, state = made(CARD), pictures(1), State(1)
    ids = [7, 9]
    first = model(shown(ids, views), state).heads["text"]
    assert torch.allclose(first, model(shown(ids, views)).heads["text"], atol=1e-6)
    for new in (13, 17):
        ids = [*ids, new]
        step = model(dataclasses.replace(Batch(torch.tensor([[new]]))), state).heads["text"]
        assert torch.allclose(step[0, -1], model(shown(ids, views)).heads["text"][0, -1], atol=1e-5)
    assert DECODER.num_layers == sum(key[0] == "cross" for key in state.layers)
