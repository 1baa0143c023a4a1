"""One model for many callers at a time: requests come from any thread, share steps, and are answered as if they were alone."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from beholder.errors import BeholderError
from beholder.garbage import COLLECTOR
from beholder.generate.features import without_pixels
from beholder.generate.jobs import Job
from beholder.generate.results import Piece, Result
from beholder.generate.runtime import MIB
from beholder.generate.sampling import Sampling
from beholder.generate.scheduler import Limits, Scheduler
from beholder.native import openmp
from beholder.pipeline import Pipeline
from beholder.planning import check_answers
from beholder.preparing import Prepared
from beholder.prompts.messages import Message, parse
from beholder.reply import Reply
from beholder.segments import looks_again

Messages = Sequence[Message | Mapping[str, Any]]
SHARE = 0.8  # of a GPU's free memory, for states
PATIENCE, PAUSE = (
    0.05,
    0.005,
)  # seconds that an idle engine waits for requests that are being made ready, in all and for the next


@dataclass(frozen=True)
class EngineSettings:
    """limits: of the scheduler; None for the usual ones with the `budget` of where the model is. prefix_bytes, picture_bytes:
    most that is kept of what was read, and of features of pictures; 0 keeps none. unseen_bytes: of scaled pictures (and
    sounds) that wait for an encoder, beyond which no others are decoded. workers: threads that decode and scale. most: requests
    that may be there at a time.
    """

    limits: Limits | None = None
    prefix_bytes: int = 512 * MIB
    picture_bytes: int = 256 * MIB
    unseen_bytes: int = 512 * MIB
    workers: int = 2
    most: int = 4096

    def limits_on(self, device: torch.device) -> Limits:
        """Of the scheduler of a model there. A GPU takes more at a time before anybody waits."""
        if self.limits is not None:
            return self.limits
        most = budget(device, self.prefix_bytes + self.picture_bytes)
        return (
            Limits(budget=most)
            if device.type != "cuda"
            else Limits(256, chunk=4096, views=32, budget=most, together=4096)
        )


def budget(device: torch.device, kept: int = 0) -> int:
    """Bytes for generation's states: 2 GiB on a processor; on a GPU `SHARE` of what is free there, without the `kept` bytes of
    caches. The rest is for what is computed on the way. Raises `BeholderError` where nothing is left.
    """
    if device.type != "cuda":
        return 2048 * MIB
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + unused
    left = int(SHARE * free) - kept
    if left <= 0:
        raise BeholderError(
            f"{free / MIB:.0f} MiB are free on {device} and caches may take {kept / MIB:.0f}; keep less (prefix_bytes, "
            "picture_bytes), give a budget, or choose a smaller model"
        )
    return left


class Answer:
    """One request's answer, piece by piece as it becomes certain: `for text in answer`. `reply` waits for the whole."""

    def __init__(self, engine: Engine, sampling: Sampling, priority: int) -> None:
        self._engine, self.sampling, self.priority = engine, sampling, priority
        self.came = time.perf_counter()
        self._changed = threading.Condition()  # at each piece
        self._ended = threading.Event()
        self._pieces: deque[Piece] = deque()
        self._prepared: Prepared | None = None
        self._job: Job | None = None
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._cancelled = False

    def __iter__(self) -> Iterator[str]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces or self.done)
                if not self._pieces:
                    if self._error is not None:
                        raise self._error
                    return
                text = self._pieces.popleft().text
            if text:
                yield text

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self._result is not None or self._error is not None or self._cancelled

    def reply(self, timeout: float | None = None) -> Reply:
        """The whole answer. timeout: seconds. Raises what went wrong with the request, and `BeholderError` when it was
        cancelled or is not done in time.
        """
        if not self._ended.wait(timeout):
            raise BeholderError(f"no answer within {timeout:g} seconds; wait longer or cancel it")
        if self._error is not None:
            raise self._error
        if self._result is None or self._prepared is None:
            raise BeholderError("the request was cancelled")
        return self._engine.pipeline.reply(self._result, self._prepared)

    def cancel(self) -> None:
        """Stop; what the request holds is free within a step."""
        with self._changed:
            self._cancelled = True
            self._tell()
        self._engine.forget(self, self._job)

    def take(self, prepared: Prepared, job: Job) -> None:
        """The request is ready for the model."""
        if not looks_again(self._engine.pipeline.model):
            prepared = replace(prepared, batch=without_pixels(prepared.batch))
        self._prepared, self._job = prepared, job
        job.done = self._told

    def fail(self, error: BaseException) -> None:
        """There will be no answer."""
        with self._changed:
            self._error = error
            self._tell()

    def _told(self, job: Job) -> None:
        with self._changed:
            while job.pieces:
                piece = job.pieces.popleft()
                self._pieces.append(piece)
                self._result = piece.result or self._result
            self._error = job.error or self._error
            self._tell()
        if self.done:
            self._engine.forget(self, None)

    def _tell(self) -> None:
        """Wake those who wait for what has changed."""
        self._changed.notify_all()
        if self.done:
            self._ended.set()


class Engine:
    """Answers requests to a pipeline from any number of threads: `submit` gives an `Answer` at once.

    Pictures are decoded and scaled by `workers`, the model runs in a thread of its own. `with Engine(pipeline) as engine`
    ends it; what has not been answered then is cancelled.
    """

    def __init__(self, pipeline: Pipeline, settings: EngineSettings = EngineSettings()) -> None:
        check_answers(pipeline.card)
        self.pipeline, self.settings = pipeline, settings
        self.scheduler = Scheduler(
            pipeline.model,
            settings.limits_on(pipeline.model.device),
            pipeline.runtime.remembering(settings.prefix_bytes, settings.picture_bytes),
        )
        self._workers = ThreadPoolExecutor(
            settings.workers,
            thread_name_prefix="beholder-media",
            initializer=openmp.alone,
        )
        openmp.give_back()  # what this thread computed with, for the engine's own
        self._work = threading.Condition()
        self._closed = False
        self._preparing = self._ready = 0  # requests: that workers have yet to make ready; made ready so far
        self._held = 0  # workers that wait for encoders
        self._count = 0
        self._asked: list[
            tuple[int, int, Answer, Sequence[Message]]
        ] = []  # a heap: the most urgent first, then the oldest
        self._open: dict[Answer, None] = {}  # in the order they came
        self._thread = threading.Thread(target=self._run, name="beholder-engine", daemon=True)
        COLLECTOR.leave_out()
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, messages: Messages, *, priority: int = 0, **options: Any) -> Answer:
        """Begin to answer a conversation; options are the fields of `Sampling`. priority: higher ones go first. Raises
        `BeholderError` for messages and options that are wrong in themselves, for a full engine and a closed one; what is wrong
        with pictures or the prompt's length, the answer tells.
        """
        sampling, parsed = Sampling.of(options), parse(messages)
        answer = Answer(self, sampling, priority)
        with self._work:
            if self._closed:
                raise BeholderError("the engine is closed; open another one")
            if len(self._open) >= self.settings.most:
                raise BeholderError(f"{len(self._open)} requests wait already; try again later")
            self._preparing, self._count = self._preparing + 1, self._count + 1
            heapq.heappush(self._asked, (-priority, self._count, answer, parsed))
            self._open[answer] = None
            self._workers.submit(self._prepare_next)
        return answer

    def answer(self, conversations: Sequence[Messages], **options: Any) -> list[Reply]:
        """The next answer of each conversation, in order."""
        return [answer.reply() for answer in [self.submit(messages, **options) for messages in conversations]]

    def forget(self, answer: Answer, job: Job | None) -> None:
        """An answer is done or not wanted any more. job: what is then to be stopped."""
        if job is not None:
            self.scheduler.cancel(job)
        with self._work:
            self._open.pop(answer, None)
            self._work.notify_all()

    def close(self) -> None:
        """Cancel what goes on and end the threads. Nothing happens the second time."""
        with self._work:
            self._closed = True
            left = list(self._open)
            self._work.notify_all()
        for answer in left:
            answer.cancel()
        self._workers.shutdown(cancel_futures=True)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def counters(self) -> dict[str, int]:
        """What the engine holds and has saved: answers that go on, requests in all, bytes, and hits of its caches."""
        scheduler = self.scheduler
        idle = scheduler.idle_bytes  # slots on a GPU that the next answers take
        told = {"running": scheduler.running, "open": len(self._open)}
        told |= {"state_bytes": scheduler.nbytes - idle, "idle_bytes": idle}
        told |= {"preempted": scheduler.preempted, "guessed": scheduler.guessed, "right": scheduler.right}
        for name, cache in (("prefix", scheduler.prefixes), ("picture", scheduler.features)):
            if cache is not None:
                told |= {
                    f"{name}_bytes": cache.nbytes,
                    f"{name}_hits": cache.hits,
                    f"{name}_misses": cache.misses,
                }
        if scheduler.prefixes is not None:
            told["prefix_tokens_reused"] = scheduler.prefixes.reused
        return told

    def _prepare_next(self) -> None:
        """Make the most urgent request ready once few enough pixels wait for encoders. What goes wrong is its alone."""
        with self._work:
            self._held += 1
            self._work.wait_for(
                lambda: self._closed or self.scheduler.unseen_bytes <= self.settings.unseen_bytes
            )
            self._held -= 1
            _, _, answer, messages = heapq.heappop(self._asked)
        try:
            if not (answer.done or self._closed):
                self._prepare(answer, messages)
        except BaseException as error:  # noqa: BLE001
            answer.fail(error)
            self.forget(answer, None)
        finally:
            with self._work:
                self._preparing, self._ready = self._preparing - 1, self._ready + 1
                self._work.notify_all()

    def _prepare(self, answer: Answer, messages: Sequence[Message]) -> None:
        prepared = self.pipeline.prepare([messages])
        job = self.pipeline.job(prepared, answer.sampling, answer.priority)
        waited = time.perf_counter() - answer.came - prepared.seconds_plan - prepared.seconds_media
        for row in job.rows:
            row.spend(wait=max(waited, 0.0))
        answer.take(prepared, job)
        if not answer.done:
            self.scheduler.submit(job)

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self.scheduler.step()
        finally:
            with self._work:
                wanted, self._closed, left = self._closed, True, list(self._open)
                self._work.notify_all()
            for answer in left:
                if wanted:
                    answer.cancel()
                else:
                    answer.fail(BeholderError("the engine stopped before the answer was done"))
            COLLECTOR.take_in()

    def _wait_for_work(self) -> bool:
        with self._work:
            if self._held:
                self._work.notify_all()
            if self.scheduler.idle:
                self._work.wait_for(lambda: self._closed or not self.scheduler.idle)
                self._wait_for_more()
            return not self._closed

    def _wait_for_more(self) -> None:
        """What comes at the same time begins together: one picture in an encoder takes as long as two, and those that are being
        decoded would take its processors away.
        """
        end = time.monotonic() + PATIENCE
        while self._preparing and not self._closed and time.monotonic() < end:
            ready = self._ready
            self._work.wait_for(lambda: self._closed or self._ready > ready, PAUSE)  # noqa: B023
            if self._ready == ready:
                break
