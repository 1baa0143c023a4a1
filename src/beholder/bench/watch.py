"""Requests to an engine whose answers have a given length, and the moments at which their tokens came."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from beholder.bench.copies import Copies
from beholder.bench.rounds import Sample, Workload
from beholder.engine import Answer, Engine
from beholder.generate.jobs import Job
from beholder.generate.results import Piece
from beholder.generate.sampling import Sampling
from beholder.pipeline import Pipeline
from beholder.preparing import Prepared
from beholder.prompts.messages import Message, user
from beholder.prompts.tokenizer import Tokenizer
from beholder.seeing import part_of

SENTENCE = "a red bird sat on the old wall and looked at some boats far below near two houses while it rained"
WORDS = SENTENCE.split()


@dataclass(eq=False)
class WatchedJob(Job):
    """Knows when tokens came."""

    times: list[float] = field(default_factory=list)

    def give(self, pieces: Sequence[Piece]) -> None:
        self.times.append(time.perf_counter())
        super().give(pieces)


@dataclass(frozen=True, eq=False)
class Endless(Prepared):
    """Nothing ends the answers but their length."""

    @property
    def ends(self) -> list[int]:
        return []

    def samplings(self, sampling: Sampling) -> list[Sampling]:
        return [sampling] * len(self.plans)


class WatchedPipeline(Pipeline):
    """A pipeline whose jobs are watched; a request is known by the seed of its sampling, which greedy answers do not use."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(
            pipeline.model,
            pipeline.tokenizer,
            chat=pipeline.prompt_format,
            words=pipeline.words,
            runtime=pipeline.runtime,
        )
        self.jobs: dict[int, WatchedJob] = {}

    def job(self, prepared: Prepared, sampling: Sampling, priority: int = 0) -> Job:
        job = super().job(Endless(**vars(prepared)), sampling, priority)
        watched = WatchedJob(job.batch, job.rows, job.priority)
        assert sampling.seed is not None
        self.jobs[sampling.seed] = watched
        return watched


@dataclass(frozen=True)
class Asked:
    """A request under way. came: when it arrived."""

    number: int
    came: float
    answer: Answer


class Requests:
    """The requests of one workload to an engine over a `WatchedPipeline`, each with pictures of its own."""

    def __init__(self, engine: Engine, pipeline: WatchedPipeline, workload: Workload, copies: Copies) -> None:
        self.engine, self.pipeline, self.workload = engine, pipeline, workload
        assert pipeline.tokenizer is not None
        shown = workload.pictures
        self._pictures = [
            [copies.of(path, number * len(shown) + place) for place, path in enumerate(shown)]
            for number in range(workload.requests)
        ]
        self._texts = [question(pipeline.tokenizer, workload.text, each) for each in range(workload.requests)]

    def closed(self) -> list[Sample]:
        """So many requests at a time; the next one comes when an answer is done."""
        count = self.workload.requests
        numbers, turn = iter(range(count)), threading.Lock()
        samples: list[Sample] = []

        def ask_on() -> None:
            while True:
                with turn:
                    number = next(numbers, None)
                if number is None:
                    return
                samples.append(self._sample(self._ask(number, time.perf_counter())))

        workers = min(self.workload.concurrency, count)
        with ThreadPoolExecutor(workers, thread_name_prefix="beholder-bench") as pool:
            asking = [pool.submit(ask_on) for _ in range(workers)]
            try:
                for each in asking:
                    each.result()
            except BaseException:
                self.engine.close()  # ends what the other threads wait for
                raise
        return samples

    def open(self, rate: float, seed: int = 0) -> tuple[list[Sample], float]:
        """Requests that come by themselves, `rate` a second, at random as calls at an exchange do (Poisson); also the rate at
        which they did come. A request's time begins when it should have come.
        """
        gaps = random.Random(seed)
        start = came = time.perf_counter()
        asked: list[Asked] = []
        for number in range(self.workload.requests):
            time.sleep(max(came - time.perf_counter(), 0.0))
            asked.append(self._ask(number, came))
            came += gaps.expovariate(rate)
        took = time.perf_counter() - start
        arrived = (len(asked) - 1) / took if len(asked) > 1 and took > 0 else 0.0
        return [self._sample(each) for each in asked], arrived

    def _ask(self, number: int, came: float) -> Asked:
        said = messages(self._pictures[number], self._texts[number])
        return Asked(number, came, self.engine.submit(said, max_tokens=self.workload.new, seed=number))

    def _sample(self, asked: Asked) -> Sample:
        """Wait for an answer. What its parts leave of the time to its first token is `queue`: it waited for a thread, or other
        answers' steps came between.
        """
        reply = asked.answer.reply()
        times = self.pipeline.jobs.pop(asked.number).times
        first, spent = times[0] - asked.came, reply.timings
        parts = {name: getattr(spent, name) for name in ("plan", "media", "wait", "vision", "prefill")}
        parts["queue"] = first - sum(parts.values())
        usage = reply.usage
        return Sample(first, times[-1] - asked.came, usage.prompt, usage.image, usage.new, parts)


def question(tokenizer: Tokenizer, tokens: int, number: int) -> str:
    """Words of about so many tokens, other ones for each number."""
    chooser = random.Random(number)
    words: list[str] = []
    each = len(tokenizer.encode(SENTENCE)) / len(WORDS)
    while (missing := tokens - len(tokenizer.encode(" ".join(words)))) > 0:
        words += chooser.choices(WORDS, k=max(1, int(missing / each)))
    while len(tokenizer.encode(" ".join(words[:-1]))) >= tokens:
        words.pop()
    return " ".join(words)


def messages(pictures: Sequence[str], text: str) -> list[Message]:
    """A question about pictures, clips or sounds, as files."""
    return [user(*map(part_of, pictures), text)]


def called(work: Callable[[], object]) -> Sample:
    """What takes its time as a whole."""
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    return Sample(seconds, seconds)
