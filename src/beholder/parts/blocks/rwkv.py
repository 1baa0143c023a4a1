"""RWKV's two mixers (2305.13048, section 3.1): one remembers keys and values that fade, channel by channel; the other is an MLP
whose tokens see the one before them.

B rows, T positions, D width, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.parts.blocks.recurrence import RecurrentConfig, RecurrentMixer, real_tokens, wide
from beholder.parts.blocks.step import NO_PARTS, Step

NOTHING = -1e38  # the largest exponent before the first token


@dataclass(frozen=True)
class TimeMix(RecurrentConfig):
    """inner: channels that remember."""

    inner: int

    def tiny(self) -> TimeMix:
        return self.but(inner=32)

    def build(self, dim: int, index: int = 0) -> TimeMixer:
        return TimeMixer(self, dim, index)


@dataclass(frozen=True)
class ChannelMix(RecurrentConfig):
    """hidden: inner width."""

    hidden: int

    def tiny(self) -> ChannelMix:
        return self.but(hidden=48)

    def build(self, dim: int, index: int = 0) -> ChannelMixer:
        return ChannelMixer(self, dim, index)


class ShiftedMixer(RecurrentMixer):
    """A mixer that reads shares of each token and of the one before it; `shares` are named by what reads them."""

    def __init__(self, index: int, dim: int, names: Sequence[str]) -> None:
        super().__init__(index)
        self.names = tuple(names)
        self.shares = nn.ParameterDict({name: nn.Parameter(torch.rand(dim)) for name in names})

    def mixed(self, x_BTD: Tensor, memory: dict[str, Tensor], lengths: Sequence[int] | None) -> list[Tensor]:
        """What each name reads, (B, T, D). `memory["last"]` is each row's last token (B, 1, D)."""
        before = memory.get("last", x_BTD.new_zeros(len(x_BTD), 1, x_BTD.shape[2]))
        joined_BSD = torch.cat((before, x_BTD), 1)
        if lengths is None:
            memory["last"] = joined_BSD[:, -1:].clone()
        else:
            rows_B = torch.arange(len(x_BTD), device=x_BTD.device)
            ends_B = torch.tensor(list(lengths), device=x_BTD.device)
            memory["last"] = joined_BSD[rows_B, ends_B][:, None]
        earlier_BTD = joined_BSD[:, :-1]
        return [earlier_BTD + (x_BTD - earlier_BTD) * self.shares[name] for name in self.names]


class TimeMixer(ShiftedMixer):
    """out(sigmoid(r) wkv): wkv is the mean of values so far, each weighted by exp(key) that fades by exp(-exp(decay)) with
    every token, the newest by exp(key + first).
    """

    def __init__(self, config: TimeMix, dim: int, index: int) -> None:
        super().__init__(index, dim, ("key", "value", "receptance"))
        self.decay = nn.Parameter(torch.linspace(-5, 3, config.inner))
        self.first = nn.Parameter(torch.zeros(config.inner))
        self.key, self.value, self.receptance = (nn.Linear(dim, config.inner, bias=False) for _ in range(3))
        self.output = nn.Linear(config.inner, dim, bias=False)

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        memory = self.memory(step, parts)
        keys, values, gates = self.mixed(x_BTD, memory, step.lengths)
        k_BTC, v_BTC = wide(self.key(keys)), wide(self.value(values))
        mean_BTC = self._remembered(k_BTC, v_BTC, memory, real_tokens(x_BTD, step.lengths))
        return self.output(torch.sigmoid(self.receptance(gates)) * mean_BTC.to(x_BTD.dtype))

    def _remembered(
        self, k_BTC: Tensor, v_BTC: Tensor, memory: dict[str, Tensor], real_BT: Tensor | None
    ) -> Tensor:
        """Sums of weights and of weighted values are kept divided by exp of their largest exponent, so that none overflows."""
        zeros_BC = torch.zeros_like(k_BTC[:, 0])
        total, weight, top = memory.get(
            "sums", torch.stack((zeros_BC, zeros_BC, zeros_BC + NOTHING), 1)
        ).unbind(1)
        fading, first = -wide(self.decay).exp(), wide(self.first)
        means = []
        for number, (k, v) in enumerate(zip(k_BTC.unbind(1), v_BTC.unbind(1), strict=True)):
            highest = torch.maximum(top, k + first)
            old, new = (top - highest).exp(), (k + first - highest).exp()
            means.append((old * total + new * v) / (old * weight + new))
            highest = torch.maximum(top + fading, k)
            old, new = (top + fading - highest).exp(), (k - highest).exp()
            after = (old * total + new * v, old * weight + new, highest)
            if real_BT is None:
                total, weight, top = after
            else:  # padding leaves all as it is
                real_B1 = real_BT[:, number, None]
                total, weight, top = (
                    torch.where(real_B1, later, kept)
                    for later, kept in zip(after, (total, weight, top), strict=True)
                )
        memory["sums"] = torch.stack((total, weight, top), 1)
        return torch.stack(means, 1)


class ChannelMixer(ShiftedMixer):
    """sigmoid(r) value(relu(k)^2)."""

    def __init__(self, config: ChannelMix, dim: int, index: int) -> None:
        super().__init__(index, dim, ("key", "receptance"))
        self.key = nn.Linear(dim, config.hidden, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(config.hidden, dim, bias=False)

    def forward(self, x_BTD: Tensor, step: Step, parts: Mapping[str, nn.Module] = NO_PARTS) -> Tensor:
        keys, gates = self.mixed(x_BTD, self.memory(step, parts), step.lengths)
        return torch.sigmoid(self.receptance(gates)) * self.value(F.relu(self.key(keys)).square())
