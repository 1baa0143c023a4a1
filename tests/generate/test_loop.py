"""Generation with a state equals generation without, alone equals in company, and every way to end."""

from __future__ import annotations

import pytest
import torch

from beholder.errors import BeholderError
from beholder.generate import steps
from beholder.generate.loop import answers, generate
from beholder.generate.sampling import Sampling
from beholder.generate.steps import Tail, advance, encode, prefill
from beholder.model import Batch, build
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.transformer import LayerKind
from beholder.parts.language.state import State
from tests.toys import DECODER, TEXT, byte_tokenizer

PROMPTS = ([5, 9, 200, 31], [7], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [40, 41, 42])
CARDS = {
    "grouped": TEXT,
    "windowed": TEXT.but(**{"language.attention.window": 4}),
    "half windowed": TEXT.but(
        language=DECODER.but(others=(LayerKind(DECODER.attention.but(window=4)),), pattern=(0, 1))
    ),
    "one kv head": TEXT.but(**{"language.attention.num_kv_heads": 1, "language.tied": True}),
}


@pytest.fixture(params=CARDS, scope="module")
def model(request):
    model = build(CARDS[request.param], seed=1)
    with torch.no_grad():  # make scores differ enough for greedy choices to be safe from rounding
        model.language.embedding.weight.mul_(3)
    return model


class Numbers:
    """Ids written as `<id>`."""

    def add(self, token_id: int) -> str:
        return f"<{token_id}>"

    def finish(self) -> str:
        return ""


def rows(*prompts):
    width = max(map(len, prompts))
    ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts])
    return Batch(ids_BT=ids, lengths=tuple(map(len, prompts)))


def run(model, batch, samplings, eos_ids=(), decode=Numbers):
    return answers(generate(model, batch, samplings, eos_ids=eos_ids, decode=decode))


def uncached(model, prompt, count):
    """Greedy ids and their scores with the whole text read again for each."""
    ids, scores = list(prompt), []
    with torch.no_grad():
        for _ in range(count):
            logits = model(Batch(ids_BT=torch.tensor([ids]))).heads["text"][0, -1]
            scores.append(logits)
            ids.append(int(logits.argmax()))
    return ids[len(prompt) :], torch.stack(scores)


def test_cached_equals_uncached(model):
    for prompt in PROMPTS:
        ids, want = uncached(model, prompt, 12)
        state = State(rows=1, capacity=4)  # small, so that it grows on the way
        batch = rows(prompt)
        got = [prefill(model, batch, {}, state)]
        for token_id in ids[:-1]:
            got.append(advance(model, [token_id], state))
        assert (torch.cat(got) - want).abs().max() < 1e-4
        assert run(model, batch, [Sampling(max_tokens=12)])[0].ids == tuple(ids)


def test_unequal_prompts_equal_each_alone(model):
    samplings = [
        Sampling(max_tokens=9),
        Sampling(max_tokens=3),
        Sampling(max_tokens=12, temperature=1.0, top_p=0.9, seed=5),
        Sampling(max_tokens=6, repetition_penalty=1.5),
    ]
    together = run(model, rows(*PROMPTS), samplings)
    assert [len(result.ids) for result in together] == [9, 3, 12, 6]
    for prompt, sampling, result in zip(PROMPTS, samplings, together, strict=True):
        assert run(model, rows(prompt), [sampling])[0].ids == result.ids


def test_logits_of_unequal_prompts_equal_each_alone(model):
    state = State(rows=len(PROMPTS))
    batch = rows(*PROMPTS)
    logits = prefill(model, batch, encode(model, batch), state)
    next_logits = advance(model, [3, 4, 5, 6], state)
    for row, prompt in enumerate(PROMPTS):
        _, want = uncached(model, prompt, 1)
        assert (logits[row] - want[0]).abs().max() < 1e-4
        _, want = uncached(model, [*prompt, 3 + row], 1)
        assert (next_logits[row] - want[0]).abs().max() < 1e-4
    assert state.lengths == [len(prompt) + 1 for prompt in PROMPTS]


def test_fork_reorder_truncate_snapshot(model):
    state = State(rows=2, capacity=8)
    prefill(model, rows(PROMPTS[0], PROMPTS[2]), {}, state)
    kept = state.snapshot()
    forked = state.fork(2)
    logits = advance(model, [20, 21, 22, 23], forked)
    for row, (prompt, token_id) in enumerate(
        [(PROMPTS[0], 20), (PROMPTS[0], 21), (PROMPTS[2], 22), (PROMPTS[2], 23)]
    ):
        assert (logits[row] - uncached(model, [*prompt, token_id], 1)[1][0]).abs().max() < 1e-4
    swapped = forked.reorder([3, 0])
    logits = advance(model, [50, 51], swapped)
    assert (logits[0] - uncached(model, [*PROMPTS[2], 23, 50], 1)[1][0]).abs().max() < 1e-4
    assert (logits[1] - uncached(model, [*PROMPTS[0], 20, 51], 1)[1][0]).abs().max() < 1e-4
    swapped.truncate([9, 2])
    logits = advance(model, [60, 61], swapped)
    assert (logits[0] - uncached(model, [*PROMPTS[2][:9], 60], 1)[1][0]).abs().max() < 1e-4
    assert (logits[1] - uncached(model, [*PROMPTS[0][:2], 61], 1)[1][0]).abs().max() < 1e-4
    logits = advance(model, [20, 22], kept)  # untouched by all of that
    assert (logits[0] - uncached(model, [*PROMPTS[0], 20], 1)[1][0]).abs().max() < 1e-4


def test_a_snapshot_and_what_it_was_taken_of_go_separate_ways(model):
    state = State(rows=1, capacity=16)
    prefill(model, rows(PROMPTS[0]), {}, state)
    kept = state.snapshot()
    for token_id, other_id in ((20, 30), (21, 31)):  # in turn, so that shared memory would show
        logits = advance(model, [token_id], state)
        other_logits = advance(model, [other_id], kept)
    assert (logits[0] - uncached(model, [*PROMPTS[0], 20, 21], 1)[1][0]).abs().max() < 1e-4
    assert (other_logits[0] - uncached(model, [*PROMPTS[0], 30, 31], 1)[1][0]).abs().max() < 1e-4


def test_truncated_tokens_are_padding(model):
    state = State(rows=2, capacity=16)
    prefill(model, rows(PROMPTS[0], PROMPTS[2]), {}, state)
    state.truncate([2, 5])
    assert state.lengths == [2, 5]
    kept = torch.arange(16) < torch.tensor([[2], [5]])
    assert torch.equal(state.segments_BS >= 0, kept)


@pytest.mark.parametrize("penalty", [3.0, 0.2])
def test_a_penalty_counts_the_prompt_and_the_answer(model, penalty):
    ids = list(PROMPTS[2])
    with torch.no_grad():
        for _ in range(10):
            logits = model(Batch(ids_BT=torch.tensor([ids]))).heads["text"][0, -1].clone()
            for seen in set(ids):
                logits[seen] = logits[seen] / penalty if logits[seen] > 0 else logits[seen] * penalty
            ids.append(int(logits.argmax()))
    new = tuple(ids[len(PROMPTS[2]) :])
    assert run(model, rows(PROMPTS[2]), [Sampling(max_tokens=10, repetition_penalty=penalty)])[0].ids == new


def test_finished_rows_leave_the_batch(model, monkeypatch):
    widths, real = [], steps.advance

    def counted(model, ids, *rest):
        widths.append(len(ids))
        return real(model, ids, *rest)

    monkeypatch.setattr(steps, "advance", counted)
    run(model, rows(*PROMPTS), [Sampling(max_tokens=n) for n in (2, 1, 4, 2)])
    assert widths == [3, 1, 1]


def test_ends(model):
    batch = rows(PROMPTS[0])
    first, second = uncached(model, PROMPTS[0], 2)[0]
    whole = run(model, batch, [Sampling(max_tokens=2)])[0]
    assert (whole.finish, whole.text, whole.usage.new) == ("length", f"<{first}><{second}>", 2)
    ended = run(model, batch, [Sampling()], eos_ids=[second if second != first else first])[0]
    assert ended.finish == "end"
    assert f"<{ended.ids[-1]}>" not in ended.text
    stopped = run(model, batch, [Sampling(max_tokens=8, stops=[f"{first}>"])])[0]
    assert (stopped.finish, stopped.text) == ("stop", "<")


def test_no_end_comes_too_early(model):
    first, second = uncached(model, PROMPTS[0], 2)[0]
    sampling = Sampling(max_tokens=9, min_tokens=5)
    kept = run(model, rows(PROMPTS[0]), [sampling], eos_ids=[first, second])[0]
    assert not {first, second} & set(kept.ids[:5]) and len(kept.ids) >= 5
    mixed = run(
        model, rows(PROMPTS[0], PROMPTS[0]), [sampling, Sampling(max_tokens=9)], eos_ids=[first, second]
    )
    assert mixed[0].ids == kept.ids and mixed[1].ids == (first,)


def test_the_context_ends_an_answer_and_refuses_a_prompt(model):
    context = model.card.main.context
    nearly = run(model, rows([3] * (context - 2)), [Sampling(max_tokens=50)])[0]
    assert (nearly.finish, nearly.usage.new) == ("context", 2)
    with pytest.raises(BeholderError, match=f"prompt 2 has {context} tokens.*fewer than {context}"):
        run(model, rows([1], [3] * context), [Sampling(), Sampling()])
    with pytest.raises(BeholderError, match="prompt 1 is empty"):
        run(model, rows([], [3]), [Sampling(), Sampling()])
    with pytest.raises(BeholderError, match="1 sampling settings for 2 prompts"):
        run(model, rows([1], [3]), [Sampling()])


def test_no_table_of_all_scores_is_made(model, monkeypatch):
    shapes, real = [], model.language.logits
    monkeypatch.setattr(model.language, "logits", lambda hidden: shapes.append(hidden.shape) or real(hidden))
    run(model, rows(*PROMPTS), [Sampling(max_tokens=1)] * 4)
    assert [tuple(shape) for shape in shapes] == [(4, 32)]


def test_pieces_join_to_the_text_and_end_with_the_result(model):
    tokenizer = byte_tokenizer()
    samplings = [Sampling(max_tokens=20, temperature=2.0, seed=i) for i in range(4)]
    texts, results = [""] * 4, {}
    for piece in generate(model, rows(*PROMPTS), samplings, eos_ids=[256], decode=tokenizer.stream):
        assert piece.row not in results
        texts[piece.row] += piece.text
        if piece.result:
            results[piece.row] = piece.result
    for row, result in results.items():
        assert texts[row] == result.text == tokenizer.decode([i for i in result.ids if i != 256])
        assert result.usage.prompt == len(PROMPTS[row])
        assert result.timings.prefill > 0
    assert len(results) == 4


def test_an_unread_stream_can_be_dropped(model):
    pieces = generate(model, rows(PROMPTS[0]), [Sampling(max_tokens=50)], eos_ids=[], decode=Numbers)
    next(pieces)
    pieces.close()
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_answers_go_on_from_a_visibility_of_their_own(model):
    """Two questions behind one picture: the second one's answer does not see the first."""
    prefix, first, second = [5, 6, 7], [30, 31], [50, 51, 52]
    ids = torch.tensor([[*prefix, *first, *second]])
    visibility = Visibility(
        torch.tensor([[0] * 3 + [1] * 2 + [2] * 3]),
        torch.tensor([[0, 1, 2, 3, 4, 3, 4, 5]]),
        parents=(-1, 0, 0),
    )
    packed = Batch(ids_BT=ids, visibility=visibility)
    assert Tail.of(packed).positions.tolist() == [[6]]
    got = run(model, packed, [Sampling(max_tokens=8)])[0]
    assert got.ids == run(model, rows([*prefix, *second]), [Sampling(max_tokens=8)])[0].ids
