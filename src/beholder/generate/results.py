"""What generation reports: text as it becomes certain, counts and times."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Usage:
    """Tokens. prompt: all of the prompt; image: those of them that are features of pictures; new: of the
    answer, its end token included; reused: of the prompt that had been read before, for an earlier request.
    pictures_reused: pictures that had been encoded before.
    """

    prompt: int = 0
    image: int = 0
    new: int = 0
    reused: int = 0
    pictures_reused: int = 0

    @property
    def text(self) -> int:
        """Prompt tokens that are not features."""
        return self.prompt - self.image


@dataclass(frozen=True)
class Timings:
    """Seconds. plan: prompt and media plan; media: decoding and resizing pictures; wait: for other requests; vision:
    encoders and connector; prefill: the prompt through the language model; answer: all steps after it. Requests that are
    computed together share them.
    """

    plan: float = 0.0
    media: float = 0.0
    wait: float = 0.0
    vision: float = 0.0
    prefill: float = 0.0
    answer: float = 0.0

    @property
    def first(self) -> float:
        """Until the first token was there."""
        return self.plan + self.media + self.wait + self.vision + self.prefill

    @property
    def total(self) -> float:
        """Sum of all."""
        return self.first + self.answer


@dataclass(frozen=True)
class TokenScore:
    """A token of an answer with the logarithm of its probability, and the likeliest tokens with theirs, the best first:
    what the model says, before temperature, penalties and the form of the answer.
    """

    id: int
    logprob: float
    best: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Beam:
    """One of several answers that were followed. logprob: the sum of its tokens' logarithms of probability."""

    text: str
    ids: tuple[int, ...]
    finish: str
    logprob: float


@dataclass(frozen=True)
class Result:
    """One row's answer. finish: `end` (an end token, or nothing can follow in its form), `stop` (a stop string),
    `length` (max_tokens), `context` (the model's context is full). scores: of each token where they were asked for.
    beams: all that beam search followed to their end, the best, which is the answer, first.
    """

    text: str
    ids: tuple[int, ...]
    finish: str
    usage: Usage
    timings: Timings = field(default_factory=Timings)
    scores: tuple[TokenScore, ...] = ()
    beams: tuple[Beam, ...] = ()

    @property
    def tokens_per_second(self) -> float:
        """New tokens after the first over the time they took; 0 where there is one at most."""
        return (
            (self.usage.new - 1) / self.timings.answer if self.usage.new > 1 and self.timings.answer else 0.0
        )


@dataclass(frozen=True)
class Piece:
    """Text of row `row` that has become certain. `result` comes with a row's last piece."""

    row: int
    text: str
    result: Result | None = None
