"""Small decoders for the compiled step, and what PyTorch makes of the same steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from beholder.cards.schema import Card
from beholder.model import Batch, Model, build
from beholder.native.decoder import NativeDecoder
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.state import State
from tests.toys import CHAT

PLAIN = Decoder(
    vocab_size=301,
    dim=64,
    num_layers=2,
    attention=Attention(num_heads=4, num_kv_heads=2, rotary=Rotary()),
    mlp=FeedForward(96, act="silu", gated=True, bias=False),
    norm=Norm("rms", 1e-6),
    context=512,
)


def made(decoder: Decoder, seed: int = 0, dtype: torch.dtype = torch.float32) -> Model:
    """A model whose norms and biases are not just ones and zeros."""
    card = Card(name="toy-native", language=decoder, heads=(NextToken(),), prompt=CHAT)
    model = build(card, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.to(dtype)


@torch.inference_mode()
def prefilled(model: Model, lengths: Sequence[int], capacity: int = 32) -> State:
    """A state that holds a prompt of so many tokens in each row."""
    width = max(lengths)
    generator = torch.Generator().manual_seed(7)
    ids_BT = torch.randint(0, 300, (len(lengths), width), generator=generator)
    state = State(len(lengths), capacity=capacity)
    model.read(Batch(ids_BT=ids_BT, lengths=tuple(lengths)), {}, state)
    return state


@torch.inference_mode()
def torch_step(model: Model, ids: Sequence[int], state: State) -> Tensor:
    """What `NativeDecoder.step` shall give, (B, V)."""
    batch = Batch(ids_BT=torch.tensor(list(ids))[:, None])
    return model.language.logits(model.read(batch, {}, state).last())


def farthest(
    decoder: NativeDecoder,
    model: Model,
    lengths: Sequence[int],
    *,
    oracle: Model | None = None,
    steps: int = 3,
) -> tuple[float, float]:
    """The largest difference of the scores over some steps, and the largest score, from states that the two models made."""
    mine, theirs = prefilled(model, lengths), prefilled(oracle or model, lengths)
    worst = largest = 0.0
    for number in range(steps):
        ids = [(31 * row + 17 * number) % 300 for row in range(len(lengths))]
        got_BV, want_BV = decoder.step(ids, mine), torch_step(oracle or model, ids, theirs)
        worst = max(worst, float((got_BV - want_BV.float()).abs().max()))
        largest = max(largest, float(want_BV.abs().max()))
    assert mine.lengths == theirs.lengths
    return worst, largest
