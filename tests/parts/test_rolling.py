"""Rings of keys and values: the numbers of a whole forward in memory that does not grow."""

from __future__ import annotations

import pytest
import torch

from beholder.model import Batch, build
from beholder.parts.language.rolling import RollingKeyValues
from beholder.parts.language.state import State
from tests.toys import DECODER, TEXT

WINDOW = 5
CARD = TEXT.but(language=DECODER.but(**{"attention.window": WINDOW}))


def rows_of(lengths: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(lengths))
    return torch.randint(0, 300, (len(lengths), max(lengths)), generator=generator)


@torch.inference_mode()
def last_logits(model, state: State, ids_BT: torch.Tensor, lengths: tuple[int, ...] | None) -> torch.Tensor:
    output = model.read(Batch(ids_BT, lengths=lengths), {}, state)
    return model.language.logits(output.last())


@pytest.mark.parametrize("lengths", [(3,), (12,), (4, 4), (9, 2, 5), (5, 6)])
@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_a_ring_gives_the_numbers_of_the_whole(lengths: tuple[int, ...], chunk: int) -> None:
    """Prompts of unequal lengths, then steps of one token, then several at once."""
    model = build(CARD, seed=1)
    state, whole = State(len(lengths), capacity=4, rolling=True), State(len(lengths), capacity=4)
    prompts = rows_of(lengths)
    given = [(prompts, lengths)]
    steps = torch.randint(0, 300, (len(lengths), 13 + chunk))
    given += [(steps[:, number : number + 1], None) for number in range(13)] + [(steps[:, 13:], None)]
    given += [(steps[:, :1], None)] * 2
    for ids_BT, counts in given:
        ours, wanted = (last_logits(model, one, ids_BT, counts) for one in (state, whole))
        assert torch.allclose(ours, wanted, atol=1e-4)
    rings = list(state.layers.values())
    assert all(isinstance(ring, RollingKeyValues) and ring.keys.shape[2] == WINDOW for ring in rings)


def test_memory_stops_growing_at_the_window() -> None:
    model = build(CARD, seed=1)
    state = State(1, capacity=2, rolling=True)
    held = []
    for _ in range(4 * WINDOW):
        last_logits(model, state, torch.tensor([[7]]), None)
        held.append(sum(layer.nbytes for layer in state.layers.values()))
    assert len(set(held[WINDOW:])) == 1 and max(held) == held[-1]
    heads, width = DECODER.attention.num_kv_heads, DECODER.dim // DECODER.attention.num_heads
    assert held[-1] == DECODER.num_layers * 2 * heads * WINDOW * width * 4


def test_rows_are_chosen_repeated_and_copied() -> None:
    model = build(CARD, seed=1)
    lengths = (9, 2, 5)
    state, whole = State(3, rolling=True), State(3)
    for one in (state, whole):
        last_logits(model, one, rows_of(lengths), lengths)
    copy = state.snapshot()
    for rows in ([2, 0], [1, 1, 0, 2]):
        ours, wanted = state.reorder(rows), whole.reorder(rows)
        for _ in range(7):
            ids_BT = torch.randint(0, 300, (len(rows), 1))
            a, b = (last_logits(model, one, ids_BT, None) for one in (ours, wanted))
            assert torch.allclose(a, b, atol=1e-4)
    ids_BT = torch.randint(0, 300, (3, 1))
    assert torch.equal(last_logits(model, state, ids_BT, None), last_logits(model, copy, ids_BT, None))


def test_a_ring_that_has_gone_round_cannot_be_cut() -> None:
    model = build(CARD, seed=1)
    state = State(1, rolling=True)
    last_logits(model, state, rows_of((WINDOW,)), None)
    state.truncate([2])
    last_logits(model, state, rows_of((WINDOW,)), None)
    with pytest.raises(ValueError, match="gone round"):
        state.truncate([3])


def test_generation_of_texts_rolls() -> None:
    from beholder.pipeline import Pipeline
    from tests.toys import byte_tokenizer

    pipeline = Pipeline(build(CARD, seed=1), byte_tokenizer())
    reply = pipeline.ask(None, "A question that is longer than the window.", max_tokens=20)
    ids = list(reply.plan.prompt.ids)
    for token_id in reply.ids:
        assert int(last_logits(pipeline.model, State(1), torch.tensor([ids]), None)[0].argmax()) == token_id
        ids.append(token_id)
