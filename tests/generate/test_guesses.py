"""Guessed tokens change nothing in an answer but the number of passes."""

from __future__ import annotations

import pytest

from beholder.errors import BeholderError
from beholder.generate.guesses import draft, look_up
from beholder.generate.prefixes import PrefixCache
from beholder.generate.runtime import Runtime
from beholder.generate.sampling import Sampling
from beholder.generate.scheduler import Limits, Scheduler
from beholder.model import build
from tests.generate.test_scheduler import PHOTO, alone, job, run, spread, text
from tests.test_cards import Tiny
from tests.toys import TEXT

SAMPLINGS = (
    Sampling(max_tokens=30),
    Sampling(max_tokens=30, temperature=1.5, seed=4),
    Sampling(max_tokens=17, repetition_penalty=1.4),
    Sampling(max_tokens=12, logprobs=2),
)


@pytest.fixture(scope="module")
def model():
    return spread(build(TEXT, seed=1))


def test_what_was_said_before_is_looked_up() -> None:
    guess = look_up(3)()
    assert guess([1, 2, 3, 4, 5, 9, 1, 2, 3]) == [4, 5, 9]
    assert guess([7, 1, 2, 8, 5, 1, 2, 6, 1, 2]) == [6, 1, 2]  # the latest counts
    assert guess([5, 6, 7, 8, 6]) == [7, 8, 6]
    assert guess([1, 2, 3]) == [] and guess([1]) == []


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda each: f"{each.temperature}-{each.max_tokens}")
def test_answers_stay_the_same(model, sampling) -> None:
    prompt = text(*range(3, 9), *range(3, 9), 3, 4)
    wanted = alone(model, prompt, sampling)
    itself, other = draft(model, model, 3), draft(spread(build(TEXT, seed=2)), model, 3)
    found = []
    for guesser in (look_up(4), itself, other):
        scheduler = Scheduler(model, runtime=Runtime(guesser=guesser))
        assert run(scheduler, [job(model, prompt, sampling)])[0] == wanted
        found.append((scheduler.guessed, scheduler.right))
    (_, (guessed, right), (wild, seldom)) = found
    assert guessed > 0 and wild > 0 and seldom <= wild
    if sampling.temperature == 0 and sampling.repetition_penalty == 1:
        assert right == guessed


def test_right_guesses_save_passes(model, monkeypatch) -> None:
    passes = []
    read = model.read
    monkeypatch.setattr(model, "read", lambda *given: passes.append(1) or read(*given))
    scheduler = Scheduler(
        model, runtime=Runtime(guesser=lambda: lambda ids: list(wanted[len(ids) - 3 :][:5]))
    )
    monkeypatch.undo()
    wanted = alone(model, text(3, 4, 5), Sampling(max_tokens=25))
    monkeypatch.setattr(model, "read", lambda *given: passes.append(1) or read(*given))
    assert run(scheduler, [job(model, text(3, 4, 5), Sampling(max_tokens=25))])[0] == wanted
    assert scheduler.right == scheduler.guessed == 20 and len(passes) == 4


def test_guesses_stay_within_room_and_words(model) -> None:
    probe = Scheduler(model, Limits(budget=2**40)).room
    wild = lambda: lambda ids: [7, 299, 300, 5, -1] * 20  # noqa: E731
    scheduler = Scheduler(model, Limits(budget=probe.bytes(60, 1), spare=4), Runtime(guesser=wild))
    sampling = Sampling(max_tokens=30)
    assert run(scheduler, [job(model, text(3, 4, 5), sampling)])[0] == alone(model, text(3, 4, 5), sampling)
    assert scheduler.nbytes == 0


def test_a_finished_answer_is_kept_without_its_wrong_guesses(model) -> None:
    cache, sampling = PrefixCache(2**24), Sampling(max_tokens=12)
    scheduler = Scheduler(model, runtime=Runtime(prefixes=cache, guesser=lambda: lambda ids: [9, 9, 9]))
    (said,) = run(scheduler, [job(model, text(*range(3, 30)), sampling)])
    later = text(*range(3, 30), *said, 40, 41)
    again = job(model, later, sampling)
    assert run(scheduler, [again])[0] == alone(model, later, sampling)
    assert again.reused == 27 + 11


@pytest.mark.parametrize(
    "name", ["mamba-130m", "mistral-7b", "smolvlm-256m", "florence-2-base", "gemma-3-4b"]
)
def test_every_kind_of_state_is_answered_right(name: str) -> None:
    """States that cannot be cut back go on without guesses."""
    tiny = Tiny(name, PHOTO)
    model, sampling = spread(tiny.model), Sampling(max_tokens=9)
    scheduler = Scheduler(model, runtime=Runtime(guesser=look_up(3)))
    assert run(scheduler, [job(model, tiny.batch(), sampling)])[0] == alone(model, tiny.batch(), sampling)


def test_what_cannot_guess_is_refused(model) -> None:
    with pytest.raises(BeholderError, match="0 tokens are no guess"):
        look_up(0)
    with pytest.raises(BeholderError, match="has 200 words and toy-text 300"):
        draft(build(TEXT.but(**{"language.vocab_size": 200})), model, 2)
    with pytest.raises(BeholderError, match="continues no text"):
        draft(Tiny("florence-2-base", PHOTO).model, model, 2)
