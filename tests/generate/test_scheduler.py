"""Many requests at once: each is answered as if it were alone, whatever joins, leaves, fails or makes room."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from beholder.errors import BeholderError
from beholder.generate import room, steps
from beholder.generate.features import FeatureCache
from beholder.generate.jobs import Job
from beholder.generate.prefixes import PrefixCache
from beholder.generate.rows import check_context, make_rows
from beholder.generate.runtime import Runtime
from beholder.generate.sampling import Sampling
from beholder.generate.scheduler import Limits, Scheduler
from beholder.model import Batch, Model, build
from tests.generate.test_features import darker
from tests.test_cards import Tiny
from tests.toys import TEXT

PHOTO = Path(__file__).resolve().parents[2] / "docs" / "samples" / "cat.jpg"
KINDS = (
    "llama-2-7b",  # plain
    "mistral-7b",  # a ring of keys
    "gemma-3-1b",  # windows in some layers
    "mamba-130m",  # recurrent
    "longllava-9b",  # recurrent and attention layers, pictures
    "blip-2-flan-t5-xl",  # an encoder's memory
    "florence-2-base",  # the same, with pictures in it
    "blip-captioner-b",
    "llama-3.2-11b-vision",  # cross-attention to pictures
    "idefics-9b",
    "smolvlm-256m",  # pictures among words
    "qwen2-vl-2b",  # positions of several axes
    "paligemma-3b-224",  # prompts seen both ways
    "gemma-3-4b",  # pictures seen both ways
    "cogvlm-chat",  # experts for pictures
    "instructblip-vicuna-7b",  # features that depend on the question
    "internlm-xcomposer2-vl-7b",
    "nvlm-h-72b",
)


class Numbers:
    def add(self, token_id: int) -> str:
        return f"<{token_id}>"

    def finish(self) -> str:
        return ""


def job(model: Model, batch: Batch, sampling: Sampling, *, priority: int = 0) -> Job:
    usages = check_context(model, batch)
    samplings = [sampling] * len(usages)
    return Job(batch, make_rows(model, batch, samplings, usages, eos_ids=(), decode=Numbers), priority)


def run(scheduler: Scheduler, jobs) -> list[tuple[int, ...]]:
    for each in jobs:
        scheduler.submit(each)
    while scheduler.step():
        pass
    return [finished(each) for each in jobs]


def finished(done: Job) -> tuple[int, ...]:
    pieces = done.take()
    (result,) = [piece.result for piece in pieces if piece.result is not None]
    assert "".join(piece.text for piece in pieces) == result.text
    return result.ids


def alone(model: Model, batch: Batch, sampling: Sampling) -> tuple[int, ...]:
    return run(Scheduler(model), [job(model, batch, sampling)])[0]


def text(*ids: int) -> Batch:
    return Batch(torch.tensor([ids]))


def spread(model: Model) -> Model:
    """Scores that differ enough for greedy choices to be safe from rounding."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.0 if "embedding" in name else 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Model:
    return spread(build(TEXT, seed=1))


def requests(tiny: Tiny) -> list[Batch]:
    """Prompts of several lengths, some about another picture."""
    made = []
    for number, more in enumerate(([], [31, 7], [9], [40, 41, 42, 43, 44], [8, 8])):
        batch = tiny.batch()
        batch = replace(
            batch, target_BT=None, ids_BT=torch.cat((batch.ids_BT, torch.tensor([more]).long()), 1)
        )
        made.append(darker(batch) if number % 2 else batch)
    return made


@pytest.mark.parametrize("chunk", [7, 512])
@pytest.mark.parametrize("name", KINDS)
def test_company_changes_no_answer(name: str, chunk: int) -> None:
    """Prompts are read in pieces, or whole and side by side."""
    tiny = Tiny(name, PHOTO)
    model, random_ = spread(tiny.model), random.Random(0)
    samplings = [
        Sampling(max_tokens=6),
        Sampling(max_tokens=3),
        Sampling(max_tokens=9, temperature=1.0, seed=7),
        Sampling(max_tokens=7, repetition_penalty=1.3),
        Sampling(max_tokens=5),
    ]
    prompts = requests(tiny)
    wanted = [alone(model, batch, each) for batch, each in zip(prompts, samplings, strict=True)]
    scheduler = Scheduler(
        model,
        Limits(rows=4, chunk=chunk, views=2),
        Runtime(prefixes=PrefixCache(2**26), features=FeatureCache(2**26)),
    )
    for _ in range(2):  # the second time from what was kept
        jobs = [job(model, batch, each) for batch, each in zip(prompts, samplings, strict=True)]
        for each in jobs:
            scheduler.submit(each)
            for _ in range(random_.randrange(3)):
                scheduler.step()
        while scheduler.step():
            pass
        assert [finished(each) for each in jobs] == wanted
    assert scheduler.nbytes == 0 and scheduler.running == 0


def test_rows_step_together_and_prompts_are_read_in_pieces(model, monkeypatch) -> None:
    widths, pieces = [], []
    real, read = steps.advance, model.read_inputs
    monkeypatch.setattr(
        steps, "advance", lambda m, ids, *rest: widths.append(len(ids)) or real(m, ids, *rest)
    )
    monkeypatch.setattr(
        model,
        "read_inputs",
        lambda inputs, state: pieces.append(inputs.ids_BT.shape[1]) or read(inputs, state),
    )
    scheduler = Scheduler(model, Limits(chunk=8))
    first = scheduler.submit(job(model, text(*range(3, 8)), Sampling(max_tokens=12)))
    scheduler.step()
    second = scheduler.submit(job(model, text(*range(20, 40)), Sampling(max_tokens=4)))
    widths.clear()
    pieces.clear()
    for _ in range(4):
        scheduler.step()
    assert [width for width in pieces if width > 1] == [8, 8, 4]
    assert widths == [1, 1, 2, 2]
    while scheduler.step():
        pass
    monkeypatch.undo()
    assert finished(first) == alone(model, text(*range(3, 8)), Sampling(max_tokens=12))
    assert finished(second) == alone(model, text(*range(20, 40)), Sampling(max_tokens=4))


def test_short_prompts_are_read_side_by_side(model, monkeypatch) -> None:
    shapes = watch_reading(model, monkeypatch)
    prompts = [text(*range(3, 3 + n)) for n in (4, 5)] + [text(*range(40, 52)), text(*range(60, 69))]
    scheduler = Scheduler(model, Limits(together=20), Runtime(prefixes=PrefixCache(2**26)))
    jobs = [scheduler.submit(job(model, batch, Sampling(max_tokens=6))) for batch in prompts]
    scheduler.step()
    assert shapes == [
        (2, 5),
        (1, 12),
        (1, 9),
        (4, 1),
    ]  # 4 beside 12 would be padding, and 12 with 9 more than 20
    while scheduler.step():
        pass
    monkeypatch.undo()
    for each, batch in zip(jobs, prompts, strict=True):
        assert finished(each) == alone(model, batch, Sampling(max_tokens=6))
        assert each.rows[0].timings.prefill > 0


def test_prompts_that_begin_alike_are_read_one_after_the_other_once(model, monkeypatch) -> None:
    """The second goes on from what the first has read, and the others, side by side, too."""
    shapes = watch_reading(model, monkeypatch)
    shared = range(3, 33)
    prompts = [text(*shared, *range(40 + 9 * n, 46 + 9 * n + n)) for n in range(3)]
    scheduler = Scheduler(model, runtime=Runtime(prefixes=PrefixCache(2**26)))
    jobs = [scheduler.submit(job(model, batch, Sampling(max_tokens=6))) for batch in prompts]
    scheduler.step()
    assert shapes == [(1, 36), (2, 8), (3, 1)]
    assert [each.reused for each in jobs] == [0, 30, 30]
    while scheduler.step():
        pass
    monkeypatch.undo()
    for each, batch in zip(jobs, prompts, strict=True):
        assert finished(each) == alone(model, batch, Sampling(max_tokens=6))


def test_what_fails_side_by_side_is_read_by_itself(model, monkeypatch) -> None:
    real, reads = model.read_inputs, []

    def read(inputs, state):
        reads.append(len(inputs.ids_BT))
        if bool((inputs.ids_BT == 99).any()):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(inputs, state)

    monkeypatch.setattr(model, "read_inputs", read)
    scheduler = Scheduler(model, Limits(budget=2**30), Runtime(prefixes=PrefixCache(2**26)))
    reads.clear()
    prompts = [text(3, 4, 5), text(6, 99, 8), text(9, 10, 11)]
    jobs = [scheduler.submit(job(model, batch, Sampling(max_tokens=5))) for batch in prompts]
    scheduler.step()
    assert reads[:4] == [3, 1, 1, 1]
    with pytest.raises(BeholderError, match="no memory left for a request of 3 tokens"):
        jobs[1].take()
    while scheduler.step():
        pass
    monkeypatch.undo()
    for number in (0, 2):
        assert finished(jobs[number]) == alone(model, prompts[number], Sampling(max_tokens=5))
    assert scheduler.idle and scheduler.nbytes == 0


def test_prompts_that_wait_to_be_read_count_for_the_limits(model) -> None:
    probe = Scheduler(model, Limits(budget=2**40)).room
    prompts = [text(*range(3 + 9 * n, 11 + 9 * n)) for n in range(6)]
    for limits in (Limits(rows=3), Limits(budget=3 * probe.bytes(8 + 10, 1), spare=10)):
        scheduler = Scheduler(model, limits)
        jobs = [scheduler.submit(job(model, batch, Sampling(max_tokens=9))) for batch in prompts]
        most = 0
        while scheduler.step():
            most = max(most, scheduler.running)
        assert most == 3 and scheduler.preempted == 0
        for each, batch in zip(jobs, prompts, strict=True):
            assert finished(each) == alone(model, batch, Sampling(max_tokens=9))


def watch_reading(model: Model, monkeypatch) -> list[tuple[int, ...]]:
    """(rows, tokens) of whatever goes through the language part from now on."""
    shapes: list[tuple[int, ...]] = []
    real = model.read_inputs
    monkeypatch.setattr(
        model,
        "read_inputs",
        lambda inputs, state: shapes.append(tuple(inputs.ids_BT.shape)) or real(inputs, state),
    )
    return shapes


def test_the_urgent_go_first(model) -> None:
    scheduler = Scheduler(model, Limits(rows=1))
    slow = scheduler.submit(job(model, text(3, 4, 5), Sampling(max_tokens=20)))
    scheduler.step()
    late = scheduler.submit(job(model, text(6, 7), Sampling(max_tokens=2)))
    urgent = scheduler.submit(job(model, text(8, 9), Sampling(max_tokens=2), priority=5))
    order = []
    while scheduler.step():
        order += [each for each in (slow, late, urgent) if each.finished and each not in order]
    assert order + [each for each in (slow, late) if each not in order] == [urgent, slow, late]
    assert scheduler.preempted == 1
    assert finished(slow) == alone(model, text(3, 4, 5), Sampling(max_tokens=20))


def test_cancelling_frees_everything_within_a_step(model) -> None:
    scheduler = Scheduler(model, Limits(chunk=4))
    going = scheduler.submit(job(model, text(3, 4, 5), Sampling(max_tokens=50)))
    mate = scheduler.submit(job(model, text(6, 7, 8), Sampling(max_tokens=6)))
    scheduler.step()
    scheduler.step()
    reading = scheduler.submit(job(model, text(*range(3, 40)), Sampling(max_tokens=5)))
    scheduler.step()
    waiting = scheduler.submit(job(model, text(9, 9), Sampling(max_tokens=5)))
    before = scheduler.nbytes
    for each in (going, reading, waiting):
        scheduler.cancel(each)
    scheduler.step()
    assert scheduler.running == 1 and scheduler.nbytes < before
    while scheduler.step():
        pass
    assert finished(mate) == alone(model, text(6, 7, 8), Sampling(max_tokens=6))
    assert scheduler.idle and scheduler.nbytes == 0 and not going.error


@pytest.mark.parametrize("name", ["llama-2-7b", "mamba-130m", "smolvlm-256m"])
def test_a_budget_is_kept_and_who_makes_room_loses_nothing(name: str) -> None:
    tiny = Tiny(name, PHOTO)
    model = spread(tiny.model)
    prompts = requests(tiny)
    samplings = [Sampling(max_tokens=25, temperature=float(i % 2), seed=i) for i in range(5)]
    wanted = [alone(model, batch, each) for batch, each in zip(prompts, samplings, strict=True)]
    one = job(model, prompts[3], samplings[3])
    probe = Scheduler(model, Limits(budget=2**40))
    budget = int(2.5 * probe.room.bytes(one.tokens + 30, 1))
    scheduler = Scheduler(model, Limits(budget=budget, spare=1))
    jobs = [scheduler.submit(job(model, b, s)) for b, s in zip(prompts, samplings, strict=True)]
    most = 0
    while scheduler.step():
        most = max(most, scheduler.nbytes)
    assert [finished(each) for each in jobs] == wanted
    assert 0 < most <= budget
    if name != "mamba-130m":  # whose state does not grow
        assert scheduler.preempted > 0


def test_room_for_more_rows_is_taken_where_the_budget_has_it_and_given_back(model) -> None:
    """For those that wait, or as many again, so that rows which join one by one are not copied each time."""
    rooms = []
    for budget in (2**40, 4 * Scheduler(model, Limits(budget=2**40)).room.bytes(20, 1)):
        scheduler = Scheduler(model, Limits(budget=budget, spare=10, together=0))
        jobs = [scheduler.submit(job(model, text(n, 4, 5), Sampling(max_tokens=10))) for n in (3, 6, 7)]
        with torch.inference_mode():
            scheduler._read_prompts()
        (pack,) = scheduler._packs
        assert len(pack.rows) == pack.state.room[0] == 3
        jobs.append(scheduler.submit(job(model, text(8, 4, 5), Sampling(max_tokens=10))))
        scheduler.step()
        rooms.append(pack.state.room[0])
        assert len(pack.rows) == 4 and scheduler.nbytes <= budget
        assert scheduler._fits(0) and not scheduler._fits(budget)
        assert pack.state.room[0] == 4  # whatever asks for more than there is gets what nobody uses
        while scheduler.step():
            pass
        assert all(len(finished(each)) == 10 for each in jobs)
    assert rooms == [6, 4]


@pytest.mark.parametrize(("answers", "trims"), [(2, 1), (16, 0)])
def test_freed_memory_goes_back_to_the_system_once_there_is_no_plenty(
    model, monkeypatch, answers: int, trims: int
) -> None:
    """answers: how many the budget holds."""
    called: list[None] = []
    monkeypatch.setattr(room, "trim", lambda: called.append(None))
    budget = answers * Scheduler(model, Limits(budget=2**40)).room.bytes(44, 1)
    scheduler = Scheduler(model, Limits(budget=budget, spare=20))
    run(scheduler, [job(model, text(5, 6, 7), Sampling(max_tokens=40)) for _ in range(3)])
    assert len(called) == trims  # within `PAUSE`, so not at every token
    monkeypatch.setattr(room, "PAUSE", 0.0)
    run(scheduler, [job(model, text(5, 6, 7), Sampling(max_tokens=40)) for _ in range(3)])
    assert (len(called) > 2) is (trims > 0)


def test_keys_lie_in_memory_of_their_own_where_there_is_no_plenty(model) -> None:
    need = Scheduler(model, Limits(budget=2**40)).room.bytes(14, 3)
    for parts, mapped in ((2, True), (40, False)):
        scheduler = Scheduler(model, Limits(budget=parts * need, spare=1))
        jobs = [scheduler.submit(job(model, text(n, 4, 5), Sampling(max_tokens=10))) for n in (3, 6, 7)]
        scheduler.step()
        scheduler.step()
        (pack,) = scheduler._packs
        assert {layer.mapped for layer in pack.state.layers.values()} == {mapped}
        while scheduler.step():
            pass
        assert all(len(finished(each)) == 10 for each in jobs)


def test_a_prompt_half_read_makes_room_for_an_answer_that_goes_on(model) -> None:
    """Each fits by itself; neither is given up."""
    room = Scheduler(model, Limits(budget=2**40)).room
    scheduler = Scheduler(model, Limits(budget=room.bytes(70, 1), spare=10, chunk=1))
    going = scheduler.submit(job(model, text(3, 4, 5), Sampling(max_tokens=45)))
    while len(going.rows[0].ids) < 10:
        scheduler.step()
    reading = scheduler.submit(job(model, text(*range(3, 43)), Sampling(max_tokens=5)))
    while scheduler.step():
        assert scheduler.nbytes <= scheduler.room.budget
    assert finished(going) == alone(model, text(3, 4, 5), Sampling(max_tokens=45))
    assert finished(reading) == alone(model, text(*range(3, 43)), Sampling(max_tokens=5))
    assert scheduler.preempted == 1


@pytest.mark.parametrize("rows", [2, 3, 5, 8, 40])
def test_prompts_side_by_side_keep_the_budget(model, rows: int) -> None:
    """Whether the first has room for its whole answer or not."""
    room = Scheduler(model, Limits(budget=2**40)).room
    scheduler = Scheduler(model, Limits(budget=room.bytes(30, rows), spare=4))
    prompts = [text(*range(3 + 5 * n, 11 + 6 * n)) for n in range(9)]
    jobs = [scheduler.submit(job(model, batch, Sampling(max_tokens=12))) for batch in prompts]
    most = 0
    while scheduler.step():
        most = max(most, scheduler.nbytes)
    assert 0 < most <= scheduler.room.budget
    for each, batch in zip(jobs, prompts, strict=True):
        assert finished(each) == alone(model, batch, Sampling(max_tokens=12))


def test_what_never_fits_is_refused_at_once(model) -> None:
    room = Scheduler(model, Limits(budget=2**40)).room
    scheduler = Scheduler(model, Limits(budget=room.bytes(40, 1), spare=1))
    with pytest.raises(BeholderError, match=r"61 tokens need .* MiB of cache but the budget is .* MiB"):
        scheduler.submit(job(model, text(*[3] * 60), Sampling()))
    long = scheduler.submit(job(model, text(3, 4), Sampling(max_tokens=200)))
    while scheduler.step():
        pass
    with pytest.raises(BeholderError, match="tokens need"):
        while long.take():
            pass
    assert scheduler.nbytes == 0
    with pytest.raises(BeholderError, match="1 tokens need"):
        Scheduler(model, Limits(budget=1))


def test_the_first_request_tells_what_a_token_takes_where_nothing_is_read_without_a_picture() -> None:
    tiny = Tiny("blip-captioner-b", PHOTO)
    model = spread(tiny.model)
    scheduler = Scheduler(model, Limits(budget=2**24))
    assert not scheduler.room.known
    wanted = alone(model, tiny.batch(), Sampling(max_tokens=4))
    assert run(scheduler, [job(model, tiny.batch(), Sampling(max_tokens=4))])[0] == wanted
    assert scheduler.room.known and scheduler.room.per_token > 0
    small = Scheduler(model, Limits(budget=scheduler.room.fixed))
    first = small.submit(job(model, tiny.batch(), Sampling(max_tokens=4)))
    while small.step():
        pass
    with pytest.raises(BeholderError, match="tokens need"):
        small.submit(job(model, tiny.batch(), Sampling()))
    assert first.finished


def test_a_poisoned_picture_fails_alone() -> None:
    tiny = Tiny("smolvlm-256m", PHOTO)
    model, good = spread(tiny.model), tiny.batch()
    bad = replace(good, views={"image": [view[:, :-3] for view in good.views["image"]]})
    scheduler = Scheduler(model)
    jobs = [job(model, batch, Sampling(max_tokens=40)) for batch in (good, bad, darker(good))]
    for each in jobs:
        scheduler.submit(each)
    most = 0
    while scheduler.step():
        most = max(most, *(len(pack.rows) for pack in scheduler._packs), 0)
    assert most == 2  # those that stood beside it step together
    assert finished(jobs[0]) == alone(model, good, Sampling(max_tokens=40))
    assert finished(jobs[2]) == alone(model, darker(good), Sampling(max_tokens=40))
    with pytest.raises(Exception, match=r".+"):
        jobs[1].take()
    assert scheduler.idle and scheduler.nbytes == 0


def test_one_request_without_memory_leaves_the_others(model, monkeypatch) -> None:
    """Whoever reads token 99 finds no memory."""
    real = steps.advance

    def advance(model, ids, state, tail):
        if 13 in state.lengths:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(model, ids, state, tail)

    monkeypatch.setattr(steps, "advance", advance)
    scheduler = Scheduler(model)
    short = [scheduler.submit(job(model, text(*range(3, 3 + n)), Sampling(max_tokens=5))) for n in (2, 4, 6)]
    long = scheduler.submit(job(model, text(*range(30, 40)), Sampling(max_tokens=9)))
    while scheduler.step():
        pass
    assert all(len(finished(each)) == 5 for each in short)
    with pytest.raises(BeholderError, match="no memory left for a request of 1. tokens and 0 pictures"):
        while long.take():
            pass
    assert scheduler.idle and scheduler.nbytes == 0


def test_a_form_that_nothing_follows_fails_alone(model) -> None:
    class Stuck:
        def allow(self, logits_V) -> None: ...

        def take(self, token_id: int) -> bool:
            raise BeholderError("the answer left its form")

    scheduler = Scheduler(model)
    jobs = [job(model, text(3, 4, 5 + i), Sampling(max_tokens=4)) for i in range(3)]
    jobs[1].rows[0].follower = Stuck()
    for each in jobs:
        scheduler.submit(each)
    while scheduler.step():
        pass
    with pytest.raises(BeholderError, match="left its form"):
        jobs[1].take()
    for i in (0, 2):
        assert finished(jobs[i]) == alone(model, text(3, 4, 5 + i), Sampling(max_tokens=4))


@pytest.mark.parametrize("name", ["llama-2-7b", "mamba-130m", "smolvlm-256m", "qwen2-vl-2b", "gemma-3-4b"])
def test_a_conversation_goes_on_where_it_was(name: str) -> None:
    tiny = Tiny(name, PHOTO)
    model, sampling = spread(tiny.model), Sampling(max_tokens=8)
    scheduler = Scheduler(model, runtime=Runtime(prefixes=PrefixCache(2**26), features=FeatureCache(2**26)))
    first = tiny.batch()
    first = replace(first, ids_BT=torch.cat((first.ids_BT, torch.tensor([[30 + i for i in range(20)]])), 1))
    (said,) = run(scheduler, [job(model, first, sampling)])
    asked = torch.cat((first.ids_BT, torch.tensor([[*said, 21, 22, 23]])), 1)
    second = replace(first, ids_BT=asked)
    again = job(model, second, sampling)
    assert run(scheduler, [again])[0] == alone(model, second, sampling)
    kept = first.ids_BT.shape[1] + len(said) - 1
    assert again.reused == kept == again.rows[0].usage.reused
    if tiny.views:
        other = job(model, darker(second), sampling)
        assert run(scheduler, [other])[0] == alone(model, darker(second), sampling)
        assert other.reused < kept


def test_prefixes_stay_within_their_bytes(model) -> None:
    probe = PrefixCache(2**30)
    run(
        Scheduler(model, runtime=Runtime(prefixes=probe)),
        [job(model, text(*range(3, 40)), Sampling(max_tokens=1))],
    )
    cache = PrefixCache(2 * probe.nbytes)
    scheduler = Scheduler(model, runtime=Runtime(prefixes=cache))
    for start in range(3, 60, 3):
        run(scheduler, [job(model, text(*range(start, start + 37)), Sampling(max_tokens=1))])
        assert cache.nbytes <= cache.limit
    assert cache.nbytes > 0 and cache.hits == 0


def test_thousands_of_requests_leave_nothing_behind(model) -> None:
    scheduler = Scheduler(
        model, Limits(budget=2**20), Runtime(prefixes=PrefixCache(2**16), features=FeatureCache(2**16))
    )
    most = 0
    for number in range(300):
        ids = [3 + (number * 7 + i) % 200 for i in range(1 + number % 30)]
        scheduler.submit(job(model, text(*ids), Sampling(max_tokens=1 + number % 5)))
        scheduler.step()
        most = max(most, scheduler.nbytes)
    while scheduler.step():
        most = max(most, scheduler.nbytes)
    assert most <= 2**20 and scheduler.nbytes == 0 and scheduler.prefixes.nbytes <= 2**16


def test_pictures_that_see_each_other_are_not_kept_apart() -> None:
    """Of two pictures in one block the first has seen the second; alone it is read anew."""
    tiny = Tiny("gemma-3-4b", PHOTO)
    model, sampling = spread(tiny.model), Sampling(max_tokens=5)
    one = tiny.batch()
    plan, place = one.plans[0][0], next(fusion.token_id for fusion in tiny.card.fusion)
    words, count = list(range(30, 60)), plan.num_tokens
    views = one.views["image"]
    both = replace(
        one,
        ids_BT=torch.tensor([[*words, *[place] * (2 * count), 61, 62]]),
        plans=((plan, plan),),
        views={"image": [*views, *(0.5 * view for view in views)]},
    )
    single = replace(one, ids_BT=torch.tensor([[*words, *[place] * count, 63, 64]]))
    scheduler = Scheduler(model, runtime=Runtime().remembering(2**26, 2**26))
    run(scheduler, [job(model, both, sampling)])
    alone_again = job(model, single, sampling)
    assert run(scheduler, [alone_again])[0] == alone(model, single, sampling)
    assert alone_again.reused == len(words)
