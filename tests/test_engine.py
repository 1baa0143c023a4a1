"""Many callers of one model: answers equal those of the pipeline alone, and nobody is left waiting."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest
import torch

from beholder.engine import Answer, Engine, EngineSettings
from beholder.errors import BeholderError
from beholder.generate.runtime import Runtime
from beholder.generate.scheduler import Limits, Scheduler
from beholder.pipeline import Pipeline
from beholder.preparing import Prepared
from beholder.prompts.messages import Picture, user
from beholder.speed.graphs import FixedSteps
from tests.test_pipeline import made
from tests.toys import SEES, TEXT

QUICK = EngineSettings(Limits(chunk=16, views=2, budget=2**28), prefix_bytes=2**24, picture_bytes=2**24)


@pytest.fixture(scope="module")
def sees():
    return made(SEES)


def question(number: int, *, seed: int = 0) -> list:
    shown = np.random.default_rng(seed).integers(0, 256, (40, 56, 3), np.uint8)
    return [user(Picture(shown), f"What is {number}?")]


def test_answers_are_those_of_the_pipeline_alone(sees) -> None:
    asked = [question(i, seed=i % 3) for i in range(12)]
    options = [{"max_tokens": 4 + i % 5, "temperature": float(i % 2), "seed": i} for i in range(12)]
    wanted = [sees.chat(messages, **how) for messages, how in zip(asked, options, strict=True)]
    with Engine(sees, QUICK) as engine:
        answers: list[Answer | None] = [None] * 12

        def ask(number: int) -> None:
            answers[number] = engine.submit(asked[number], **options[number])

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        replies = [answer.reply(60) for answer in answers]
        assert [(str(r), r.ids) for r in replies] == [(str(w), w.ids) for w in wanted]
        assert engine.counters()["picture_hits"] > 0
        assert all(reply.timings.prefill > 0 for reply in replies)
    assert engine.counters()["state_bytes"] == 0


def test_pieces_come_as_they_are_made(sees) -> None:
    with Engine(sees, QUICK) as engine:
        answer = engine.submit(question(1), max_tokens=9)
        text = "".join(answer)
        assert text.strip() == answer.reply(1)
        first = engine.submit(question(1), max_tokens=180, min_tokens=180)
        next(iter(first))
        second = engine.submit(question(2), max_tokens=2)
        second.reply(60)
        assert not first.done
        first.cancel()


def test_a_later_turn_reads_only_what_is_new(sees) -> None:
    with Engine(sees, QUICK) as engine:
        turn = question(5)
        reply = engine.submit(turn, max_tokens=6).reply(60)
        assert reply.usage.reused == 0
        again = [*turn, {"role": "assistant", "content": str(reply)}, {"role": "user", "content": "Why?"}]
        wanted = sees.chat(again, max_tokens=6)
        later = engine.submit(again, max_tokens=6).reply(60)
        assert later.ids == wanted.ids
        assert later.usage.reused >= later.usage.image > 0
        assert (reply.usage.pictures_reused, later.usage.pictures_reused) == (0, 1)


def test_what_is_wrong_with_one_request_is_its_own(sees) -> None:
    with Engine(sees, QUICK) as engine:
        good = engine.submit(question(1), max_tokens=20)
        broken = engine.submit([user(Picture(b"no picture"), "What?")])
        long = engine.submit([user("word " * 400)])
        with pytest.raises(BeholderError, match=r"picture|image"):
            broken.reply(60)
        with pytest.raises(BeholderError, match="tokens"):
            list(long)
        assert good.reply(60).ids == sees.chat(question(1), max_tokens=20).ids
        with pytest.raises(BeholderError, match="unknown sampling option"):
            engine.submit(question(1), heat=3)


def test_cancelling_and_closing_leave_nobody_waiting(sees) -> None:
    engine = Engine(sees, QUICK)
    answers = [engine.submit(question(i), max_tokens=100) for i in range(4)]
    answers[0].cancel()
    with pytest.raises(BeholderError, match="cancelled"):
        answers[0].reply(5)
    deadline = time.monotonic() + 20
    while engine.counters()["open"] > 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.counters()["open"] == 3
    engine.close()
    engine.close()
    for answer in answers[1:]:
        if answer.done and not answer._cancelled:
            continue
        with pytest.raises(BeholderError, match="cancelled"):
            answer.reply(5)
    with pytest.raises(BeholderError, match="closed"):
        engine.submit(question(1))


def test_too_many_requests_are_turned_away(sees) -> None:
    with Engine(sees, EngineSettings(Limits(), most=2)) as engine:
        waiting = [engine.submit(question(i), max_tokens=150) for i in range(2)]
        with pytest.raises(BeholderError, match="2 requests wait already"):
            engine.submit(question(3))
        for answer in waiting:
            answer.cancel()


def test_an_answer_may_be_waited_for_so_long() -> None:
    with Engine(made(TEXT), QUICK) as engine:
        answer = engine.submit([user("a")], max_tokens=200)
        with pytest.raises(BeholderError, match="no answer within 0 seconds"):
            answer.reply(0)
        answer.cancel()


def test_an_engine_that_breaks_says_so(monkeypatch) -> None:
    pipeline = made(TEXT)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    engine = Engine(pipeline, QUICK)
    monkeypatch.setattr(engine.scheduler, "step", lambda: 1 / 0)
    with pytest.raises(BeholderError, match="the engine stopped"):
        engine.submit([user("a")]).reply(20)
    engine.close()


def test_steps_of_fixed_shape_in_an_engine() -> None:
    """From many threads, with pictures; slots wait for the next answers, within the budget."""
    sees = made(SEES)
    wanted = [sees.chat(question(i, seed=i % 3), max_tokens=5 + i % 4) for i in range(8)]
    fixed = FixedSteps.of(sees.model)
    sees.runtime = Runtime(fixed, fixed, rolling=False)
    with Engine(sees, QUICK) as engine:
        answers = [engine.submit(question(i, seed=i % 3), max_tokens=5 + i % 4) for i in range(8)]
        assert [answer.reply() for answer in answers] == wanted
        stop = time.monotonic() + 10
        while engine.counters()["state_bytes"] and time.monotonic() < stop:
            time.sleep(0.01)  # the step that gave the last word ends
        told = engine.counters()
        assert told["state_bytes"] == 0 < told["idle_bytes"] == fixed.idle_bytes <= 2**28
        assert engine.submit(question(0), max_tokens=5).reply() == wanted[0]


def test_the_collector_leaves_out_what_was_there_before_while_engines_run(sees) -> None:
    with Engine(sees, QUICK):
        pass
    assert gc.get_freeze_count() > 0  # the tests' own, see conftest.py
    gc.unfreeze()
    try:
        with Engine(sees, QUICK):
            with Engine(sees, QUICK):
                assert gc.get_freeze_count() > 0
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() == 0
    finally:
        gc.freeze()


def test_limits_are_those_of_where_the_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU four fifths of what is free there, less what caches keep; given limits stay."""
    here, there, given = torch.device("cpu"), torch.device("cuda", 0), Limits(rows=3)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (9 * 2**30, 16 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3 * 2**30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2 * 2**30)
    settings = EngineSettings(prefix_bytes=2**30, picture_bytes=2**29)
    assert settings.limits_on(here).budget == 2**31
    assert settings.limits_on(there).budget == 8 * 2**30 - 2**30 - 2**29
    assert EngineSettings(given).limits_on(there) == EngineSettings(given).limits_on(here) == given
    with pytest.raises(BeholderError, match="10240 MiB are free on cuda:0 and caches may take 8192"):
        EngineSettings(prefix_bytes=2**33, picture_bytes=0).limits_on(there)


def test_pixels_that_wait_for_encoders_are_bounded_and_gone_once_seen(sees, monkeypatch) -> None:
    """One request's views more than the bound at most, by each worker; who waits for that can be cancelled."""
    started, go = threading.Event(), threading.Event()
    step = Scheduler.step

    def stopped(scheduler: Scheduler) -> bool:
        started.set()
        go.wait(60)
        return step(scheduler)

    monkeypatch.setattr(Scheduler, "step", stopped)
    with Engine(sees, EngineSettings(Limits(views=2), unseen_bytes=1, workers=2)) as engine:
        asked = [engine.submit(question(i, seed=i), max_tokens=3) for i in range(9)]
        assert started.wait(60)
        one = sees.prepare([question(0)]).batch.views["image"]
        own = sum(view.nbytes for view in one)
        time.sleep(0.3)
        assert own <= engine.scheduler.unseen_bytes <= 2 * own
        asked[8].cancel()
        asked[7].cancel()
        monkeypatch.setattr(Scheduler, "step", step)
        go.set()
        replies = [answer.reply(60) for answer in asked[:7]]
        assert engine.scheduler.unseen_bytes == 0
        assert all(view.is_meta for answer in asked[:7] for view in answer._prepared.batch.views["image"])
        assert all(view.is_meta for answer in asked[:7] for view in answer._job.batch.views["image"])
    monkeypatch.undo()
    wanted = [sees.chat(question(i, seed=i), max_tokens=3) for i in range(7)]
    assert [reply.ids for reply in replies] == [reply.ids for reply in wanted]


def test_the_urgent_are_made_ready_first(sees, monkeypatch) -> None:
    """Also where others wait for encoders."""
    go, step, ready = threading.Event(), Scheduler.step, []
    prepare = Pipeline.prepare

    def noted(pipeline: Pipeline, conversations) -> Prepared:
        ready.append(str(conversations[0][0].parts[-1]))
        return prepare(pipeline, conversations)

    monkeypatch.setattr(Scheduler, "step", lambda scheduler: go.wait(60) and step(scheduler))
    monkeypatch.setattr(Pipeline, "prepare", noted)
    with Engine(sees, EngineSettings(Limits(views=2), unseen_bytes=0, workers=1)) as engine:
        asked = [engine.submit(question(0), max_tokens=3)]
        while not engine.scheduler.unseen_bytes:
            time.sleep(0.01)
        asked += [engine.submit(question(i, seed=i), max_tokens=3, priority=i) for i in (1, 3, 2, 3)]
        time.sleep(0.1)
        assert len(ready) == 1
        go.set()
        replies = [answer.reply(60) for answer in asked]
    assert [word for said in ready for word in "0123" if f"is {word}?" in said] == ["0", "3", "3", "2", "1"]
    assert replies[1].timings.wait >= 0.1


def test_who_waits_for_encoders_is_let_go_when_the_engine_closes(sees, monkeypatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(Scheduler, "step", lambda scheduler: go.wait(0.05) or True)
    engine = Engine(sees, EngineSettings(Limits(views=2), unseen_bytes=0, workers=1))
    asked = [engine.submit(question(i, seed=i), max_tokens=3) for i in range(4)]
    time.sleep(0.2)
    engine.close()
    for answer in asked:
        with pytest.raises(BeholderError, match="cancelled"):
            answer.reply(10)


def test_who_waits_for_encoders_is_told_when_the_engine_breaks(sees, monkeypatch) -> None:
    go = threading.Event()

    def broken(_: Scheduler) -> bool:
        go.wait(60)
        raise KeyError("broken")

    monkeypatch.setattr(Scheduler, "step", broken)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    engine = Engine(sees, EngineSettings(Limits(views=2), unseen_bytes=0, workers=1))
    asked = [engine.submit(question(i, seed=i), max_tokens=3) for i in range(3)]
    while not engine.scheduler.unseen_bytes:
        time.sleep(0.01)
    go.set()
    for answer in asked:
        with pytest.raises(BeholderError, match="stopped"):
            answer.reply(10)
    engine._workers.shutdown(wait=False)
    for thread in engine._workers._threads:
        thread.join(10)
        assert not thread.is_alive()
