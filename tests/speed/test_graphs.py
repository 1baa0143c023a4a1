"""Steps of fixed shape say what ordinary steps say, whatever joins, leaves and grows; nothing in them asks the processor."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from beholder.cards import card, card_names
from beholder.errors import BeholderError
from beholder.generate import steps
from beholder.generate.features import FeatureCache
from beholder.generate.prefixes import PrefixCache
from beholder.generate.runtime import Runtime
from beholder.generate.sampling import Sampling
from beholder.generate.scheduler import Limits, Scheduler
from beholder.model import Batch, Model, build
from beholder.parts.blocks.rotary_scaling import DynamicScaling, LongRope, RotaryScaling, SteppedScaling
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.state import State
from beholder.speed import graphs
from beholder.speed.graphs import FixedSteps, Size, Watch, why_not
from beholder.speed.slots import Slots, places_for, rows_for
from tests.generate.test_scheduler import PHOTO, alone, finished, job, requests, spread, text
from tests.pretend import Pretended, moved
from tests.test_cards import Tiny
from tests.toys import TEXT

COVERED = (
    "llama-3-8b",  # grouped heads
    "mistral-7b",  # windows
    "gemma-3-1b",  # windows in some layers, norms of queries and keys
    "qwen2-vl-2b",  # positions of several axes, biases
    "cumo-mixtral-8x7b",  # experts
    "molmoe-1b",
    "smolvlm-256m",  # pictures among words
    "paligemma-3b-224",  # prompts seen both ways
    "cogvlm-chat",  # experts for pictures
    "internlm-xcomposer2-vl-7b",  # adapters for pictures
    "internvl-2.5-2b",  # frequencies by the text's length
    "phi-3.5-vision",
)


@pytest.fixture(scope="module")
def model() -> Model:
    return spread(build(TEXT, seed=1))


class Tape(TorchDispatchMode):
    """A CUDA graph's stand-in: the operations of a step, each with the very tensors that it read and gave. Played back, they
    are computed again on this memory; nothing else of the step happens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.times = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, given))
        return given

    def replay(self) -> None:
        self.times += 1
        for func, args, kwargs, before in self.operations:
            now = func(*args, **kwargs)
            for old, new in zip(tree_leaves(before), tree_leaves(now), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are recorded on tape."""

    @torch.inference_mode()
    def record(self: Size, _: object) -> None:
        with Tape() as made:
            self.compute()
        self.graph = made

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(Size, "record", record)


def names() -> list[str]:
    """Cards that write text."""
    return [name for name in card_names() if any(head.output == "text" for head in card(name).heads)]


@torch.inference_mode()
def read(model: Model, lengths: tuple[int, ...] = (9, 4, 6), capacity: int = 12) -> State:
    ids_BT = torch.randint(6, 100, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    state = State(len(lengths), capacity=capacity)
    model.read(Batch(ids_BT.to(model.device), lengths=lengths), {}, state)
    return state


def close(got: Tensor, want: Tensor) -> bool:
    """Scores equal to rounding, and the same word the best."""
    same = torch.equal(got.argmax(-1), want.argmax(-1))
    return same and torch.allclose(got, want, atol=1e-5 * max(1.0, float(want.abs().max())))


def test_sizes() -> None:
    assert [rows_for(n) for n in (1, 2, 3, 4, 5, 9, 16, 17)] == [1, 2, 4, 4, 8, 16, 16, 32]
    assert [places_for(n) for n in (1, 128, 129, 192, 193, 257, 384, 385)] == [
        *(128, 128, 192, 192, 256, 384, 384, 512),
    ]
    for n in range(1, 5000, 7):
        assert n <= places_for(n) <= max(128, 1.5 * n + 1)


@pytest.mark.parametrize("name", names())
def test_cards_give_the_same_or_say_why_not(name: str, tape: None) -> None:
    """Of what is not covered the reason is known; the rest gives the same scores for rows of unequal lengths, computed and
    played back.
    """
    model = build(card(name).tiny())
    reason = why_not(model)
    if reason is not None:
        told = (
            "no plain Decoder",
            " of kind Tensors",
            "asks for values",
            "output is read",
            "to words",
        )
        assert any(part in reason for part in told), reason
        with pytest.raises(BeholderError, match="no steps of fixed shape"):
            FixedSteps.of(model)
        return
    fixed = FixedSteps(model, recorded=True)
    mine, theirs = read(model), read(model)
    for number in range(5):
        ids = [7 + number, 8, 9 + number]
        assert fixed.settle(mine)
        assert close(fixed.step(ids, mine), steps.advance(model, ids, theirs).float())
    assert mine.lengths == theirs.lengths and [size.graph.times for size in fixed._sizes.values()] == [3]


@pytest.mark.parametrize("recorded", [False, True])
def test_what_states_do_keeps_its_meaning(
    model: Model, recorded: bool, tape: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows join, leave, are cut, copied and moved between slots; ordinary steps may go on at any time."""
    monkeypatch.setattr(graphs, "UNRECORDED", 0)
    fixed, random_ = FixedSteps(model, recorded), random.Random(3)
    mine, theirs = read(model), read(model)

    def advance(fixedly: bool = True) -> None:
        ids = [random_.randrange(6, 200) for _ in range(mine.rows)]
        want = steps.advance(model, ids, theirs).float()
        if fixedly:
            assert fixed.settle(mine)
            assert close(fixed.step(ids, mine), want)
        else:
            assert close(steps.advance(model, ids, mine).float(), want)

    def both(change) -> None:
        for state in (mine, theirs):
            change(state)

    with torch.inference_mode():
        advance()
        first = mine.layers["self", 0].keys.data_ptr()
        both(lambda state: state.join(read(model, (5, 7))))
        advance()
        advance(fixedly=False)
        both(lambda state: state.keep([0, 4, 2]))
        advance()
        both(lambda state: state.truncate([length - 2 for length in state.lengths]))
        advance()
        both(lambda state: state.join(read(model, (3,) * 6, capacity=200)))
        for _ in range(3):
            advance()
        assert mine.layers["self", 0].keys.data_ptr() != first  # wider slots by now
        copy, other = mine.snapshot(), theirs.snapshot()
        advance()
        mine, theirs = copy, other
        advance(fixedly=False)
        mine, theirs = mine.reorder([2, 2, 0]), theirs.reorder([2, 2, 0])
        advance()
        mine, theirs = mine.head(1, 4, 9), theirs.head(1, 4, 9)
        advance()
        advance(fixedly=False)


def test_states_grow_into_more_places(model: Model) -> None:
    fixed = FixedSteps.of(model)
    mine, theirs = read(model, (120,), 121), read(model, (120,), 121)
    seen = set()
    for number in range(15):
        assert fixed.settle(mine)
        seen.add(mine.room[1])
        assert close(fixed.step([9 + number], mine), steps.advance(model, [9 + number], theirs).float())
    assert seen == {128, 192}


@pytest.mark.parametrize(
    "scaling",
    [
        DynamicScaling(2.0, 8),
        SteppedScaling(8),
        LongRope((1.0, 1.1, 1.2, 1.3), (2.0, 3.0, 4.0, 5.0), 12, 1.19),
    ],
    ids=lambda scaling: type(scaling).__name__,
)
def test_frequencies_follow_each_rows_length(scaling: RotaryScaling, tape: None) -> None:
    """Rows pass the lengths at which they change one after the other."""
    model = spread(build(TEXT.but(**{"language.attention.rotary.scaling": scaling}), seed=1))
    assert why_not(model) is None
    fixed, mine, theirs = FixedSteps(model, recorded=True), read(model), read(model)
    for number in range(12):
        ids = [7, 8 + number, 9]
        assert fixed.settle(mine)
        assert close(fixed.step(ids, mine), steps.advance(model, ids, theirs).float())


def test_positions_of_a_table_end_with_it() -> None:
    """A step beyond the table is an ordinary one, which says so."""
    changes = {"language.embedding": TokenEmbedding(positions="learned", offset=2), "language.context": 12}
    model = spread(build(TEXT.but(**changes, **{"language.attention.rotary": None}), seed=1))
    fixed, mine, theirs = FixedSteps.of(model), read(model), read(model)
    for number in range(3):
        ids = [7, 8 + number, 9]
        assert fixed.settle(mine)
        assert close(fixed.step(ids, mine), steps.advance(model, ids, theirs).float())
    assert fixed.settle(mine) and "have a table" in str(fixed.refuses([7, 8, 9], mine))
    with pytest.raises(BeholderError, match="this model reads at most 12"):
        fixed(model, [7, 8, 9], mine, None)


def test_slots_are_used_again_and_given_back(model: Model) -> None:
    fixed = FixedSteps.of(model)
    one, other = read(model), read(model)
    assert fixed.settle(one) and fixed.settle(other)
    kept = one.layers["self", 0].keys.data_ptr()
    assert kept != other.layers["self", 0].keys.data_ptr() and fixed.idle_bytes == 0
    assert one.nbytes == Slots.bytes_for(read(model), 4, 128)
    held = one.nbytes
    del one
    assert fixed.idle_bytes == held
    again = read(model, (3, 3))
    assert fixed.settle(again) and again.layers["self", 0].keys.data_ptr() == kept
    del again
    fixed.release()
    assert fixed.idle_bytes == 0 and fixed.settle(other) and not fixed.refuses([6, 6, 6], other)


@pytest.mark.parametrize("fixedly", [True, False])
def test_what_is_no_number_stays_where_it_is(model: Model, fixedly: bool) -> None:
    """A row whose values are NaN changes neither its company nor who gets its place later."""
    fixed = FixedSteps.of(model)

    def step(ids: list[int], state: State) -> Tensor:
        if not fixedly:
            return steps.advance(model, ids, state).float()
        assert fixed.settle(state)
        return fixed.step(ids, state).clone()

    with torch.inference_mode():
        mine, theirs, poisoned = read(model), read(model), read(model, (30,), capacity=64)
        for layer in poisoned.layers.values():
            layer.values.fill_(torch.nan)
        mine.join(poisoned)
        assert step([7, 8, 9, 10], mine)[3].isnan().all()
        steps.advance(model, [7, 8, 9], theirs)
        mine.keep([0, 1, 2])
        for state in (mine, theirs):
            state.join(read(model, (3,)))
        for _ in range(3):
            assert close(step([11, 12, 13, 14], mine), steps.advance(model, [11, 12, 13, 14], theirs).float())
        mine = read(model)  # in the slots that are free now
        assert close(step([7, 8, 9], mine), steps.advance(model, [7, 8, 9], read(model)).float())


def test_there_are_no_more_bytes_than_allowed(model: Model) -> None:
    fixed = FixedSteps.of(model)
    state = read(model)
    more = Slots.bytes_for(state, 4, 128) - state.nbytes
    assert (
        not fixed.settle(state, more - 1)
        and fixed.refuses([6] * 3, state) == "the state is not settled in slots"
    )
    assert close(
        fixed(model, [6] * 3, state, None).float(), steps.advance(model, [6] * 3, read(model)).float()
    )
    assert fixed.settle(state, more) and not fixed.refuses([6] * 3, state)


def test_what_is_no_word_is_refused(model: Model) -> None:
    fixed = FixedSteps.of(model)
    state = read(model)
    fixed.settle(state)
    with pytest.raises(BeholderError, match="an id is no word"):
        fixed.step([6, 6, 10**6], state)
    with pytest.raises(BeholderError, match="neither one of the 300 words"):
        fixed(model, [6, 6, 10**6], state, None)


def test_the_best_words_come_without_the_processor(model: Model) -> None:
    fixed = FixedSteps.of(model)
    mine, theirs, want = read(model), read(model), []
    ids = [11, 12, 13]
    for _ in range(6):
        ids = steps.advance(model, ids, theirs).argmax(-1).tolist()
        want.append(ids)
    fixed.settle(mine)
    assert fixed.best([11, 12, 13], mine, 6).T.tolist() == want and mine.lengths == theirs.lengths
    with pytest.raises(BeholderError, match="no place for 1000 tokens more"):
        fixed.best([11, 12, 13], mine, 1000)


@pytest.mark.parametrize("name", COVERED)
def test_company_changes_no_answer(name: str, tape: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a scheduler with rows that join and leave, pictures and seeds; with a budget, answers are still the same."""
    tiny = Tiny(name, PHOTO)
    model, random_ = spread(tiny.model), random.Random(0)
    assert why_not(model) is None
    monkeypatch.setattr(graphs, "UNRECORDED", 1)
    fixed = FixedSteps(model, recorded=True)
    samplings = [
        Sampling(max_tokens=6),
        Sampling(max_tokens=3),
        Sampling(max_tokens=9, temperature=1.0, seed=7),
        Sampling(max_tokens=7, repetition_penalty=1.3),
        Sampling(max_tokens=5),
    ]
    prompts = requests(tiny)
    wanted = [alone(model, batch, each) for batch, each in zip(prompts, samplings, strict=True)]
    runtime = Runtime(fixed, fixed, rolling=False, prefixes=PrefixCache(2**26), features=FeatureCache(2**26))
    probe = Scheduler(model, Limits(budget=2**40))
    for budget in (None, 3 * 300 * max(probe.room.per_token, 1)):
        fixed.release()
        scheduler = Scheduler(model, Limits(rows=4, chunk=7, views=2, budget=budget, spare=1), runtime)
        jobs = [job(model, batch, each) for batch, each in zip(prompts, samplings, strict=True)]
        for each in jobs:
            scheduler.submit(each)
            for _ in range(random_.randrange(3)):
                scheduler.step()
        while scheduler.step():
            assert budget is None or scheduler.nbytes <= budget
        assert [finished(each) for each in jobs] == wanted
        assert any(size.graph is not None for size in fixed._sizes.values())


@pytest.mark.parametrize("name", COVERED)
def test_nothing_in_a_step_asks_the_processor(name: str) -> None:
    """On a GPU that is pretended: a step moves the ids and lengths there, and that is all."""
    model = build(card(name).tiny())
    theirs = read(model)
    wanted = [steps.advance(model, [7, 8, 9 + number], theirs) for number in range(3)]
    with torch.inference_mode(), Pretended() as gpu:
        moved(model)
        assert why_not(model) is None
        fixed, mine = FixedSteps(model, recorded=False), read(model)
        for number, want in enumerate(wanted):
            fixed.settle(mine)
            gpu.moves.clear()
            gpu.waits.clear()
            scores = fixed.step([7, 8, 9 + number], mine)
            assert sum(gpu.moves.values()) <= 2 and not gpu.waits
            assert close(scores.cpu(), want.float())


def test_what_a_graph_cannot_hold_is_seen() -> None:
    """Values that are asked for and moves between devices, in all their forms."""
    held, keep = torch.arange(4.0), torch.tensor([True, False, True, False])
    asks = (
        lambda: held.sum().item(),
        lambda: bool(keep.any()),
        lambda: int(held[0]),
        lambda: held.tolist(),
        lambda: held.numpy(),
        lambda: held[keep],
        lambda: keep.nonzero(),
        lambda: torch.bincount(held.long()),
        lambda: held.masked_select(keep),
    )
    with torch.no_grad():
        for each in asks:
            with pytest.raises(BeholderError, match="asks for values in the middle of a step"), Watch():
                each()
        with Watch():
            assert (held[torch.tensor([1, 2])] * 2).masked_fill(keep[:2], 0.0).shape == (2,)
    with (
        torch.inference_mode(),
        Pretended(),
        pytest.raises(BeholderError, match="moves a tensor from cpu"),
        Watch(),
    ):
        held.to("cuda")


def test_no_memory_for_a_step_is_one_requests_error(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has 13 tokens finds none, together with others and then alone; they go on as if nothing had happened."""
    step = FixedSteps.step

    def full(self: FixedSteps, ids, state, tail=None) -> Tensor:
        if 13 in state.lengths:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(self, ids, state, tail)

    short, long = [text(*range(6, 6 + n)) for n in (2, 4, 6)], text(*range(30, 40))
    wanted = [alone(model, batch, Sampling(max_tokens=5)) for batch in short]
    monkeypatch.setattr(FixedSteps, "step", full)
    fixed = FixedSteps.of(model)
    scheduler = Scheduler(model, runtime=Runtime(fixed, fixed, rolling=False))
    jobs = [scheduler.submit(job(model, batch, Sampling(max_tokens=5))) for batch in short]
    poor = scheduler.submit(job(model, long, Sampling(max_tokens=9)))
    while scheduler.step():
        pass
    assert [finished(each) for each in jobs] == wanted
    with pytest.raises(BeholderError, match="no memory left for a request of 1. tokens and 0 pictures"):
        while poor.take():
            pass
    fixed.release()
    assert scheduler.idle and scheduler.nbytes == 0


def test_a_step_that_comes_again_is_recorded(model: Model, tape: None) -> None:
    """Each size once, after it was computed twice, and played back from then on."""
    fixed, mine, theirs = FixedSteps(model, recorded=True), read(model), read(model)
    for number in range(6):
        assert fixed.settle(mine)
        ids = [7, 8, 9 + number]
        assert close(fixed.step(ids, mine), steps.advance(model, ids, theirs).float())
    (size,) = fixed._sizes.values()
    assert size.times == 2 and size.graph.times == 4 and fixed.failure is None
    fixed.settle(mine.snapshot())
    assert len(fixed._sizes) == 1


def test_where_nothing_can_be_recorded_steps_are_computed(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Size, _: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be")

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(Size, "record", fail)
    fixed, mine, theirs = FixedSteps(model, recorded=True), read(model), read(model)
    with pytest.warns(UserWarning, match="not recorded as CUDA graphs: operation not permitted") as told:
        for _ in range(5):
            assert fixed.settle(mine)
            assert close(fixed.step([7, 8, 9], mine), steps.advance(model, [7, 8, 9], theirs).float())
    assert len(told) == 1 and fixed.failure == "operation not permitted when stream is capturing"

    def full(self: Size, _: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Size, "record", full)
    fixed = FixedSteps(model, recorded=True)
    fixed.settle(mine)
    with pytest.raises(torch.OutOfMemoryError):
        for _ in range(3):
            fixed.step([7, 8, 9], mine)


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@gpu
@pytest.mark.accelerator
@pytest.mark.parametrize("name", ["toy", *COVERED])
def test_what_is_played_back_is_what_is_computed(name: str) -> None:
    """On a GPU: rows join and leave, states grow; every step recorded or not gives the ordinary scores."""
    system = TEXT if name == "toy" else card(name).tiny()
    model = spread(build(system, seed=1)).to("cuda")
    recorded, computed = FixedSteps.of(model), FixedSteps(model, recorded=False)
    one, two, theirs = read(model), read(model), read(model)
    random_ = random.Random(5)
    with torch.inference_mode():
        for number in range(60):
            if number == 20:
                for state in (one, two, theirs):
                    state.join(read(model, (5, 7)))
            if number == 40:
                for state in (one, two, theirs):
                    state.keep([0, 4, 2])
            ids = [random_.randrange(6, 200) for _ in range(one.rows)]
            assert recorded.settle(one) and computed.settle(two)
            want = steps.advance(model, ids, theirs).float()
            assert torch.allclose(recorded.step(ids, one), want, atol=1e-4 * float(want.abs().max()))
            assert torch.allclose(computed.step(ids, two), want, atol=1e-4 * float(want.abs().max()))
    assert recorded.failure is None and any(size.graph is not None for size in recorded._sizes.values())


@gpu
@pytest.mark.accelerator
def test_a_played_back_step_waits_for_nothing() -> None:
    model = build(TEXT, seed=1).to("cuda", torch.bfloat16)
    fixed, state = FixedSteps.of(model), read(model)
    assert fixed.settle(state)
    for _ in range(4):
        fixed.step([7, 8, 9], state)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        fixed.best([7, 8, 9], state, 20)
    finally:
        torch.cuda.set_sync_debug_mode(before)
