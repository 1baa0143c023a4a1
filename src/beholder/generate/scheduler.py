"""Many requests on one model: prompts are read in pieces between the steps of answers that go on, answers join and leave
between steps, and none depends on the others.

R rows, T positions, V words of the vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from threading import Lock

import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.generate import steps
from beholder.generate.features import Features, encode_requests, with_digests
from beholder.generate.jobs import Job, Pack, told, with_answers
from beholder.generate.prefixes import prompt_key
from beholder.generate.reading import Reading, gathered, in_pieces, read_side_by_side, room_of
from beholder.generate.results import Piece
from beholder.generate.room import Room
from beholder.generate.rows import choose, mark_seen
from beholder.generate.runtime import Runtime
from beholder.model import Batch, Model
from beholder.parts.language.rolling import RollingKeyValues
from beholder.parts.language.state import State
from beholder.planning import placeholders

FAILURES = (BeholderError, RuntimeError, ValueError, IndexError, MemoryError)  # of one request, not of all


@dataclass(frozen=True)
class Limits:
    """rows: answers that go on at a time. chunk: most tokens of prompts that are read between two steps of answers; together:
    of prompts that are read side by side. views: of pictures that go through an encoder between two steps. budget: bytes of
    generation's states, None for no bound. spare: tokens of answer that there must be room for when a request begins.
    """

    rows: int = 64
    chunk: int = 512
    views: int = 4
    budget: int | None = None
    spare: int = 64
    together: int = 320


class Scheduler:
    """Runs requests by steps; whoever calls `step` computes. `submit` and `cancel` may be called from other threads.

    runtime: how answers are computed.
    """

    def __init__(
        self,
        model: Model,
        limits: Limits = Limits(),
        runtime: Runtime = Runtime(),
    ) -> None:
        self.model, self.device, self.limits = model, model.device, limits
        self.prefixes, self.features = runtime.prefixes, runtime.features
        self.room = Room(model, limits.budget) if limits.budget is not None else None
        self._advance_by, self._memory, self._guesser = runtime.advance, runtime.memory, runtime.guesser
        self._rolling = runtime.rolling and not model.card.branches
        self._lock = Lock()
        self._count = 0
        self._waiting: list[Job] = []
        self._encoding: list[Job] = []
        self._encoder: Iterator[list[Features] | None] | None = None
        self._opened: list[Reading] = []
        self._packs: list[Pack] = []
        self.preempted = 0
        self.guessed = self.right = 0

    def submit(self, job: Job) -> Job:
        """Take in a request. Raises `BeholderError` where its prompt alone needs more room than there ever is."""
        if self.room is not None:
            self.room.check(job.tokens, len(job.rows))
        if self.features is not None or self.prefixes is not None:
            job.batch = with_digests(job.batch)
        with self._lock:
            self._count += 1
            job.number = self._count
            self._waiting.append(job)
        return job

    def cancel(self, job: Job) -> None:
        """Forget a request; all it holds is free after the next step at most."""
        job.cancelled = True

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._waiting or self._encoding or self._opened or self._packs)

    @property
    def running(self) -> int:
        """Answers that go on."""
        return sum(len(pack.rows) for pack in self._packs)

    @property
    def nbytes(self) -> int:
        """Bytes of all states, and of memory that waits for some."""
        states = [pack.state for pack in self._packs] + [reading.state for reading in self._opened]
        return self.idle_bytes + sum(state.nbytes for state in states)

    @property
    def unseen_bytes(self) -> int:
        """Bytes of pictures and sounds that wait for encoders."""
        with self._lock:
            return sum(job.unseen_bytes for job in self._waiting)

    @property
    def idle_bytes(self) -> int:
        """Bytes of memory that waits for states."""
        return 0 if self._memory is None else self._memory.idle_bytes

    @torch.inference_mode()
    def step(self) -> bool:
        """Some prompt tokens or views, then one token for every answer that goes on; False where nothing is left to do."""
        self._drop_cancelled()
        self._read_prompts()
        for pack in list(self._packs):
            self._advance(pack)
        return not self.idle

    def _drop_cancelled(self) -> None:
        with self._lock:
            self._waiting = [job for job in self._waiting if not job.cancelled]
        if all(job.cancelled for job in self._encoding):
            self._encoder, self._encoding = None, []
        self._opened = [reading for reading in self._opened if not reading.job.cancelled]
        for pack in self._packs:
            pack.drop([i for i, job in enumerate(pack.jobs) if job.cancelled])
        self._packs = [pack for pack in self._packs if pack.rows]

    # Prompts

    def _read_prompts(self) -> None:
        self._encode_on()
        left = self.limits.chunk
        while left > 0 and (self._opened or self._begin()):
            together = min(left, self.limits.together)
            while self._opened[0].takes_others and sum(one.left for one in self._opened) < together:
                if not self._begin():
                    break
            readings = gathered(self._opened, self.prefixes, together)
            if len(readings) > 1 and self.room is not None:
                rows = self.room.bytes(room_of(readings), len(readings))
                readings = readings if self._fits(rows, readings) else readings[:1]
            left -= self._read(readings, left)

    def _begin(self) -> bool:
        """Begin with the most urgent prompt whose pictures are encoded, if there is room for it."""
        while True:
            ready = [job for job in self._in_order() if not job.needs_encoding]
            if not ready or not self._make_room(ready[0]):
                return False
            job, begun = ready[0], time.perf_counter()
            self._remove(job)
            if not self._open(job):
                continue
            for row in job.going:
                row.spend(prefill=time.perf_counter() - begun)
                if not job.again:
                    row.spend(wait=max(begun - job.came - row.timings.vision, 0.0))
            return True

    def _in_order(self) -> list[Job]:
        """The requests that wait, the most urgent ones first, of those the oldest."""
        with self._lock:
            return sorted(self._waiting, key=lambda job: (-job.priority, job.number))

    def _open(self, job: Job) -> bool:
        """Line a prompt up to be read; False where that fails."""
        spare, keyed = self._spare(job), self.prefixes is not None
        try:
            reading = Reading.of(self.model, job, spare=spare, rolling=self._rolling, keyed=keyed)
        except FAILURES as error:
            job.fail(told(error, job))
            return False
        self._opened.append(reading)
        return True

    def _read(self, readings: Sequence[Reading], most: int) -> int:
        """Read several prompts, or about `most` tokens more of one; gives how many."""
        start, one, jobs = time.perf_counter(), readings[0], [reading.job for reading in readings]
        logits_RV: Tensor | None
        try:
            if len(readings) == 1:
                state = one.state
                count, logits_RV = one.read(self.model, most)
            else:
                count = sum(reading.left for reading in readings)
                state, logits_RV = read_side_by_side(self.model, readings)
        except FAILURES as error:
            self._opened = [reading for reading in self._opened if reading not in readings]
            if len(jobs) == 1:
                one.job.fail(told(error, one.job))
            for job in jobs if len(jobs) > 1 else ():  # who is to blame shows once each is read by itself
                job.apart = True
                self._open(job)
            return 0
        seconds = steps.seconds_since(start, self.device)
        for row in (row for job in jobs for row in job.going):
            row.spend(prefill=seconds)
        if logits_RV is not None:
            self._opened = [reading for reading in self._opened if reading not in readings]
            self._start(readings, state, logits_RV)
        return count

    def _start(self, readings: Sequence[Reading], state: State, logits_RV: Tensor) -> None:
        """The answers' first tokens; those that go on join others."""
        main = self.model.card.main
        assert main is not None
        if self.room is not None and not self.room.known:
            self.room.learn(state)
        pack = Pack(state, [], [], None, readings[0].job.alone)
        for number, reading in enumerate(readings):
            job, batch = reading.job, reading.batch
            tail = None if main.reads_apart else steps.Tail.of(batch)
            pack.tail = tail if pack.tail is None or tail is None else pack.tail.join(tail)
            pack.rows += job.rows
            pack.jobs += [job] * len(job.rows)
            if self.prefixes is not None and reading.key is not None and job.reused < len(reading.key):
                self.prefixes.add(reading.key, state, job.cuts, number)
            if not job.again:
                mark_seen(self.model, batch, job.rows)
        if not readings[0].job.again:
            self._choose(pack, logits_RV, 0.0)
        else:
            pack.drop([i for i, row in enumerate(pack.rows) if row.finish])
        if pack.rows and not any(self._join(other, pack) for other in self._packs):
            self._packs.append(pack)

    def _join(self, pack: Pack, new: Pack) -> bool:
        """Take new answers into a pack; with room for those that are still to come, or as many again, while there is plenty."""
        rows = len(pack.rows) + len(new.rows)
        coming = sum(len(reading.job.rows) for reading in self._opened) + len(self._waiting)
        spare = min(max(coming, len(pack.rows) - len(new.rows)), self.limits.rows - rows)
        if self.room is not None:
            if not self._fits(self.room.joined(pack.state, new.state) - pack.state.nbytes):
                return False
            more = self.room.joined(pack.state, new.state, spare) - pack.state.nbytes
            spare = spare if self.nbytes + more <= self.room.budget // 2 else 0
        return pack.join(new, self.limits.rows, spare=max(spare, 0))

    # Pictures

    def _encode_on(self) -> None:
        """Some views more of the requests that wait for them, the most urgent ones first."""
        if self._encoder is None:
            waiting = [job for job in self._in_order() if job.needs_encoding]
            if not waiting:
                return
            together = [job for job in waiting if not job.apart][: self.limits.views] or waiting[:1]
            self._encoding = waiting[:1] if waiting[0].apart else together
            batches = [job.batch for job in self._encoding]
            self._encoder = encode_requests(self.model, batches, self.limits.views, self.features)
        start = time.perf_counter()
        try:
            found = next(self._encoder)
        except FAILURES as error:
            self._encoder = None
            self._encode_apart(error)
            return
        seconds = steps.seconds_since(start, self.device)
        for job in self._encoding:
            for row in job.rows:
                row.spend(vision=seconds)
        if found is not None:
            for job, features in zip(self._encoding, found, strict=True):
                job.seen(features)
            self._encoder, self._encoding = None, []

    def _encode_apart(self, error: Exception) -> None:
        """One of several requests cannot be encoded: each goes through by itself, and those that fail alone fail."""
        jobs, self._encoding = self._encoding, []
        for job in jobs:
            if len(jobs) == 1:
                self._remove(job)
                job.fail(told(error, job))
            job.apart = True

    def _remove(self, job: Job) -> None:
        with self._lock:
            if job in self._waiting:
                self._waiting.remove(job)

    # Answers

    def _advance(self, pack: Pack) -> None:
        """One token more for every row of a pack."""
        if not self._make_step_room(pack) or self._advance_by_guesses(pack):
            return
        start, ids = time.perf_counter(), [row.ids[-1] for row in pack.rows]
        try:
            if self._memory is not None:
                left = None if self.room is None else self.room.budget - self.nbytes
                self._memory.settle(pack.state, left)
            advance = self._advance_by or steps.advance
            logits_RV = advance(self.model, ids, pack.state, pack.tail)
        except FAILURES as error:
            self._take_apart(pack, error)
            return
        pack.tail = None if pack.tail is None else pack.tail.later()
        self._choose(pack, logits_RV, steps.seconds_since(start, self.device))

    def _advance_by_guesses(self, pack: Pack) -> bool:
        """Several tokens for an answer that goes on alone, where what follows was guessed; False where nothing was read."""
        state, job, row = pack.state, pack.jobs[0], pack.rows[0]
        alone = len(pack.rows) == len(job.rows) == 1 and pack.tail is None
        if self._guesser is None or not alone or not in_pieces(self.model, job.batch):
            return False
        start, begun = time.perf_counter(), state.lengths[0]
        job.guess = job.guess or self._guesser()
        assert job.batch.ids_BT is not None
        most = min(row.room, row.sampling.max_tokens) - len(row.ids) - 1
        if self.room is not None:
            most = min(most, state.room[1] - begun - 1)
        guessed = self._words(job.guess([*job.batch.ids_BT[0].tolist(), *row.ids])[: max(most, 0)])
        if (
            not guessed
            or not state.cuttable
            or any(isinstance(x, RollingKeyValues) for x in state.layers.values())
        ):
            return False
        ids_1T = torch.tensor([[row.ids[-1], *guessed]], device=self.device)
        try:
            output = self.model.read(Batch(ids_1T), {}, state)
            logits_TV = self.model.language.logits(output.hidden_BTD[0])
        except FAILURES as error:
            self._take_apart(pack, error)
            return True
        seconds, right = steps.seconds_since(start, self.device), 0
        for logits_V, guess in zip(logits_TV, [*guessed, None], strict=True):
            self._choose(pack, logits_V[None], seconds)
            seconds = 0.0
            if row.finish or job.finished or row.ids[-1] != guess:
                break
            right += 1
        state.truncate([begun + 1 + right])
        self.guessed, self.right = self.guessed + len(guessed), self.right + right
        return True

    def _words(self, ids: Sequence[int]) -> list[int]:
        """The ids up to the first that no answer holds."""
        card = self.model.card
        assert card.main is not None
        places, count = {token_id for _, token_id in placeholders(card)}, card.main.vocab_size
        return list(takewhile(lambda token_id: 0 <= token_id < count and token_id not in places, ids))

    def _choose(self, pack: Pack, logits_RV: Tensor, seconds: float) -> None:
        """Give every row its next token; rows that end leave."""
        given = choose(pack.rows, logits_RV, seconds)
        new: dict[Job, list[Piece]] = {}
        for job, piece in zip(pack.jobs, given, strict=True):
            if isinstance(piece, Exception):
                job.fail(piece)
            else:
                new.setdefault(job, []).append(piece)
        for job, pieces in new.items():
            job.give(pieces)
        self._keep_read(pack)
        ended = zip(pack.rows, pack.jobs, strict=True)
        pack.drop([i for i, (row, job) in enumerate(ended) if row.finish or job.finished])
        if not pack.rows and pack in self._packs:
            self._packs.remove(pack)

    def _keep_read(self, pack: Pack) -> None:
        """What was read of prompts and answers that end here, for those that begin alike."""
        if self.prefixes is None:
            return
        for number, (row, job) in enumerate(zip(pack.rows, pack.jobs, strict=True)):
            if row.finish and len(job.rows) == 1 and len(row.ids) > 1 and not job.alone:
                batch = with_answers(job)
                key = prompt_key(self.model, batch) if in_pieces(self.model, batch) else None
                length = pack.state.lengths[number]
                if key is not None and (length == len(key) or (length > len(key) and pack.state.cuttable)):
                    cuts = job.cuts and [
                        *job.cuts,
                        *range(job.cuts[-1] + 1, len(key) + 1),
                    ]  # an answer may be cut anywhere
                    self.prefixes.add(key, pack.state, cuts, number)

    def _take_apart(self, pack: Pack, error: Exception) -> None:
        """A step failed: every row's state is made anew, and goes on by itself; what fails by itself is given up."""
        self._packs.remove(pack)
        if self._memory is not None:
            self._memory.release()
        for job in dict.fromkeys(pack.jobs):
            if pack.alone or len(job.rows) > 1:
                job.fail(told(error, job))
            else:
                job.alone = True
                self._wait_again(job)

    def _wait_again(self, job: Job) -> None:
        self.preempted, job.came = self.preempted + 1, time.perf_counter()
        with self._lock:
            self._waiting.append(job)

    # Room

    def _make_room(self, job: Job) -> bool:
        """Whether a request may begin now; less urgent ones make room for it."""
        begun = sum(len(reading.job.rows) for reading in self._opened)
        while self.running + begun + len(job.rows) > self.limits.rows and self.running + begun:
            if not self._preempt(below=job.priority):
                return False
        if self.room is None:
            return True
        need = self.room.bytes(job.tokens + self.limits.spare, len(job.rows))
        while not self._fits(need) and self.running + begun:
            if not self._preempt(below=job.priority):
                return False
        return True

    def _spare(self, job: Job) -> int:
        """Tokens of answer that memory is taken for at once: of most answers all, while there is plenty of it."""
        if self.room is None:
            return steps.ROOM
        whole = self._promised() + self.room.bytes(job.tokens + steps.ROOM, len(job.rows))
        return steps.ROOM if self.room.plenty(self.nbytes + whole) else self.limits.spare

    def _promised(self, but: Sequence[Reading] = ()) -> int:
        """Bytes that prompts on their way will take beyond those that they have; `but` for some, which give theirs back."""
        assert self.room is not None
        left = [one for one in self._opened if one not in but]
        wanted = sum(self.room.bytes(one.state.capacity, len(one.job.rows)) for one in left)
        return wanted - sum(one.state.nbytes for one in self._opened)

    def _fits(self, need: int, but: Sequence[Reading] = ()) -> bool:
        """Whether so many bytes more are within the budget, `but` for what some prompts take or will; unused memory is given
        back for that, and what the allocator keeps once there is no plenty any more.
        """
        assert self.room is not None
        need += self._promised(but)
        if not self.room.plenty(self.nbytes + need):
            for pack in self._packs:
                pack.state.save_memory()
        self.room.tidy(self.nbytes + need)
        if self.nbytes + need > self.room.budget:
            for pack in self._packs:
                pack.state.shrink()
            if self._memory is not None:
                self._memory.release()
        return self.nbytes + need <= self.room.budget

    def _make_step_room(self, pack: Pack) -> bool:
        """Whether a pack may take one step; rows that came last leave while there is no room for it."""
        while self.room is not None and pack.rows:
            grown = self.room.growth(pack.state)
            if (
                not grown or self._fits(grown) or self._fits(self.room.growth(pack.state))
            ):  # without unused rows
                break
            if self._opened:  # they came last, and begin anew
                for reading in self._opened:
                    self._wait_again(reading.job)
                self._opened = []
            elif len(pack.rows) == 1 and self.running == 1:
                pack.jobs[0].fail(self.room.error(pack.state.lengths[0] + 1, 1))
                pack.drop([0])
            elif not self._preempt(below=None):
                break
        if not pack.rows and pack in self._packs:
            self._packs.remove(pack)
        return bool(pack.rows)

    def _preempt(self, below: int | None) -> bool:
        """The least urgent answer, the youngest of those, makes room and is read again later; False where all are as urgent as
        `below`, or cannot.
        """
        found = [
            (job.priority, -job.number, pack, number)
            for pack in self._packs
            for number, job in enumerate(pack.jobs)
            if len(job.rows) == 1 and (below is None or job.priority < below)
        ]
        if not found:
            return False
        *_, pack, number = min(found, key=lambda each: each[:2])
        job = pack.jobs[number]
        pack.drop([number])
        if not pack.rows:
            self._packs.remove(pack)
        else:
            pack.state.shrink()
        self._wait_again(job)
        return True
