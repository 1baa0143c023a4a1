"""Beam search: the likeliest whole answers, not the likeliest next words.

B prompts, K beams of each, R = B K rows, V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.generate import steps
from beholder.generate.results import Beam, Piece, Result, Timings, Usage
from beholder.generate.rows import TextStream
from beholder.generate.sampling import Sampling
from beholder.generate.stops import StopFilter
from beholder.model import Batch, Model
from beholder.parts.language.state import State


def search(
    model: Model,
    batch: Batch,
    samplings: Sequence[Sampling],
    usages: Sequence[Usage],
    *,
    eos_ids: Sequence[int],
    decode: Callable[[], TextStream],
) -> Iterator[Piece]:
    """The best answer to each of the batch's prompts, of as many `beams` that are followed at a time, by the sum of their
    tokens' logarithms of probability over length to the power of `length_penalty` (2016's GNMT, 1609.08144, with the length
    alone; transformers' `BeamSearchScorer`). One piece a prompt; its result keeps all beams, the best first.

    Raises `BeholderError` for vocabularies too small for as many beams.
    """
    main, beams = model.card.main, samplings[0].beams
    assert main is not None and batch.ids_BT is not None
    clock = steps.Clock(model.device)
    rooms = [min(s.max_tokens, model.card.room(u.prompt)) for s, u in zip(samplings, usages, strict=True)]
    state = State(len(usages), capacity=min(main.context, batch.ids_BT.shape[1] + max(rooms)))
    branches = steps.encode(model, batch)
    vision = clock.lap()
    logits_BV = steps.prefill(model, batch, branches, state)
    timings = Timings(vision=vision, prefill=clock.lap())
    if logits_BV.shape[-1] < beams * (1 + max(len(eos_ids), 1)):
        raise BeholderError(f"{beams} beams of a vocabulary of {logits_BV.shape[-1]} words; ask for fewer")
    tail = None if main.reads_apart else steps.Tail.of(batch)
    prompts = [_Prompt(s, frozenset(eos_ids), room) for s, room in zip(samplings, rooms, strict=True)]
    state = state.fork(beams)
    tail = None if tail is None else tail.reorder([n for n in range(len(usages)) for _ in range(beams)])
    logits_RV = logits_BV.repeat_interleave(beams, 0)
    while True:
        chosen = [
            prompt.step(logits_KV.float().log_softmax(-1))
            for prompt, logits_KV in zip(prompts, logits_RV.split(beams), strict=True)
        ]
        if all(prompt.done for prompt in prompts):
            break
        parents = [number * beams + parent for number, pairs in enumerate(chosen) for parent, _ in pairs]
        state = state.reorder(parents)
        logits_RV = steps.advance(model, [token for pairs in chosen for _, token in pairs], state, tail)
        tail = None if tail is None else tail.later()
    timings = replace(timings, answer=clock.lap())
    for number, (prompt, usage) in enumerate(zip(prompts, usages, strict=True)):
        found = tuple(prompt.beam(ids, score, decode()) for ids, score in prompt.finished())
        best = found[0]
        told = replace(usage, new=len(best.ids))
        yield Piece(number, best.text, Result(best.text, best.ids, best.finish, told, timings, beams=found))


@dataclass
class _Prompt:
    """The beams of one prompt: those that go on, with their summed logarithms of probability, and those that have ended."""

    sampling: Sampling
    eos_ids: frozenset[int]
    room: int
    going: list[tuple[tuple[int, ...], float]] = field(default_factory=lambda: [((), 0.0)])
    ended: list[tuple[tuple[int, ...], float]] = field(default_factory=list)
    done: bool = False

    def step(self, logprobs_KV: Tensor) -> list[tuple[int, int]]:
        """Take the next words' logarithms of probability; gives parent and token of each row that goes on."""
        beams = self.sampling.beams
        if self.done:
            return [(0, 0)] * beams
        sums_V = torch.cat(
            [logprobs_V + score for logprobs_V, (_, score) in zip(logprobs_KV, self.going, strict=False)]
        )
        values, places = sums_V.topk(beams * (1 + max(len(self.eos_ids), 1)))  # as many go on whatever ends
        going: list[tuple[tuple[int, ...], float]] = []
        pairs: list[tuple[int, int]] = []
        for rank, (value, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
            parent, token = divmod(place, logprobs_KV.shape[-1])
            ids = (*self.going[parent][0], token)
            if token in self.eos_ids:
                if rank < beams:
                    self.ended.append((ids, value))
            elif len(going) < beams:
                going.append((ids, value))
                pairs.append((parent, token))
        self.going = going
        self.done = len(going[0][0]) >= self.room or self._settled()
        return pairs

    def _settled(self) -> bool:
        """Whether enough have ended, and none that goes on can become better than the worst of them."""
        best = sorted((self.rank(*each) for each in self.ended), reverse=True)[: self.sampling.beams]
        return len(best) == self.sampling.beams and best[-1] >= self.rank(*self.going[0])

    def rank(self, ids: Sequence[int], score: float) -> float:
        """What beams are compared by."""
        return score / len(ids) ** self.sampling.length_penalty

    def finished(self) -> list[tuple[tuple[int, ...], float]]:
        """The best beams, ended ones and such as had no room left, the best first."""
        left = self.going if len(self.going[0][0]) >= self.room else []
        every = sorted([*self.ended, *left], key=lambda each: -self.rank(*each))
        return every[: self.sampling.beams]

    def beam(self, ids: tuple[int, ...], score: float, stream: TextStream) -> Beam:
        """A finished beam with its text, cut at stop strings."""
        ends = ids[-1] in self.eos_ids
        stops = StopFilter(self.sampling.stops)
        text = "".join(stops.add(stream.add(token)) for token in (ids[:-1] if ends else ids))
        text += stops.add(stream.finish()) + stops.finish()
        finish = "stop" if stops.stopped else "end" if ends else "length"
        return Beam(text, ids, finish, score)
