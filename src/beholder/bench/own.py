"""beholder as one of those that are measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from beholder.bench.copies import Copies
from beholder.bench.load import Memory, OtherPrograms, forget_peak
from beholder.bench.roofline import held_bytes, model_type, products, token_bytes
from beholder.bench.rounds import Round, Sample, Workload
from beholder.bench.watch import Requests, WatchedPipeline, called, messages, question
from beholder.engine import Engine, EngineSettings
from beholder.errors import BeholderError
from beholder.generate.runtime import MIB
from beholder.generate.scheduler import Limits
from beholder.pipeline import Pipeline, load
from beholder.prompts.messages import parse
from beholder.seeing import part_of


class Contestant(Protocol):
    """What is measured: a library with a model."""

    facts: dict[str, Any]

    def round(self, workload: Workload) -> Round:
        """Answer the requests of a workload."""
        ...

    def work(self, workload: Workload) -> dict[str, Any]:
        """What is known of the work itself: `bytes_per_token`, `operations`; empty where nothing is."""
        ...

    def prompt(self, workload: Workload) -> dict[str, Any]:
        """What another library is asked: the `question` and, without pictures, the `ids` of the whole prompt."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


@dataclass(frozen=True)
class Opening:
    """How a model is opened. random: random weights of the card's full shape. budget: MiB of generation's states."""

    model: str
    precision: str | None = None
    device: str = "cpu"
    threads: int | None = None
    random: bool = False
    chat: str | None = None
    budget: int = 2048


class Own:
    """A pipeline under an engine that keeps nothing of earlier requests; systems that no engine shares are called as they
    are, one request after the other.
    """

    def __init__(self, pipeline: Pipeline, opening: Opening, start: int = 0) -> None:
        self.pipeline, self.opening = pipeline, opening
        self.start = start or Memory.read().now
        limits = Limits(budget=opening.budget * MIB)
        self._settings = EngineSettings(limits, prefix_bytes=0, picture_bytes=0)
        self._shared, self._copies = _shares(pipeline), Copies()
        self.facts = {
            "engine": "beholder",
            "version": _version(),
            "system": pipeline.card.name,
            "precision": opening.precision or str(model_type(pipeline.model)).removeprefix("torch."),
            "weights": "random" if opening.random else "given",
            "device": opening.device,
            "threads": torch.get_num_threads(),
            "memory": {"start": self.start, "loaded": Memory.read().now, "weights": held_bytes(pipeline)},
        }

    @classmethod
    def open(cls, opening: Opening) -> Own:
        """Load a model, or make one."""
        if opening.threads:
            torch.set_num_threads(opening.threads)
        start = Memory.read().now
        if opening.random:
            from beholder.bench.made import made

            pipeline = made(opening)
        else:
            pipeline = load(
                opening.model, device=opening.device, chat=opening.chat, precision=opening.precision
            )
        return cls(pipeline, opening, start)

    def round(self, workload: Workload) -> Round:
        if not self._shared and (workload.rate is not None or workload.concurrency > 1):
            raise BeholderError(
                f"{self.pipeline.card.name} answers one request at a time; leave --rate and --concurrency out"
            )
        _forget_peak(self.opening.device)
        others, start = OtherPrograms(), time.perf_counter()
        arrived = None
        if self._shared:
            watched = WatchedPipeline(self.pipeline)
            with Engine(watched, self._settings) as engine:
                requests = Requests(engine, watched, workload, self._copies)
                others, start = OtherPrograms(), time.perf_counter()
                if workload.rate is None:
                    samples = requests.closed()
                else:
                    samples, arrived = requests.open(workload.rate)
                seconds = time.perf_counter() - start
        else:
            work = self._call(workload)
            samples = [work() for _ in range(workload.requests)]
            seconds = time.perf_counter() - start
        return Round(seconds, tuple(samples), _peak(self.opening.device), others.share(), arrived)

    def work(self, workload: Workload) -> dict[str, Any]:
        if not self._shared:
            return {}
        read, count = token_bytes(self.pipeline), products(self.pipeline, workload)
        return {"bytes_per_token": read, "operations": count}

    def prompt(self, workload: Workload) -> dict[str, Any]:
        if not self._shared or self.pipeline.tokenizer is None:
            raise BeholderError(
                f"{self.pipeline.card.name} is compared with others where it answers in words alone"
            )
        text = question(self.pipeline.tokenizer, workload.text, 0)
        if workload.pictures:
            return {"question": text, "ids": []}
        batch = self.pipeline.prepare([parse(messages((), text))]).batch
        assert batch.ids_BT is not None
        return {"question": text, "ids": batch.ids_BT[0].tolist()}

    def close(self) -> None:
        """Remove the copies of pictures."""
        self._copies.close()

    def _call(self, workload: Workload) -> Callable[[], Sample]:
        """A request to a system that no engine shares."""
        pipeline, pictures = self.pipeline, list(workload.pictures)
        outputs = {head.output for head in pipeline.card.heads}
        if not pictures:
            raise BeholderError(
                f"{pipeline.card.name} needs a picture or sound; name one: beholder bench cat.jpg"
            )
        if "text" in outputs:
            text = "" if pipeline.tokenizer is None else question(pipeline.tokenizer, workload.text, 0)
            return lambda: _answered(pipeline, pictures, text, workload.new)
        if "boxes" in outputs:
            return lambda: called(lambda: pipeline.ask([part_of(pictures[0])], "a cat. a dog."))
        if outputs & {"labels"}:
            return lambda: called(lambda: pipeline.classify(pictures))
        return lambda: called(lambda: pipeline.embed(pictures))


def _shares(pipeline: Pipeline) -> bool:
    """Whether an engine can answer for the system: it writes words, in steps that requests can share."""
    from beholder.composing import asks
    from beholder.hearing import writes_down

    writes = "text" in {head.output for head in pipeline.card.heads}
    return writes and not writes_down(pipeline.card) and asks(pipeline.model) is None


def _answered(pipeline: Pipeline, pictures: Sequence[str], text: str, new: int) -> Sample:
    start = time.perf_counter()
    reply = pipeline.answer([messages(pictures, text)], max_tokens=new)[0]
    last, spent, usage = time.perf_counter() - start, reply.timings, reply.usage
    parts = {name: getattr(spent, name) for name in ("plan", "media", "wait", "vision", "prefill")}
    return Sample(spent.first, last, usage.prompt, usage.image, usage.new, parts)


def _forget_peak(device: str) -> None:
    forget_peak()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: str) -> int:
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return Memory.read().peak


def _version() -> str:
    from beholder import __version__

    return __version__
