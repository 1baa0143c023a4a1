"""The one training loop. A run's folder holds metrics, the last checkpoints, and at the end the trained tensors."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from beholder.cards.schema import Stage
from beholder.data.order import Order as Numbers
from beholder.data.samples import Dataset
from beholder.errors import BeholderError
from beholder.model import Model
from beholder.sending import send_all
from beholder.train.averages import Average
from beholder.train.checkpoints import (
    Carried,
    Progress,
    Stateful,
    load_checkpoint,
    save_checkpoint,
)
from beholder.train.feed import Collate, Feed, Order, closing_feed
from beholder.train.gradients import Gradients, draws, gradients_of
from beholder.train.guards import Guard
from beholder.train.objectives import Objective, next_token
from beholder.train.processes import ALONE, World
from beholder.train.recompute import recomputed
from beholder.train.reports import Look, Reading, Reporter
from beholder.train.schedules import learning_rate_factor
from beholder.train.sharding import Sharded, whole
from beholder.train.stages import Plan, prepare_stage, store_frozen

LARGE_PRIME = 2_147_483_629  # random draws of step s are seeded by (seed * this + s)


@dataclass(frozen=True)
class Watch:
    """What is looked at between steps, and never trained on.

    dataset:  whose loss is measured, its first `count` samples; the checkpoint with the lowest is kept as `best`
    every:    steps between looks
    answer:   what the model says about some of them, for people to read; None asks nothing
    """

    dataset: Dataset
    every: int = 200
    count: int = 64
    answer: Callable[[Model], Look] | None = None


@dataclass(frozen=True)
class Settings:
    """How a stage runs, apart from what it learns.

    folder:     of this stage's run; a checkpoint found there is continued
    seconds:    the schedule also ends after so much training time, None for steps alone. The learning rate then follows
                the clock, so a resumed run is exact only without it
    precision:  dtype of products; frozen language weights are kept in it
    checkpoint: seconds between checkpoints
    ahead:      batches prepared ahead of use
    workers:    threads that work on a step's batches, each on one core; None is one per core. 1: one batch at a time on all
    closed:     only take up what the checkpoint holds, as a later stage has begun
    recompute:  layers compute again in the backward pass instead of keeping what they computed
    divergence: stop where the mean loss is so many times the lowest before; 0 never
    order:      which samples each batch has; by number where None
    watch:      held-out samples to look at; None looks at none
    board:      also write curves and looks for TensorBoard
    world:      the processes that train together
    """

    folder: Path
    seconds: float | None = None
    precision: torch.dtype = torch.bfloat16
    checkpoint: float = 300.0
    ahead: int = 24
    workers: int | None = None
    closed: bool = False
    recompute: bool = False
    divergence: float = 0.0
    order: Order | None = None
    watch: Watch | None = None
    board: bool = False
    world: World = ALONE


@dataclass(frozen=True)
class Result:
    """model: the one that was given, or a copy where its weights were dealt out. finished: False where a signal stopped the
    run; run it again to go on. taken: steps of this call.
    """

    model: Model
    plan: Plan
    progress: Progress
    finished: bool
    taken: int


def train_stage(
    model: Model,
    stage: Stage,
    dataset: Dataset,
    collate: Collate,
    settings: Settings,
    *,
    objective: Objective = next_token,
    on_checkpoint: Callable[[Model, Progress], None] | None = None,
) -> Result:
    """Train `model` in place through one stage. SIGTERM and SIGINT end it after the step at hand, with a checkpoint, after
    each of which every process calls `on_checkpoint`.

    A batch's samples follow from its number, so a run that was stopped goes on with the next ones. Raises `BeholderError` for
    an empty data set, a rule that decides nothing, losses that are no numbers or diverge, and data that cannot be made batches
    of; the last checkpoint stays.
    """
    if not len(dataset):
        raise BeholderError(f"stage {stage.name}: the data set is empty; give one with samples")
    settings.world.check_share(stage.name, stage.accumulate)
    with sole_run(settings.folder, settings.world):
        return _Loop(model, stage, dataset, collate, settings, objective, on_checkpoint).run()


class _Loop:
    """One call of `train_stage`."""

    def __init__(
        self,
        model: Model,
        stage: Stage,
        dataset: Dataset,
        collate: Collate,
        settings: Settings,
        objective: Objective,
        on_checkpoint: Callable[[Model, Progress], None] | None,
    ) -> None:
        self.model, self.stage, self.settings, self.world = model, stage, settings, settings.world
        self.dataset, self.collate, self.objective = dataset, collate, objective
        self.on_checkpoint = on_checkpoint
        with torch.random.fork_rng():  # new adapters start the same in every run
            torch.manual_seed(stage.seed)
            self.plan = prepare_stage(model, stage)
        if settings.precision != torch.float32:
            store_frozen(model, settings.precision)
        self.sharded = Sharded(model, objective) if self.world.shards else None
        if self.sharded is not None:
            self.plan = self.sharded.plan(self.plan)
        self.parameters = list(self.plan.trained.values())
        _call(objective, "prepare", model)
        self.optimizer = torch.optim.AdamW(
            self.plan.optimizer_groups(), betas=stage.betas, eps=stage.eps, fused=True
        )
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.average = Average(self.plan.trained, stage.ema) if stage.ema else None
        others: dict[str, Stateful] = {} if self.average is None else {"average": self.average}
        carried: object = objective
        if isinstance(carried, Stateful):
            if self.sharded is not None:
                raise BeholderError(
                    f"stage {stage.name}: {stage.objective} has a state of its own, which is not dealt out; train without shard"
                )
            others["objective"] = carried
        self.carried = Carried(self.plan, self.optimizer, len(dataset), others)
        self.progress = load_checkpoint(settings.folder, self.carried) or Progress()
        self.guard = Guard(settings.divergence)

    def run(self) -> Result:
        """Take the steps that are left."""
        first = self.progress.step
        with Reporter(
            self.settings.folder,
            self.stage,
            self.progress,
            board=self.settings.board,
            quiet=not self.world.leads,
        ) as self.reporter:
            self.reporter.start(self.plan, self.progress)
            if not self.settings.closed:
                self._steps()
            self.reporter.end(self.progress)
        if self.average is not None:
            self.average.put()
        model = (self.model if self.sharded is None else self.sharded.whole()).eval()
        finished = self.settings.closed or self._done() >= 1
        return Result(model, self.plan, self.progress, finished, self.progress.step - first)

    def _steps(self) -> None:
        stage, settings, world = self.stage, self.settings, self.world
        order = settings.order or Numbers(self.dataset, None, stage.batch)
        first = self.progress.step * stage.accumulate
        self.model.train()
        with ExitStack() as stack:
            stopping = stack.enter_context(stop_requested())
            stack.enter_context(recomputed(self.model, settings.recompute))
            gradients = stack.enter_context(
                gradients_of(
                    self.model,
                    self.parameters,
                    self.objective,
                    settings.precision,
                    settings.workers if world.size == 1 and stage.accumulate > 1 else 1,
                    self.sharded,
                )
            )
            feed = stack.enter_context(
                closing_feed(
                    self.dataset,
                    self.collate,
                    order,
                    first,
                    settings.ahead,
                    every=world.size,
                    offset=world.rank,
                )
            )
            self.saved = time.monotonic()
            while self._done() < 1 and not any(world.total(stopping.is_set())):
                self._step(feed, gradients)
                self._between()
            if self.progress.step > first // stage.accumulate:
                self._save()

    def _step(self, feed: Feed, gradients: Gradients) -> None:
        stage, world = self.stage, self.world
        began, waited = time.monotonic(), feed.waited
        factor = learning_rate_factor(stage, self.progress.step, self._done())
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        items = feed.take(stage.accumulate // world.size)
        waited = feed.waited - waited
        if draws(self.model):
            torch.manual_seed((stage.seed * LARGE_PRIME + self.progress.step) * world.size + world.rank)
        (loss,) = world.total(gradients(items, stage.accumulate))
        world.sum_gradients(self.parameters)
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self.parameters, stage.clip or float("inf"))))
        admitted = self.guard.admits(self.progress.step, loss, norm)
        if admitted:
            self.optimizer.step()
            if self.average is not None:
                self.average.update()
            _call(self.objective, "after_step", self.model)
        self.optimizer.zero_grad(set_to_none=True)
        seconds = time.monotonic() - began
        samples = stage.batch * stage.accumulate
        self.progress = self.progress.after(seconds, samples, waited=waited, skipped=not admitted)
        self.reporter.step(self.progress, Reading(loss, norm, factor, self._done()))

    def _between(self) -> None:
        """Look at held-out samples and save, where it is time."""
        watch = self.settings.watch
        best = False
        if watch is not None and self.progress.step % watch.every == 0:
            best = self._look(watch)
        due = time.monotonic() - self.saved > self.settings.checkpoint
        if best or any(self.world.total(due)):
            self._save(best)

    def _look(self, watch: Watch) -> bool:
        """Whether the held-out loss is the lowest so far."""
        self.model.eval()
        with ExitStack() as stack:
            if self.average is not None:
                stack.enter_context(self.average.shown())
            loss = self._held_out_loss(watch)
            asks = self.world.leads and self.sharded is None
            look = watch.answer(self.model) if asks and watch.answer is not None else None
        self.model.train()
        self.reporter.look(self.progress, loss, look)
        better = self.progress.best is None or loss < self.progress.best
        if better:
            self.progress = replace(self.progress, best=loss)
        return better

    @torch.no_grad()
    def _held_out_loss(self, watch: Watch) -> float:
        count, size = min(watch.count, len(watch.dataset)), self.stage.batch
        starts = range(0, count, size)
        if self.sharded is None:
            starts = starts[self.world.rank :: self.world.size]
        total = weight = 0.0
        for start in starts:
            samples = [watch.dataset[index] for index in range(start, min(count, start + size))]
            with torch.autocast(
                self.model.device.type,
                self.settings.precision,
                enabled=self.settings.precision != torch.float32,
            ):
                item = send_all(self.collate(samples), self.model.device)
                loss = self.objective(self.model, item) if self.sharded is None else self.sharded.step(item)
                total += float(loss) * len(samples)
            weight += len(samples)
        total, weight = self.world.total(total, weight)
        return total / weight

    def _save(self, best: bool = False) -> None:
        save_checkpoint(self.settings.folder, self.carried, self.progress, self.world, best=best)
        if self.on_checkpoint is not None:
            with ExitStack() as stack:
                if self.average is not None:
                    stack.enter_context(self.average.shown())
                self.on_checkpoint(self.model, self.progress)
        self.world.wait()
        self.saved = time.monotonic()

    def _done(self) -> float:
        return done(self.progress, self.stage, self.settings.seconds)


def done(progress: Progress, stage: Stage, seconds: float | None) -> float:
    """The share of the schedule that is behind: of the steps, or of the time where that is further on."""
    share = progress.step / stage.steps
    return share if seconds is None else max(share, progress.seconds / seconds)


def _call(objective: Any, name: str, model: Model) -> None:
    method = getattr(objective, name, None)
    if method is not None:
        method(model)


@contextmanager
def sole_run(folder: Path, world: World = ALONE) -> Iterator[None]:
    """Raises `BeholderError` where another run trains in this folder; two would overwrite each other's checkpoints."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"lock{world.rank or ''}").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BeholderError(
                f"another run is training in {folder}; wait for it or choose another folder"
            ) from None
        yield


@contextmanager
def stop_requested() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set while the block runs (in the main thread; elsewhere nothing sets it)."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        event.set()

    old = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
