"""Answers in the making, one a prompt: what has been said, what may follow, and what ends it.

R rows, V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.generate.forms import Follower, Maker
from beholder.generate.results import Piece, Result, Timings, TokenScore, Usage
from beholder.generate.sampling import Sampling, next_ids
from beholder.generate.steps import lengths_of
from beholder.generate.stops import StopFilter
from beholder.model import Batch, Model


class TextStream(Protocol):
    """Ids to text, one by one."""

    def add(self, token_id: int) -> str: ...
    def finish(self) -> str: ...


@dataclass(eq=False)
class Row:
    """A prompt's answer in the making. room: most tokens that the context leaves for it. finish: why it has ended, "" while it
    goes on. seen_V: words that a repetition penalty is for.
    """

    number: int
    usage: Usage
    sampling: Sampling
    stream: TextStream
    eos_ids: frozenset[int]
    room: int
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: str = ""
    follower: Follower | None = None
    scores: list[TokenScore] = field(default_factory=list)
    seen_V: Tensor | None = None
    _seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.generator = self.sampling.generator()
        self.stops = StopFilter(self.sampling.stops)

    @property
    def bound(self) -> bool:
        """Whether some words cannot come next."""
        return self.follower is not None or len(self.ids) < self.sampling.min_tokens

    def add(self, token_id: int) -> str:
        """Take a token; gives the text that has become certain and sets `finish` with the last."""
        self.ids.append(token_id)
        if self.seen_V is not None:
            self.seen_V[token_id] = True
        if token_id in self.eos_ids:
            self.finish = "end"
            text = ""
        else:
            text = self.stops.add(self.stream.add(token_id))
            if self.follower is not None and self.follower.take(token_id):
                self.finish = "end"
            elif len(self.ids) >= self.sampling.max_tokens:
                self.finish = "length"
            elif len(self.ids) >= self.room:
                self.finish = "context"
        if self.finish:
            text += self.stops.add(self.stream.finish())
            text += self.stops.finish()
        if self.stops.stopped:
            self.finish = "stop"
        self.text += text
        return text

    def note(self, logits_V: Tensor, token_id: int) -> None:
        """Keep a token's score, which is asked for."""
        assert self.sampling.logprobs is not None
        logprobs_V = logits_V.float().log_softmax(-1)
        values, ids = logprobs_V.topk(min(self.sampling.logprobs, len(logprobs_V)))
        best = tuple(zip(ids.tolist(), values.tolist(), strict=True))
        self.scores.append(TokenScore(token_id, float(logprobs_V[token_id]), best))

    def spend(self, **seconds: float) -> None:
        """Count time to this answer, by the names of `Timings`."""
        for name, more in seconds.items():
            self._seconds[name] = self._seconds.get(name, 0.0) + more

    @property
    def timings(self) -> Timings:
        """What has been counted so far."""
        return Timings(**self._seconds)

    def result(self) -> Result:
        usage = replace(self.usage, new=len(self.ids))
        return Result(self.text, tuple(self.ids), self.finish, usage, self.timings, tuple(self.scores))


def make_rows(
    model: Model,
    batch: Batch,
    samplings: Sequence[Sampling],
    usages: Sequence[Usage],
    *,
    eos_ids: Sequence[int],
    decode: Callable[[], TextStream],
    follow: Maker | None = None,
) -> list[Row]:
    """A row for each prompt of a batch. The arguments are those of `loop.generate`."""
    main, rows = model.card.main, []
    assert main is not None
    begun = 0 if batch.target_BT is None else batch.target_BT.shape[1] - 1
    for number, (sampling, usage) in enumerate(zip(samplings, usages, strict=True)):
        row = Row(
            number, usage, sampling, decode(), frozenset(eos_ids), model.card.room(usage.prompt) - begun
        )
        if sampling.form is not None:
            assert follow is not None, "answers of a form need a follower"
            row.follower = follow(sampling.form, main.vocab_size, sorted(eos_ids))
        rows.append(row)
    return rows


def choose(rows: Sequence[Row], logits_RV: Tensor, seconds: float) -> list[Piece | Exception]:
    """The next token of every row, by its own settings, or what went wrong with it; a row's last piece holds its result.
    seconds: what the scores took, counted to each row.
    """
    formed_RV, seen_RV = logits_RV, None
    if any(row.bound for row in rows):
        told = any(row.sampling.logprobs is not None for row in rows)  # what the model says, form or not
        formed_RV = logits_RV.clone() if told else logits_RV
        early: list[tuple[int, int]] = []  # rows and words that would end them
        for number, row in enumerate(rows):
            if row.follower is not None:
                row.follower.allow(formed_RV[number])
            elif row.bound:
                early += ((number, word) for word in row.eos_ids)
        if early:
            formed_RV[tuple(map(list, zip(*early, strict=True)))] = -torch.inf
    if any(row.seen_V is not None for row in rows):
        none_V = torch.zeros_like(logits_RV[0], dtype=torch.bool)
        seen_RV = torch.stack([none_V if row.seen_V is None else row.seen_V for row in rows])
    ids = next_ids(formed_RV, [r.sampling for r in rows], [r.generator for r in rows], seen_RV)
    pieces: list[Piece | Exception] = []
    for number, (row, token_id) in enumerate(zip(rows, ids, strict=True)):
        row.spend(answer=seconds)
        if row.sampling.logprobs is not None:
            row.note(logits_RV[number], token_id)
        try:
            text = row.add(token_id)
        except BeholderError as error:
            pieces.append(error)
        else:
            pieces.append(Piece(row.number, text, row.result() if row.finish else None))
    return pieces


def mark_seen(model: Model, batch: Batch, rows: Sequence[Row]) -> None:
    """Mark the words of the prompts that the decoder has read, in rows with a penalty."""
    if all(row.sampling.repetition_penalty == 1 for row in rows):
        return
    main = model.card.main
    assert main is not None
    if main.reads_apart:
        batch = Batch(batch.target_BT, batch.target_lengths)
    lengths = (0,) * len(rows) if batch.ids_BT is None else lengths_of(batch)
    for number, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        row.seen_V = torch.zeros(main.vocab_size, dtype=torch.bool, device=model.device)
        if batch.ids_BT is not None:
            ids_T = batch.ids_BT[number, :length]
            row.seen_V[ids_T[(ids_T >= 0) & (ids_T < main.vocab_size)]] = True


def check_context(model: Model, batch: Batch) -> list[Usage]:
    """Each row's prompt counted; raises `BeholderError` where one is empty or fills the context."""
    main = model.card.main
    assert main is not None and batch.ids_BT is not None
    usages = []
    for row, length in enumerate(lengths_of(batch)):
        pictures = [plan.num_tokens for plan in batch.plans[row]] if batch.plans else []
        usage = Usage(prompt=length, image=sum(pictures))
        if length == 0:
            raise BeholderError(f"prompt {row + 1} is empty; give at least one token")
        if model.card.room(length) < 1:
            counts = " + ".join(map(str, pictures)) if pictures else "none"
            raise BeholderError(
                f"prompt {row + 1} has {length} tokens ({usage.text} of text, {counts} of pictures) but "
                f"{model.card.name} takes fewer than {main.context - model.card.virtual_tokens}; shorten the text or give "
                "fewer or smaller pictures"
            )
        usages.append(usage)
    return usages
