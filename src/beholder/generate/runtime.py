"""How answers are computed, beside what the model says they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from beholder.generate.features import FeatureCache
from beholder.generate.guesses import Guesser
from beholder.generate.prefixes import PrefixCache
from beholder.generate.steps import Advance
from beholder.parts.language.state import State

MIB = 2**20


class Memory(Protocol):
    """Where another way to take steps wants states to be. `settle` moves one there, before a step, if that takes no more than
    `room` bytes more; `release` gives back what no state uses, which is `idle_bytes`.
    """

    def settle(self, state: State, room: int | None = None) -> bool: ...
    def release(self) -> None: ...
    @property
    def idle_bytes(self) -> int: ...


@dataclass(frozen=True)
class Runtime:
    """advance: one token more of every row, `steps.advance` where None; memory: what it computes on. rolling: layers with a
    window keep no more than it, in texts. guesser: guesses the next tokens of an answer that goes on alone. prefixes,
    features: what was read and seen before is not read and seen again. None of them changes an answer; the caches serve one
    thread.
    """

    advance: Advance | None = None
    memory: Memory | None = None
    rolling: bool = True
    guesser: Guesser | None = None
    prefixes: PrefixCache | None = None
    features: FeatureCache | None = None

    def remembering(self, prefix_bytes: int = 512 * MIB, picture_bytes: int = 256 * MIB) -> Runtime:
        """The same with new caches of so many bytes at most; none where 0."""
        return replace(
            self,
            prefixes=PrefixCache(prefix_bytes) if prefix_bytes else None,
            features=FeatureCache(picture_bytes) if picture_bytes else None,
        )
