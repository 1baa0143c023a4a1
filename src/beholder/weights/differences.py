"""How a checkpoint and a model differ by name and shape, said with the likely cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from beholder.errors import WeightsError
from beholder.weights.lazy import LazyTensor, Shape

SHOWN = 12
QUANTISED = (
    ".qweight",
    ".qzeros",
    ".scales",
    ".weight_scale",
    ".weight_scale_inv",
    ".absmax",
    ".SCB",
    ".g_idx",
)
ADAPTERS = (".lora_A.", ".lora_B.", ".lora_embedding_A", ".lora_magnitude_vector")


@dataclass
class Differences:
    """missing: (published name, our name) of parameters without a source
    unexpected: published keys that nothing uses
    reshaped:   (published key, its shape, the shape that would fit)
    """

    missing: list[tuple[str, str]] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    reshaped: list[tuple[str, Shape, Shape]] = field(default_factory=list)

    def check(self, published: Mapping[str, LazyTensor]) -> None:
        """Raise `Mismatch` if there is any difference."""
        if self.missing or self.unexpected or self.reshaped:
            raise Mismatch(self, published)

    def cause(self, published: Mapping[str, LazyTensor]) -> str:
        """The likely reason and what to do, in one clause."""
        if any(key.endswith(QUANTISED) for key in self.unexpected):
            return "the checkpoint is quantized; use the unquantized release or a GGUF file of it"
        if any(mark in key for key in self.unexpected for mark in ADAPTERS):
            return "these are low-rank adapters; load the base model first, or merge them into it"
        if self.missing and len(self.unexpected) == len(published):
            return "no key is known here; the file belongs to another system or another release's naming"
        if self.reshaped and all(got[1:] == want[1:] for _, got, want in self.reshaped) and not self.missing:
            return (
                "only the first axis differs: another vocabulary or number of heads; use this file's config"
            )
        if self.reshaped:
            return "another size of the same architecture; use the config.json that came with this checkpoint"
        if self.missing and not self.unexpected:
            return "the file is incomplete: a shard or part of it was left out when it was saved"
        if self.unexpected and not self.missing:
            return "the file holds more than this system uses; check that the config belongs to it"
        return "config and file are of different releases; use the config.json that came with this checkpoint"


class Mismatch(WeightsError):
    """A checkpoint whose names or shapes do not fit. The first line says it all; the lists follow."""

    def __init__(self, differences: Differences, published: Mapping[str, LazyTensor]) -> None:
        self.differences = differences
        origins = sorted({tensor.origin for tensor in published.values() if tensor.origin})
        counts = [
            f"{len(items)} {word} ({example})"
            for word, items, example in (
                ("missing", differences.missing, _name(differences.missing)),
                ("unexpected", differences.unexpected, _name(differences.unexpected)),
                ("reshaped", differences.reshaped, _name(differences.reshaped)),
            )
            if items
        ]
        where = f"{origins[0]}: " if origins else ""
        reshaped = [f"{key}: {got} in the file, {want} here" for key, got, want in differences.reshaped]
        lines = [
            f"{where}weights do not fit: {', '.join(counts)}; {differences.cause(published)}",
            *_list("missing", [f"{key} -> {name}" for key, name in differences.missing]),
            *_list("unexpected", differences.unexpected),
            *_list("reshaped", reshaped),
        ]
        super().__init__("\n".join(lines))


def _name(items: list[tuple[str, str]] | list[str] | list[tuple[str, Shape, Shape]]) -> str:
    if not items:
        return ""
    first = items[0]
    return first if isinstance(first, str) else str(first[0])


def _list(word: str, lines: list[str]) -> list[str]:
    shown = [f"    {line}" for line in lines[:SHOWN]]
    more = [f"    ... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return [f"  {word} ({len(lines)}):", *shown, *more] if lines else []
