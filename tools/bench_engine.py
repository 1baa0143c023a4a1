"""Measures the engine on `mini`: a second turn about a picture, many requests at a time, and memory over many requests.

    python tools/bench_engine.py turn | crowd | pictures | prompts | soak | memory
        [--precision bf16] [--requests 16] [--new 128] [--rounds 5]

turn: seconds to the first token, of a first question about a new picture and of a second one about the same.
crowd: requests about words and about pictures seen before, all at once and one after another, taking turns; with --cpu in
    seconds that the process computes, which other programs disturb less (set OMP_NUM_THREADS=1).
pictures: requests about new pictures at once, to an engine that has answered others before, beside the least that encoder,
    prompts and steps take by themselves.
prompts: of such requests, one after the other and several side by side.
soak: memory of the process over many short requests.
memory: of the process while the model is loaded and in a crowd, over that of the same work with a tiny model, beside the
    bytes of the weights.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

import beholder
from beholder.bench.roofline import held_bytes
from beholder.engine import Engine, EngineSettings
from beholder.generate import steps
from beholder.generate.features import encode_requests
from beholder.generate.jobs import Job
from beholder.generate.reading import Reading, gathered, read_side_by_side
from beholder.generate.runtime import Runtime
from beholder.generate.scheduler import Limits
from beholder.model import Model
from beholder.parts.language.state import State
from beholder.pipeline import Pipeline
from beholder.prompts.messages import Message, Picture, user
from beholder.prompts.tokenizer import Tokenizer
from beholder.speed.compiled import pack_with_steps
from beholder.speed.packed import check_precision
from beholder.weights.pull import pull

T = TypeVar("T")
MIB = 2**20
TOPICS = ("a fox", "the sea", "an old clock", "two friends", "a train", "the moon", "bread", "a garden")


def told(name: str, values: Sequence[float], unit: str = "s") -> None:
    """One line: the median, the least and the most."""
    print(f"{name:44} {statistics.median(values):8.3f} {unit}  ({min(values):.3f} to {max(values):.3f})")


def picture(seed: int, side: int = 480) -> np.ndarray:
    """Another picture for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    return np.kron(small, np.ones((side // 12, side // 12, 1), np.uint8))


def words(number: int) -> list[Message]:
    return [user(f"Write a long story, number {number}, about {TOPICS[number % len(TOPICS)]}.")]


def about(number: int, seed: int) -> list[Message]:
    return [user(Picture(picture(seed)), f"What does picture {number} show? Tell all.")]


def turn(pipeline: Pipeline, options: argparse.Namespace) -> None:
    first, later = [], []
    with Engine(pipeline) as engine:
        for number in range(options.rounds + 1):
            asked = about(1, number)
            reply = engine.submit(asked, max_tokens=16).reply()
            again = [*asked, {"role": "assistant", "content": str(reply)}, user("Why do you think so?")]
            second = engine.submit(again, max_tokens=16).reply()
            if number:
                first.append(reply.timings.first)
                later.append(second.timings.first)
    told("first token, first turn", first)
    told("first token, second turn", later)
    ratio = statistics.median(b / a for a, b in zip(first, later, strict=True))
    print(f"second over first: {100 * ratio:.1f} %")


def crowd(pipeline: Pipeline, options: argparse.Namespace) -> None:
    clock = time.process_time if options.cpu else time.perf_counter
    for name, asked in (
        ("words", [words(i) for i in range(options.requests)]),
        ("pictures seen before", [about(i, i % 2) for i in range(options.requests)]),
    ):
        with Engine(pipeline, EngineSettings(Limits(rows=options.requests, budget=2**31))) as engine:
            engine.answer(asked, max_tokens=2)
            together, apart, same, tokens = [], [], [], 0
            for _ in range(options.rounds):
                start = clock()
                replies = engine.answer(asked, **long(options))
                together.append(clock() - start)
                start = clock()
                alone = [engine.submit(one, **long(options)).reply() for one in asked]
                apart.append(clock() - start)
                same.append(sum(a.ids == b.ids for a, b in zip(replies, alone, strict=True)))
                tokens = sum(reply.usage.new for reply in replies)
        told(f"{name}: {len(asked)} requests at once", together)
        told(f"{name}: one after another", apart)
        ratio = statistics.median(b / a for a, b in zip(together, apart, strict=True))
        rate = tokens / statistics.median(together)
        print(
            f"{name}: {ratio:.2f} times the throughput, {rate:.0f} tokens/s, {min(same)} of {len(asked)} answers the same"
        )


def long(options: argparse.Namespace) -> dict[str, int]:
    """Answers of just so many tokens."""
    return {"max_tokens": options.new, "min_tokens": options.new}


def pictured(number: int, options: argparse.Namespace) -> list[list[Message]]:
    """Requests about pictures that no other number has."""
    return [about(i, 1000 * number + i) for i in range(options.requests)]


def pictures(pipeline: Pipeline, options: argparse.Namespace) -> None:
    at_once, least = [], []
    limits = Limits(rows=options.requests, views=8, chunk=1024, budget=2**31)
    for number in range(options.rounds):
        before, asked = (pictured(2 * number + i, options) for i in range(2))
        with Engine(pipeline, EngineSettings(limits)) as engine:
            engine.answer(before, **long(options))
            start = time.perf_counter()
            replies = engine.answer(asked, **long(options))
            at_once.append(time.perf_counter() - start)
        # The engine has ended: its threads want the processors that the parts are to have.
        bound(pipeline, asked, [2] * len(asked))
        parts = bound(pipeline, asked, [reply.usage.new for reply in replies])
        least.append(parts)
    told(f"{options.requests} requests about new pictures", at_once)
    for name in least[0]:
        told(name, [parts[name] for parts in least])
    sums = [sum(parts.values()) for parts in least]
    told("encoder, prompts and steps by themselves", sums)
    ratio = statistics.median(a / b for a, b in zip(at_once, sums, strict=True))
    print(f"over the bound: {100 * (ratio - 1):.1f} %")


@torch.inference_mode()
def bound(pipeline: Pipeline, asked: Sequence[list[Message]], counts: Sequence[int]) -> dict[str, float]:
    """Seconds of the parts, each as quick as it can be by itself: views together, prompts one after the other or side by side,
    all rows at a step.
    """
    model = pipeline.model
    batches = [pipeline.prepare([messages]).batch for messages in asked]
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], T]) -> T:
        start = time.perf_counter()
        given = work()
        seconds[name] = time.perf_counter() - start
        return given

    features = timed("encoder", lambda: list(encode_requests(model, batches, 8))[-1])
    jobs = [Job(batch, [], features=own) for batch, own in zip(batches, features, strict=True)]  # type: ignore[call-overload]
    first, *others = timed("prompts", lambda: read(model, jobs, max(counts), Limits().together))
    timed("one by one", lambda: read(model, jobs, max(counts), 0))
    seconds["prompts"] = min(seconds["prompts"], seconds.pop("one by one"))
    for other in others:
        first.join(other)
    advance = pipeline.runtime.advance or steps.advance
    going = sorted(counts, reverse=True)

    def answer() -> None:
        state = first
        for step in range(1, going[0]):
            left = sum(count > step for count in going)
            if left < state.rows:
                state.keep(range(left))
            advance(model, [100] * left, state, None)

    timed("steps", answer)
    return seconds


def read(model: Model, jobs: Sequence[Job], new: int, most: int) -> list[State]:
    """All prompts, with room for `new` tokens of answer, `most` tokens of them side by side."""
    readings = []
    for job in jobs:
        assert job.batch.ids_BT is not None
        one = Reading(job, job.batch, State(1, capacity=job.batch.ids_BT.shape[1] + new))
        one.inputs = model.prepare(one.batch, job.features or {}, one.state)
        readings.append(one)
    states: list[State] = []
    while readings:
        together = gathered(readings, None, most)
        states.append(read_side_by_side(model, together)[0])
        readings = [one for one in readings if one not in together]
    return states


@torch.inference_mode()
def prompts(pipeline: Pipeline, options: argparse.Namespace) -> None:
    model = pipeline.model
    batches = [pipeline.prepare([messages]).batch for messages in pictured(0, options)]
    features = list(encode_requests(model, batches, 8))[-1]
    assert features is not None
    jobs = [Job(batch, [], features=own) for batch, own in zip(batches, features, strict=True)]
    longest = max(batch.ids_BT.shape[1] for batch in batches if batch.ids_BT is not None)
    counts = [count for count in (1, 2, 4, 8, 16) if count <= len(jobs)]
    taken: dict[int, list[float]] = {count: [] for count in counts}
    for number in range(options.rounds + 1):
        for count, times in taken.items():
            start = time.perf_counter()
            read(model, jobs, options.new, count * longest)
            if number:
                times.append(time.perf_counter() - start)
    for count, times in taken.items():
        told(f"{len(jobs)} prompts of {longest} tokens at most, {count} a pass", times)


def soak(pipeline: Pipeline, options: argparse.Namespace) -> None:
    """Memory after every tenth of the requests."""
    with Engine(pipeline, EngineSettings(Limits(budget=64 * MIB), 32 * MIB, 32 * MIB)) as engine:
        held = []
        for tenth in range(10):
            count = options.requests // 10
            waiting = []
            for number in range(tenth * count, (tenth + 1) * count):
                asked = about(number, number % 50) if number % 20 == 0 else words(number)
                waiting.append(engine.submit(asked, max_tokens=2 + number % 4))
                if len(waiting) >= 64:
                    waiting.pop(0).reply()
            for answer in waiting:
                answer.reply()
            held.append(resident())
            print(
                f"{(tenth + 1) * count:7} requests: {held[-1] / MIB:8.1f} MiB; {engine.counters()}",
                flush=True,
            )
    print(f"grown by {(held[-1] - held[1]) / MIB:.1f} MiB from the second tenth to the last")


def memory(options: argparse.Namespace) -> None:
    crowded(tiny(options), options)
    without = resident()
    pipeline = beholder.load(options.model, precision=options.precision)
    loaded, peak = resident(), most_resident()
    caches = crowded(pipeline, options)
    own = held_bytes(pipeline)
    print(
        f"{options.precision}: weights {own / MIB:.0f} MiB, caches {caches / MIB:.0f}, without {without / MIB:.0f}"
    )
    for name, value in (
        ("loaded", loaded - without),
        ("at most while loading", peak - without),
        ("at most in a crowd, without caches", most_resident() - without - caches),
    ):
        print(f"{name:36} {value / MIB:6.0f} MiB, {value / own:.2f} times the weights")


def crowded(pipeline: Pipeline, options: argparse.Namespace) -> int:
    """Requests about words and about pictures, all at once; gives the bytes that caches may take."""
    settings = EngineSettings(Limits(options.requests, budget=64 * MIB), 32 * MIB, 32 * MIB)
    with Engine(pipeline, settings) as engine:
        engine.answer([words(number) for number in range(options.requests)], **long(options))
        engine.answer([about(number, number) for number in range(options.requests)], **long(options))
    return 64 * MIB + 2 * 32 * MIB


def tiny(options: argparse.Namespace) -> Pipeline:
    """The system with small parts, all its words, and random weights."""
    small = beholder.card(options.model)
    small = small.tiny().but(**{"language.vocab_size": small.main.vocab_size})
    model = beholder.build(small, seed=0)
    _, compiled = pack_with_steps(model, check_precision(options.precision or "bf16"))
    runtime = Runtime() if isinstance(compiled, str) else Runtime(advance=compiled)
    return Pipeline(model, Tokenizer.from_folder(pull(options.model)), runtime=runtime)


def most_resident() -> int:
    """`resident` at its most, ever."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident() -> int:
    """Bytes of the process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def random_weights(options: argparse.Namespace) -> Pipeline:
    """A card without its weights."""
    model = beholder.build(beholder.card(options.model), seed=0)
    runtime = Runtime()
    if options.precision is not None:
        _, compiled = pack_with_steps(model, check_precision(options.precision))
        runtime = runtime if isinstance(compiled, str) else Runtime(advance=compiled)
    return Pipeline(model, beholder.load("mini").tokenizer, runtime=runtime)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["turn", "crowd", "pictures", "prompts", "soak", "memory"])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--random", action="store_true", help="random weights, and the words of `mini`")
    parser.add_argument("--precision", help="as published where not given")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="seconds of the processor, not of the clock")
    options = parser.parse_args()
    if options.what == "memory":
        memory(options)
        return
    pipeline = (
        random_weights(options)
        if options.random
        else beholder.load(options.model, precision=options.precision)
    )
    measures = {"turn": turn, "crowd": crowd, "pictures": pictures, "prompts": prompts, "soak": soak}
    measures[options.what](pipeline, options)


if __name__ == "__main__":
    main()
