"""The one training loop. A run's folder holds metrics, the last checkpoint, and at the end the trained tensors."""

from __future__ import annotations

import math
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor

from beholder.cards.schema import Stage
from beholder.data.samples import Dataset, Sample
from beholder.errors import BeholderError
from beholder.model import Model
from beholder.train.checkpoints import Progress, load_checkpoint, save_checkpoint
from beholder.train.collate import TrainBatch
from beholder.train.objectives import Objective, next_token
from beholder.train.reports import Reporter
from beholder.train.stages import Plan, prepare_stage, store_frozen

Collate = Callable[[Sequence[Sample]], TrainBatch]


@dataclass(frozen=True)
class Settings:
    """How a stage runs, apart from what it learns.

    folder:     of this stage's run; a checkpoint found there is continued
    seconds:    the schedule also ends after so much training time, None for steps alone. The learning rate then follows
                the clock, so a resumed run is exact only without it
    precision:  dtype of products; frozen language weights are kept in it
    checkpoint: seconds between checkpoints
    ahead:      batches prepared ahead of use
    workers:    threads that work on a step's batches, each on one core; None is one per core. Gradients are added in
                the batches' order, so their number changes no result
    closed:     only take up what the checkpoint holds, as a later stage has begun
    """

    folder: Path
    seconds: float | None = None
    precision: torch.dtype = torch.bfloat16
    checkpoint: float = 300.0
    ahead: int = 24
    workers: int | None = None
    closed: bool = False


@dataclass(frozen=True)
class Result:
    """finished: False where a signal stopped the run; run it again to go on. taken: steps of this call."""

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
    """Train `model` in place through one stage. SIGTERM and SIGINT end it after the step at hand, with a checkpoint.

    Step s takes samples s * batch * accumulate and so on, so a run that was stopped goes on with the next ones.
    """
    with sole_run(settings.folder):
        return _train(model, stage, dataset, collate, settings, objective, on_checkpoint)


def _train(
    model: Model,
    stage: Stage,
    dataset: Dataset,
    collate: Collate,
    settings: Settings,
    objective: Objective,
    on_checkpoint: Callable[[Model, Progress], None] | None,
) -> Result:
    plan = prepare_stage(model, stage)
    if settings.precision != torch.float32:
        store_frozen(model, settings.precision)
    optimizer = torch.optim.AdamW(plan.optimizer_groups(), betas=(0.9, 0.98), fused=True)
    progress = load_checkpoint(settings.folder, plan, optimizer) or Progress()
    reporter = Reporter(settings.folder, stage, progress)
    reporter.start(plan, progress)
    first = progress.step
    model.train()
    saved = time.monotonic()
    with (
        stop_requested() as stopping,
        one_core_each(settings.workers) as pool,
        closing_feed(dataset, collate, stage, progress.step, settings.ahead) as batches,
    ):
        while not settings.closed and not stopping.is_set():
            if (share := done(progress, stage, settings.seconds)) >= 1:
                break
            began = time.monotonic()
            factor = learning_rate_factor(progress.step, share, stage.warmup)
            for group, rule in zip(optimizer.param_groups, plan.groups, strict=True):
                group["lr"] = rule.rule.lr * factor
            items = [next(batches) for _ in range(stage.accumulate)]
            loss, norm = _step(model, items, plan, optimizer, objective, settings.precision, pool)
            progress = progress.after(time.monotonic() - began, stage.batch * stage.accumulate)
            reporter.step(
                progress, loss=loss, norm=norm, factor=factor, share=done(progress, stage, settings.seconds)
            )
            if time.monotonic() - saved > settings.checkpoint:
                save_checkpoint(settings.folder, plan, optimizer, progress)
                saved = time.monotonic()
                if on_checkpoint is not None:
                    on_checkpoint(model, progress)
    if not settings.closed:
        save_checkpoint(settings.folder, plan, optimizer, progress)
    model.eval()
    reporter.end(progress)
    return Result(
        plan,
        progress,
        finished=settings.closed or done(progress, stage, settings.seconds) >= 1,
        taken=progress.step - first,
    )


def done(progress: Progress, stage: Stage, seconds: float | None) -> float:
    """The share of the schedule that is behind: of the steps, or of the time where that is further on."""
    share = progress.step / stage.steps
    return share if seconds is None else max(share, progress.seconds / seconds)


def learning_rate_factor(step: int, share: float, warmup: int) -> float:
    """Linear rise over `warmup` steps, times a cosine that falls from 1 to 0 over the schedule."""
    return min(1.0, (step + 1) / max(1, warmup)) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def _step(
    model: Model,
    items: Sequence[TrainBatch],
    plan: Plan,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    precision: torch.dtype,
    pool: ThreadPoolExecutor,
) -> tuple[float, float]:
    """One optimizer step on the batches; its mean loss and gradient norm before clipping.

    Batches go to whichever thread is free, each on one core: as quick as one large batch on all cores, in less memory.
    """
    parameters = list(plan.trained.values())

    def work(item: TrainBatch) -> tuple[float, tuple[Tensor | None, ...]]:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = objective(model, item) / len(items)
        return loss.item(), torch.autograd.grad(loss, parameters, allow_unused=True)

    total = 0.0
    for loss, gradients in pool.map(work, items):
        total += loss
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    norm = torch.nn.utils.clip_grad_norm_(parameters, plan.stage.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total, float(norm)


@contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Raises `BeholderError` where another process trains in this folder; two would overwrite each other's checkpoints."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BeholderError(
                f"another run is training in {folder}; wait for it or choose another folder"
            ) from None
        yield


@contextmanager
def one_core_each(workers: int | None) -> Iterator[ThreadPoolExecutor]:
    """Threads of which each computes on one core. So does the calling thread meanwhile: a product it shared among cores
    that are all busy would wait for them at every barrier.
    """
    count, threads = workers or max(1, len(os.sched_getaffinity(0))), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, "train", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


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


@contextmanager
def closing_feed(
    dataset: Dataset, collate: Collate, stage: Stage, first_step: int, ahead: int
) -> Iterator[Iterator[TrainBatch]]:
    """Batches from `first_step` on, made in a thread up to `ahead` before they are asked for. An error of the thread is
    raised where its batch is taken.
    """
    ready: queue.Queue[TrainBatch | BaseException] = queue.Queue(maxsize=ahead)
    closed = threading.Event()

    def put(item: TrainBatch | BaseException) -> None:
        while not closed.is_set():
            try:
                ready.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def work() -> None:
        number = first_step * stage.accumulate
        while not closed.is_set():
            try:
                indices = range(number * stage.batch, (number + 1) * stage.batch)
                put(collate([dataset[index % len(dataset)] for index in indices]))
            except BaseException as error:  # noqa: BLE001  (handed to the training thread)
                put(error)
                return
            number += 1

    def take() -> Iterator[TrainBatch]:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=work, daemon=True, name="batches")
    thread.start()
    try:
        yield take()
    finally:
        closed.set()
        thread.join()
