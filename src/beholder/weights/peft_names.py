"""Names of PEFT's files and what they stand for here: modules of the published model, whose rows may lie in another order or be
several maps of ours (or a part of one).

I inputs, O outputs, R rank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from beholder.errors import WeightsError
from beholder.weights.layout import Binding, Claim, Layout, claim_on_published, claims_on_own
from beholder.weights.lazy import Shape
from beholder.weights.ops import Copies, Fuse, OneToOne, Split

PREFIX = "base_model.model."
OWN = (Binding("", "", Layout({"*": "*"}, name="beholder")),)
IN_MEMORY = "model.language_model."  # of systems whose modules are not called as their checkpoints are, since transformers 4.52
KEY = re.compile(
    r"(?:base_model\.model\.)?(.+?)\.(lora_A|lora_B|lora_magnitude_vector|ia3_l)(?:\.default)?(?:\.weight)?"
)


@dataclass(frozen=True)
class Map:
    """One published linear map. own: our layers that it is made of; rows: which row of theirs, counted through all of them,
    each of its outputs is; counts: how many outputs each has. turned: it is published as (I, O).
    """

    module: str
    own: tuple[str, ...]
    rows: Tensor
    counts: tuple[int, ...]
    turned: bool

    def published(self, own_OR: Tensor) -> Tensor:
        """Rows of ours, one after the other, as published."""
        return own_OR[self.rows]

    def pieces(self, published_OR: Tensor) -> list[Tensor]:
        """Published rows as those of each of our layers; zeros at rows of theirs that this map does not have."""
        own_OR = published_OR.new_zeros(sum(self.counts), *published_OR.shape[1:])
        own_OR[self.rows] = published_OR
        return list(own_OR.split(self.counts))

    def covers(self, number: int) -> Tensor:
        """Which rows of our layer of this number the map has."""
        mask = torch.zeros(sum(self.counts), dtype=torch.bool)
        mask[self.rows] = True
        return mask.split(self.counts)[number]


def naming_for_modules(namings: Sequence[Sequence[Binding]], usual: int) -> Sequence[Binding]:
    """The naming that transformers' modules have in memory, where checkpoints have another one; else the checkpoint's."""
    inside = [naming for naming in namings if any(binding.prefix == IN_MEMORY for binding in naming)]
    return inside[-1] if inside else namings[usual]


def published_maps(layer: str, bindings: Sequence[Binding], shapes: Mapping[str, Shape]) -> list[Map]:
    """The published maps that hold a layer of ours. Raises `WeightsError` where it is published as something else."""
    claims = claims_on_own(f"{layer}.weight", bindings)
    if not claims:
        raise WeightsError(
            f"{layer} has no published name, so PEFT's files cannot tell of it; save it in our own form"
        )
    return [_map(claim, shapes) for claim in claims]


def own_map(module: str, bindings: Sequence[Binding], shapes: Mapping[str, Shape]) -> Map | None:
    """The map of a published module; None where no linear layer of the model is called so."""
    claim = claim_on_published(f"{module}.weight", bindings)
    if claim is None or any(name not in shapes for name in claim.own):
        return None
    try:
        return _map(claim, shapes)
    except WeightsError:
        return None


def _map(claim: Claim, shapes: Mapping[str, Shape]) -> Map:
    layers = tuple(name.removesuffix(".weight") for name in claim.own)
    counts = tuple(shapes[name][0] for name in claim.own)
    rows, turned = _rows(claim, counts)
    return Map(claim.key.removesuffix(".weight"), layers, rows, counts, turned)


def _rows(claim: Claim, counts: Sequence[int]) -> tuple[Tensor, bool]:
    """Which of our rows the published outputs are, found by sending numbered rows of two columns through the layout."""
    op, numbers = claim.rule.op, claim.binding.numbers
    total = torch.arange(sum(counts), dtype=torch.float64)
    probes = list(torch.stack((total, total + 0.5), 1).split(list(counts)))
    known = isinstance(op, (OneToOne, Fuse)) or (isinstance(op, Split) and not isinstance(op, Copies))
    try:
        sent = None
        if isinstance(op, Split) and known:
            sent = op.save(probes, numbers)
        elif isinstance(op, (OneToOne, Fuse)):
            sent = op.save(probes[0], numbers)
    except (WeightsError, RuntimeError, IndexError):
        sent = None
    for turned in (False, True):
        if sent is not None and sent.ndim == 2:
            rows_O2 = sent.T if turned else sent
            if rows_O2.shape[1] == 2 and bool((rows_O2[:, 1] - rows_O2[:, 0] == 0.5).all()):
                return rows_O2[:, 0].long(), turned
    raise WeightsError(
        f"{claim.key} is not published as a matrix with our rows; save its adapter in our own form"
    )
