"""A scheduler's requests: prompts that wait, answers that go on side by side.

R rows.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from beholder.errors import BeholderError
from beholder.generate.features import Features, without_pixels
from beholder.generate.guesses import Guess
from beholder.generate.results import Piece
from beholder.generate.rows import Row
from beholder.generate.steps import Tail
from beholder.model import Batch
from beholder.parts.language.state import State


@dataclass(eq=False)
class Job:
    """Prompts that are read together, and the answers to them. `pieces` fills as answers go on; `error` says why there will be
    no more. cuts: where the prompt may be cut, everywhere where None. alone: its steps take in no others; apart: it is encoded
    and read by itself.
    """

    batch: Batch
    rows: list[Row]
    priority: int = 0
    number: int = 0
    alone: bool = False
    apart: bool = False
    pieces: deque[Piece] = field(default_factory=deque)
    error: Exception | None = None
    cancelled: bool = False
    features: Features | None = None
    came: float = field(default_factory=time.perf_counter)
    reused: int = 0
    cuts: list[int] | None = None
    done: Callable[[Job], None] | None = None  # told of every new piece, and of the end
    guess: Guess | None = None

    @property
    def finished(self) -> bool:
        return self.cancelled or self.error is not None or all(row.finish for row in self.rows)

    @property
    def going(self) -> list[Row]:
        return [row for row in self.rows if not row.finish]

    @property
    def needs_encoding(self) -> bool:
        """Whether its pictures have not been through encoders yet."""
        return self.features is None and any(self.batch.views.values())

    @property
    def unseen_bytes(self) -> int:
        """Of views that have yet to go through encoders."""
        if not self.needs_encoding:
            return 0
        return sum(view.nbytes for views in self.batch.views.values() for view in views)

    def seen(self, features: Features) -> None:
        """Take what encoders gave; nobody needs the pixels any more."""
        self.features, self.batch = features, without_pixels(self.batch)
        for row in self.rows:
            row.usage = replace(row.usage, pictures_reused=features.reused)

    @property
    def tokens(self) -> int:
        """Of the prompt, and of what has been said of the answer."""
        assert self.batch.ids_BT is not None
        return self.batch.ids_BT.shape[1] + max(len(row.ids) for row in self.rows)

    @property
    def again(self) -> bool:
        """Whether a beginning of its answers was given before, so that it is read with the prompt."""
        return any(row.ids for row in self.rows)

    def give(self, pieces: Sequence[Piece]) -> None:
        self.pieces.extend(pieces)
        if self.done is not None:
            self.done(self)

    def fail(self, error: Exception) -> None:
        self.error = error
        self.give([])

    def take(self) -> list[Piece]:
        """The new pieces. Raises what went wrong once all have been taken."""
        taken = [self.pieces.popleft() for _ in range(len(self.pieces))]
        if not taken and self.error is not None:
            raise self.error
        return taken


@dataclass(eq=False)
class Pack:
    """Answers that go on together. alone: it takes in no others."""

    state: State
    rows: list[Row]
    jobs: list[Job]
    tail: Tail | None
    alone: bool = False

    def drop(self, gone: Sequence[int]) -> None:
        """Leave rows out; the last ones move to their places."""
        if not gone:
            return
        kept = list(range(len(self.rows)))
        for row in sorted(gone, reverse=True):
            kept[row] = kept[-1]
            kept.pop()
        self.rows, self.jobs = [self.rows[i] for i in kept], [self.jobs[i] for i in kept]
        if kept:
            self.state.keep(kept)
            self.tail = None if self.tail is None else self.tail.reorder(kept)

    def join(self, other: Pack, most: int, *, spare: int) -> bool:
        """Take in the rows of another pack; False where they cannot stand side by side."""
        if self.alone or other.alone or len(self.rows) + len(other.rows) > most:
            return False
        if (self.tail is None) != (other.tail is None):
            return False
        if self.tail is not None and other.tail is not None and not self.tail.fits(other.tail):
            return False
        try:
            self.state.join(other.state, spare=spare)
        except ValueError:
            return False
        if self.tail is not None and other.tail is not None:
            self.tail = self.tail.join(other.tail)
        self.rows += other.rows
        self.jobs += other.jobs
        return True


def with_answers(job: Job) -> Batch:
    """The prompt with the tokens of its answer that have been read, where it is read once more."""
    batch, row = job.batch, job.rows[0]
    assert batch.ids_BT is not None
    if len(row.ids) < 2 or len(job.rows) > 1:
        return batch
    said_1T = torch.tensor([row.ids[:-1]], device=batch.ids_BT.device)
    if batch.target_BT is not None:
        return replace(batch, target_BT=torch.cat((batch.target_BT, said_1T), 1), target_lengths=None)
    lengths = None if batch.lengths is None else (batch.lengths[0] + said_1T.shape[1],)
    prompts = batch.prompts or batch.lengths or (batch.ids_BT.shape[1],)
    return replace(batch, ids_BT=torch.cat((batch.ids_BT, said_1T), 1), lengths=lengths, prompts=prompts)


def told(error: Exception, job: Job) -> Exception:
    """What a user is told of what went wrong in a request."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        pictures = len(job.batch.plans[0]) if job.batch.plans else 0
        return BeholderError(
            f"there was no memory left for a request of {job.tokens} tokens and {pictures} pictures; give fewer or smaller "
            "pictures, or set a budget"
        )
    return error
