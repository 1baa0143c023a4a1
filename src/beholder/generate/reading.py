"""Prompts on their way through the language part: one by itself, in pieces, or several short ones side by side.

R rows, T positions, V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from beholder.generate import steps
from beholder.generate.jobs import Job, with_answers
from beholder.generate.pieces import alike, can_be_cut, cuts_of, piece_of, side_by_side, stop_of
from beholder.generate.prefixes import WORTH, PrefixCache, common, prompt_key
from beholder.model import Batch, Model
from beholder.parts.contracts import LanguageInputs
from beholder.parts.language.decoder import DecoderModel
from beholder.parts.language.state import State

FULLEST = 0.8  # of the places that prompts side by side take, this share at least is no padding


@dataclass(eq=False)
class Reading:
    """A job's prompt. inputs: all of it, where it can be read in pieces; `state` holds the first `start` tokens. key: by which
    it is known again. begun: what was read of it for others has been looked for.
    """

    job: Job
    batch: Batch
    state: State
    inputs: LanguageInputs | None = None
    key: list[int] | None = None
    begun: bool = False

    @classmethod
    def of(cls, model: Model, job: Job, *, spare: int, rolling: bool, keyed: bool) -> Reading:
        """Nothing of it is read yet. spare: tokens of answer that there is room for behind it; rolling: as in `State`; keyed:
        somebody keeps what is read.
        """
        main = model.card.main
        assert main is not None
        batch = with_answers(job)
        assert batch.ids_BT is not None
        most = max(min(row.sampling.max_tokens - len(row.ids), spare) for row in job.rows)
        capacity = min(main.context, batch.ids_BT.shape[1] + max(most, 1))
        rolling = rolling and batch.visibility is None
        reading = cls(job, batch, State(rows=len(batch.ids_BT), capacity=capacity, rolling=rolling))
        if not in_pieces(model, batch):
            return reading
        inputs = model.prepare(batch, job.features or {}, reading.state)
        if not can_be_cut(inputs):
            reading.state.shift_B = None
            return reading
        reading.inputs, job.cuts = inputs, cuts_of(inputs.visibility)
        reading.key = prompt_key(model, batch) if keyed else None
        return reading

    @property
    def start(self) -> int:
        """Tokens that have been read."""
        return self.state.lengths[0]

    @property
    def left(self) -> int:
        """Tokens of each row that have not."""
        return (
            self.job.tokens - self.start if self.inputs is None else self.inputs.ids_BT.shape[1] - self.start
        )

    def begin(self, prefixes: PrefixCache | None) -> None:
        """Take over what was read for others that begin alike."""
        if self.begun:
            return
        self.begun = True
        if prefixes is None or self.key is None:
            return
        found = prefixes.find(self.key, self.job.cuts, self.state.capacity)
        if found is None:
            return
        found.shift_B, self.state = self.state.shift_B, found
        self.job.reused = found.lengths[0]
        for row in self.job.rows:
            row.usage = replace(row.usage, reused=self.job.reused)

    @property
    def takes_others(self) -> bool:
        """Whether what is left of it may be read beside others: plain causal text of one row whose answer begins."""
        job = self.job
        return self.inputs is not None and job.cuts is None and not (job.alone or job.apart or job.again)

    def fits(self, other: Reading) -> bool:
        """Whether both can be read side by side and lose nothing: `other` would not go on from what is read of this one."""
        if not (self.takes_others and other.takes_others):
            return False
        if self.key is not None and other.key is not None:
            return common(self.key, other.key) - self.start < WORTH
        return True

    def stands_beside(self, other: Reading) -> bool:
        """Whether as much of both is read, into the same tables."""
        assert self.inputs is not None and other.inputs is not None
        placed = [reading.batch.positions is not None for reading in (self, other)]
        return self.start == other.start and placed[0] == placed[1] and alike(self.inputs, other.inputs)

    def read(self, model: Model, most: int) -> tuple[int, Tensor | None]:
        """Read the prompt, or about `most` tokens more of it; gives how many, and scores (R, V) once that was all."""
        if self.inputs is None:
            count = self.left * len(self.job.rows)
            return count, steps.prefill(model, self.batch, self.job.features or {}, self.state)
        begin, total = self.start, self.inputs.ids_BT.shape[1]
        stop = stop_of(self.job.cuts, begin, most, total)
        output = model.read_inputs(piece_of(self.inputs, begin, stop), self.state)
        return stop - begin, steps.last_logits(model, output) if stop == total else None


def gathered(readings: Sequence[Reading], prefixes: PrefixCache | None, most: int) -> list[Reading]:
    """The first one, with those of the others that are as well read beside it, `most` tokens with their padding."""
    first, *others = readings
    first.begin(prefixes)
    found = [first]
    for other in others:
        if all(one.fits(other) for one in found):
            other.begin(prefixes)
            counts = [one.left for one in (*found, other)]
            places = len(counts) * max(counts)
            if places <= most and sum(counts) >= FULLEST * places and first.stands_beside(other):
                found.append(other)
    return found


def room_of(readings: Sequence[Reading]) -> int:
    """Tokens that each row has memory for once prompts are read side by side: of the longest, and of the shortest answer."""
    if readings[0].start:
        return max(one.state.capacity for one in readings)
    return max(one.left for one in readings) + min(one.state.capacity - one.left for one in readings)


def read_side_by_side(model: Model, readings: Sequence[Reading]) -> tuple[State, Tensor]:
    """Read all that is left of several prompts at once, each of which is as long as it is; gives the state of them all, and
    scores (R, V). Their own states must not be used any more.
    """
    capacity = room_of(readings)
    pieces = []
    for one in readings:
        assert one.inputs is not None
        pieces.append(piece_of(one.inputs, one.start, one.inputs.ids_BT.shape[1]))
    inputs = side_by_side(pieces, readings[0].start)
    state, *others = [one.state for one in readings]
    for number, other in enumerate(others, 1):
        state.join(other, spare=len(others) - number)
    state.capacity = capacity
    return state, steps.last_logits(model, model.read_inputs(inputs, state))


def in_pieces(model: Model, batch: Batch) -> bool:
    """Whether a prompt may be read in pieces: one row that a plain decoder reads, whose layers nothing is added to."""
    return (
        batch.ids_BT is not None
        and len(batch.ids_BT) == 1
        and isinstance(model.language, DecoderModel)
        and not model.layer_parts
        and batch.visibility is None
    )
