"""The number formats that weights of the compiled decode step may have."""

from __future__ import annotations

from dataclasses import dataclass

from beholder.errors import UnknownName

FORMATS = ("float32", "bf16", "int8", "int4")


@dataclass(frozen=True)
class Formats:
    """language: of the layers' matrices. head: of the one that makes scores, the layers' where None.

    int8 has a scale for each output, int4 a scale for each 32 inputs; a matrix whose inputs are no whole groups of
    32 has int8 in place of int4. What meets quantised weights is quantised too, to 8 bits with a scale for each 32 channels.
    """

    language: str = "bf16"
    head: str | None = None

    def __post_init__(self) -> None:
        for name in (self.language, self.of_head):
            if name not in FORMATS:
                raise UnknownName("format of weights", name, FORMATS)

    @property
    def of_head(self) -> str:
        """The head's."""
        return self.head or self.language
