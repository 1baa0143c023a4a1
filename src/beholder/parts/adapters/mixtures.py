"""Mixtures of low-rank adapters on any linear map: a router of its own gives each token some of E changes (MoLE, 2404.13628;
LLaVA-MoLE, 2401.16160, puts them on MLPs alone, for which cards have `LoraExperts`).

N tokens, E experts, A active ones, I inputs, O outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.adapters.base import AdaptedLinear, LinearAdapter
from beholder.parts.blocks.moe import load_balance

Losses = dict[str, list[Tensor]]
_collecting: ContextVar[Losses | None] = ContextVar("losses of mixtures", default=None)


@dataclass(frozen=True)
class LoraMixture(LinearAdapter):
    """W x becomes W x + alpha / rank sum_e g_e B_e A_e x, where g is the softmax of a router's scores of x over its `active`
    best experts, or over all where that is 0. alpha: 2 * rank where None.
    """

    rank: int = 8
    experts: int = 4
    active: int = 2
    alpha: float | None = None

    kind: ClassVar[str] = "mixture"
    leaves: ClassVar[tuple[str, ...]] = ("mixture_a", "mixture_b", "mixture_router")

    def __post_init__(self) -> None:
        if self.rank < 1 or self.experts < 1 or not 0 <= self.active <= self.experts:
            raise BeholderError(
                f"a mixture of {self.experts} experts of rank {self.rank}, {self.active} active; there must be at least 1 "
                "of rank 1, and no more may be active than there are"
            )

    def build(self, base: nn.Module, name: str) -> MixtureLinear:
        return MixtureLinear(base, self)


class MixtureLinear(AdaptedLinear):
    """(..., I) -> (..., O). While training, how evenly tokens fall on experts goes to `collecting`; padding counts too."""

    leaves = LoraMixture.leaves
    kind = LoraMixture.kind

    def __init__(self, base: nn.Module, config: LoraMixture) -> None:
        super().__init__(base)
        self.config = config
        self.scaling = (2.0 * config.rank if config.alpha is None else config.alpha) / config.rank
        self.mixture_a = self.new(config.experts * config.rank, self.in_features)
        self.mixture_b = self.new(self.out_features, config.experts * config.rank)
        self.mixture_router = self.new(config.experts, self.in_features)
        for drawn in (self.mixture_a, self.mixture_router):
            nn.init.kaiming_uniform_(drawn, a=5**0.5)

    def adapt(self, x: Tensor, y: Tensor) -> Tensor:
        shares = self.shares(x).to(x.dtype).repeat_interleave(self.config.rank, -1)
        low = F.linear(x, self.mixture_a.to(x.dtype)) * shares
        return y + F.linear(low, (self.mixture_b * self.scaling).to(x.dtype))

    def shares(self, x: Tensor) -> Tensor:
        """How much each expert counts for each token, (..., E) in float32."""
        scores = F.linear(x.float(), self.mixture_router)
        active = self.config.active or self.config.experts
        chosen = scores.topk(active, -1).indices
        collected = _collecting.get()
        if self.training and torch.is_grad_enabled():
            balance = load_balance(scores.flatten(0, -2), chosen.flatten(0, -2))
            if collected is not None:
                collected.setdefault("load balance", []).append(balance)
        if active == self.config.experts:
            return scores.softmax(-1)
        others = torch.ones_like(scores, dtype=torch.bool).scatter_(-1, chosen, False)
        return scores.masked_fill(others, float("-inf")).softmax(-1)


@contextmanager
def collecting() -> Iterator[Losses]:
    """What mixtures that run inside the block add to the loss, by name."""
    losses: Losses = {}
    token = _collecting.set(losses)
    try:
        yield losses
    finally:
        _collecting.reset(token)
