"""What each part of a system computes with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from beholder.errors import BeholderError, UnknownName

BITS = {"float32": 32.0, "bf16": 16.0, "int8": 8.0, "int4": 4.5}  # of a weight; int4 with its scales
PARTS = ("vision", "connector", "language", "head")
FOLLOWERS = {"connector": "vision", "head": "language"}
BESIDE = {"int4": "int8"}  # heads and encoders lose most with 4 bits (docs/quantised.md)


@dataclass(frozen=True)
class Precision:
    """One of `float32`, `bf16`, `int8` and `int4` for each part. head: what gives the words' scores; fusions and all else go
    with the language part.
    """

    vision: str = "bf16"
    connector: str = "bf16"
    language: str = "bf16"
    head: str = "bf16"

    def __post_init__(self) -> None:
        for part in PARTS:
            if getattr(self, part) not in BITS:
                raise UnknownName(f"precision of {part}", getattr(self, part), BITS)

    @classmethod
    def parse(cls, text: str) -> Precision:
        """`int8` is that everywhere, `int4` that in the language part and int8 elsewhere; `vision=bf16,language=int4` sets some
        parts. A head that is not set goes with the language part, in int8 where that is int4; a connector goes with the vision
        part, and bf16 is what is left. Raises `UnknownName` and `BeholderError`.
        """
        if "=" not in text:
            bits = text.strip()
            text = f"vision={BESIDE.get(bits, bits)},language={bits}"
        given: dict[str, str] = {}
        for piece in text.split(","):
            part, equals, bits = (side.strip() for side in piece.partition("="))
            if not equals:
                raise BeholderError(
                    f"precision {piece.strip()!r} in {text!r} names no part; write language=int8"
                )
            if part not in PARTS:
                raise UnknownName("part with a precision", part, PARTS)
            if part in given:
                raise BeholderError(f"precision {text!r} sets {part} twice")
            given[part] = bits
        for follower, leader in FOLLOWERS.items():
            if leader in given:
                bits = given[leader]
                given.setdefault(follower, BESIDE.get(bits, bits) if follower == "head" else bits)
        return replace(cls(), **given)

    def of(self, part: str) -> str:
        """The name of the part's precision."""
        name: str = getattr(self, part)
        return name

    def dtype(self, part: str) -> torch.dtype:
        """Of the part's activations, and of weights that are not packed."""
        return torch.float32 if self.of(part) == "float32" else torch.bfloat16

    def bytes_per_weight(self, part: str) -> float:
        """Of the part's matrices."""
        return BITS[self.of(part)] / 8

    @property
    def quantised(self) -> bool:
        """Whether any part has fewer than 16 bits."""
        return any(BITS[self.of(part)] < 16 for part in PARTS)

    def __str__(self) -> str:
        alone = next((name for name in BITS if Precision.parse(name) == self), None)
        return alone or ",".join(f"{part}={self.of(part)}" for part in PARTS)
