"""What a pipeline gives back: answers that are strings, streams of them, and vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from beholder.generate.results import Piece, Result, Timings, Usage
from beholder.planning import Plan


class Reply(str):
    """An answer: a string with what is known of it. boxes, points, polygons, masks and tracks are in pixels
    of the originals, and empty where the system gives none. finish and ids: see `generate.results.Result`.
    """

    usage: Usage
    timings: Timings
    plan: Plan
    finish: str
    ids: tuple[int, ...]
    tokens_per_second: float
    boxes: tuple[Any, ...]
    points: tuple[Any, ...]
    polygons: tuple[Any, ...]
    masks: tuple[Any, ...]
    tracks: tuple[Any, ...]

    def __new__(cls, result: Result, plan: Plan) -> Reply:
        reply = super().__new__(cls, result.text.strip())
        reply.usage, reply.timings, reply.plan = result.usage, result.timings, plan
        reply.finish, reply.ids, reply.tokens_per_second = result.finish, result.ids, result.tokens_per_second
        reply.boxes = reply.points = reply.polygons = reply.masks = reply.tracks = ()
        return reply


class Stream:
    """The pieces of one answer as they become certain: `for piece in stream`. Afterwards `reply` is the
    whole.
    """

    def __init__(self, pieces: Iterator[Piece], finish: Callable[[Result], Reply]) -> None:
        self._pieces = pieces
        self._finish = finish
        self._reply: Reply | None = None

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            if piece.result is not None:
                self._reply = self._finish(piece.result)
            if piece.text:
                yield piece.text

    @property
    def reply(self) -> Reply:
        """The whole answer; waits for what has not been read yet."""
        for _ in self:
            pass
        assert self._reply is not None
        return self._reply


@dataclass(frozen=True, eq=False)
class Embeddings:
    """V pictures and B texts: unit vectors images (V, D) and texts (B, D) in float32, and scores (V, B), the
    system's own likeness before any softmax or sigmoid. None where a side was not given.
    """

    images: np.ndarray | None = None
    texts: np.ndarray | None = None
    scores: np.ndarray | None = None
