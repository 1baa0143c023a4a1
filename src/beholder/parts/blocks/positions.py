"""Positions: learned tables, rotary embeddings that act inside attention (RoFormer, 2104.09864), and ALiBi.

B rows, T positions, S keys, H heads, F frequencies, K head width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from beholder.config import Config
from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.rotary_scaling import RotaryScaling, theta_powers


@dataclass(frozen=True)
class Rotary(Config):
    """theta: base of the wavelengths. pairs: `half` rotates channel i with i + K/2 (GPT-NeoX order), `adjacent` 2i with
    2i + 1 (the paper's order). share: part of each head's channels that turns, the first ones (GPT-NeoX's
    `rotary_pct`). sections: with positions of several axes (time, row, column), how many frequencies follow each axis
    (Qwen2-VL's `mrope_section`); interleaved: in turn instead of one block after the other (Qwen3-VL). by_channel: axes have
    twice as many channels instead, one block after the other, so that the two of a pair may follow different axes (HunYuan-VL).
    time_last: sections are of rows, columns and time; rows and columns have frequencies in turn, time the last (ERNIE 4.5-VL).
    """

    theta: float = 10000.0
    pairs: str = "half"
    scaling: RotaryScaling | None = None
    share: float = 1.0
    sections: tuple[int, ...] = ()
    interleaved: bool = False
    by_channel: bool = False
    time_last: bool = False

    def __post_init__(self) -> None:
        if self.pairs not in ("half", "adjacent"):
            raise UnknownName("rotary pairs", self.pairs, ("half", "adjacent"))
        if not 0 < self.share <= 1:
            raise BeholderError(
                f"a share of {self.share} of the channels cannot turn; give one above 0 and up to 1"
            )

    def tiny(self) -> Rotary:
        """For heads of 8 channels."""
        count, small = len(self.sections), super().tiny()
        if not count:
            return small
        share = max(self.share, count / 4)  # a pair for each axis
        return small.but(share=share, sections=(int(4 * share) - count + 1,) + (1,) * (count - 1))

    def turned(self, head_dim: int) -> int:
        """Channels of a head that turn."""
        return int(head_dim * self.share + 1e-6)  # a share of 30 / 44 of 44 channels is a little under 30

    def frequencies(
        self, head_dim: int, device: torch.device | None = None, *, length: int | Tensor | None = None
    ) -> Tensor:
        """(turned / 2,) radians per position, float32. length: of the text so far, for scalings that look at it, or of
        each row's (B, 1); then (B, turned / 2).
        """
        width = self.turned(head_dim)
        if self.scaling is not None:
            return self.scaling.frequencies(self.theta, width, length, device)
        return 1.0 / theta_powers(self.theta, width, device)

    def tables(self, positions: Tensor, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines (B, 1, T, turned), computed in float32, for `rotate`. positions: (B, T) or (axes, B, T)."""
        scaling = self.scaling
        if scaling is not None and scaling.by_length:
            frequencies = self._by_row(positions, head_dim)
        else:
            frequencies = self.frequencies(head_dim, positions.device)
        angles_BTF = positions.float()[..., None] * frequencies
        if positions.ndim == 3 and not self.by_channel:
            angles_BTF = self._by_axis(angles_BTF, self.sections)
        joined = (
            torch.cat((angles_BTF, angles_BTF), -1)
            if self.pairs == "half"
            else angles_BTF.repeat_interleave(2, -1)
        )
        if positions.ndim == 3 and self.by_channel:
            joined = self._by_axis(joined, tuple(2 * count for count in self.sections))
        cos, sin = joined.cos(), joined.sin()
        if scaling is not None and scaling.magnitude != 1.0:
            cos, sin = cos * scaling.magnitude, sin * scaling.magnitude
        return cos.to(dtype)[:, None], sin.to(dtype)[:, None]

    def _by_row(self, positions: Tensor, head_dim: int) -> Tensor:
        """(B, 1, F): each row's frequencies, for a text as long as its last position says."""
        last_B = positions.reshape(-1, *positions.shape[-2:]).amax((0, 2))
        return self.frequencies(head_dim, positions.device, length=last_B[:, None] + 1)[:, None]

    def _by_axis(self, angles_ABTF: Tensor, sections: tuple[int, ...]) -> Tensor:
        """The angles whose frequencies (or channels) belong to each axis, (B, T, F)."""
        if sum(sections) != angles_ABTF.shape[-1] or len(sections) != len(angles_ABTF):
            raise BeholderError(
                f"positions of {len(angles_ABTF)} axes over {angles_ABTF.shape[-1]} frequencies do not divide into "
                f"sections {sections}"
            )
        if not self.interleaved and not self.time_last:
            pieces = angles_ABTF.split(list(sections), -1)
            return torch.cat([piece[axis] for axis, piece in enumerate(pieces)], -1)
        axes_F = torch.zeros(angles_ABTF.shape[-1], dtype=torch.long)
        if self.time_last:
            plane = sum(sections[:2])
            axes_F[:plane] = torch.arange(plane) % 2 + 1
        for axis in range(1, len(self.sections) * self.interleaved):
            axes_F[axis : self.sections[axis] * len(self.sections) : len(self.sections)] = axis
        index = axes_F.to(angles_ABTF.device).expand(angles_ABTF.shape[1:])
        return angles_ABTF.gather(0, index[None])[0]

    @property
    def of_keys(self) -> Rotary:
        """What turns keys, where that is not what turns queries."""
        return self

    def rotate(self, x_BHTK: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """The heads turned by the angles in `tables`."""
        cos, sin = tables
        width = cos.shape[-1]
        if width < x_BHTK.shape[-1]:
            turned, kept = x_BHTK[..., :width], x_BHTK[..., width:]
            return torch.cat((turn_pairs(turned, cos, sin, self.pairs), kept), -1)
        return turn_pairs(x_BHTK, cos, sin, self.pairs)


def turn_pairs(x: Tensor, cos: Tensor, sin: Tensor, pairs: str) -> Tensor:
    """Channels turned in `half` or `adjacent` pairs; cosines and sines hold each pair's twice, where its channels are."""
    if pairs == "half" and x.requires_grad and x.device.type == "cpu" and not cos.requires_grad:
        given: Tensor = _Turned.apply(x, cos, sin)
        return given
    if pairs == "half":
        first, second = x.chunk(2, -1)
        turned = torch.cat((-second, first), -1)
    else:
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return x * cos + turned * sin


class _Turned(torch.autograd.Function):
    """`turn_pairs` in halves, whose gradient is turned back; nothing but the tables is kept. In the type of `x`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos.chunk(2, -1), sin.chunk(2, -1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        first, second = sin.chunk(2, -1)
        return _turned(given, cos.chunk(2, -1), (-second, -first)), None, None


def _turned(x: Tensor, cos: Sequence[Tensor], sin: Sequence[Tensor]) -> Tensor:
    """cos, sin: of the first and of the second channels of pairs."""
    y = torch.empty_like(x)
    (first, second), (y_first, y_second) = x.chunk(2, -1), y.chunk(2, -1)
    y_first.copy_((first * cos[0]).addcmul_(second, sin[0], value=-1))
    y_second.copy_((second * cos[1]).addcmul_(first, sin[1]))
    return y


@dataclass(frozen=True)
class XPos(Rotary):
    """xPos (2212.10554): scores fall with distance, faster in channels that turn fast. Queries at position n are multiplied by
    zeta^(n / base) and keys divided, zeta_i = (2i / K + gamma) / (1 + gamma) for the channels of pair i. keys: the tables are
    those of keys.
    """

    pairs: str = "adjacent"
    base: float = 512.0
    gamma: float = 0.4
    keys: bool = False

    @property
    def of_keys(self) -> XPos:
        return self.but(keys=True)

    def tables(self, positions: Tensor, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        width = self.turned(head_dim)
        steps_F = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device) / width
        zeta_F = (steps_F + self.gamma) / (1 + self.gamma)
        power_BT1 = positions.float()[..., None] / (-self.base if self.keys else self.base)
        scale_BTF = zeta_F**power_BT1
        scale_BTK = (
            torch.cat((scale_BTF, scale_BTF), -1)
            if self.pairs == "half"
            else scale_BTF.repeat_interleave(2, -1)
        )
        cos, sin = super().tables(positions, head_dim, torch.float32)
        return (cos * scale_BTK[:, None]).to(dtype), (sin * scale_BTK[:, None]).to(dtype)


@dataclass(frozen=True)
class QueryScale(Config):
    """Queries grow with their position, so that attention to long texts stays sharp. Up to `length` tokens the factor is 1.

    beta: None for log(p + 1) / log(length) at position p (log-n scaling, official `modeling_qwen.py`); else
    1 + beta ln(1 + floor(p / length)) (official `get_llama_4_attn_scale`). first: number of the first position (1 in Llama 4).
    """

    length: int
    beta: float | None = None
    first: int = 0

    def factors(self, positions: Tensor) -> Tensor:
        """(B, 1, T, 1). positions: (B, T), or (axes, B, T) of which the farthest counts."""
        places_BT = (positions.amax(0) if positions.ndim == 3 else positions).float() + self.first
        if self.beta is None:
            factors_BT = (torch.log(places_BT + 1) / math.log(self.length)).clamp(min=1.0)
        else:
            factors_BT = 1 + self.beta * torch.log1p(torch.floor(places_BT / self.length))
        return factors_BT[:, None, :, None]


@dataclass(frozen=True)
class Alibi(Config):
    """Scores fall with distance, by a slope for each head (2108.12409). max_bias: the first slope is 2^(-max_bias / H).
    factor: of the whole, where a model scales scores after adding the bias (Falcon). rounded: slopes and what they make of
    positions have the precision of bfloat16 (Falcon's code, whatever type it runs in).
    """

    max_bias: float = 8.0
    factor: float = 1.0
    rounded: bool = False

    def slopes(self, num_heads: int) -> Tensor:
        """(H,). Where H is no power of two, the next one's slopes in the order odd, even (official `build_alibi_tensor`)."""
        full = 2 ** math.floor(math.log2(num_heads))

        def geometric(count: int) -> Tensor:
            return 2.0 ** (-self.max_bias / count * torch.arange(1, count + 1, dtype=torch.float32))

        return torch.cat((geometric(full), geometric(2 * full)[::2]))[:num_heads]

    def bias(self, queries_BT: Tensor, keys_BS: Tensor, num_heads: int) -> Tensor:
        """(B, H, T, S): -slope times the distance from query to key."""
        slopes_H11 = self.slopes(num_heads).to(queries_BT.device)[:, None, None]
        if self.rounded:
            heights_BHT1, heights_BH1S = (
                (slopes_H11.bfloat16() * positions[:, None]).float()
                for positions in (queries_BT[:, :, None], keys_BS[:, None, :])
            )
            return self.factor * (heights_BH1S - heights_BHT1)
        distance_B1TS = (queries_BT[:, :, None] - keys_BS[:, None, :])[:, None].float()
        return -self.factor * slopes_H11 * distance_B1TS


def learned(*shape: int, std: float = 0.02) -> nn.Parameter:
    """A learned tensor, drawn with a standard deviation; 0.02 is what vision transformers start their tables from."""
    return nn.Parameter(torch.empty(*shape).normal_(std=std))


def at_places(x_ND: Tensor, places_ND: Tensor) -> Tensor:
    """A view's tokens with the vectors of their places; raises `BeholderError` where there are not as many."""
    if len(x_ND) != len(places_ND):
        raise BeholderError(f"the connector has {len(places_ND)} positions, a view {len(x_ND)} tokens")
    return x_ND + places_ND


def sinusoids(length: int, dim: int, *, first: int = 0) -> Tensor:
    """(length, dim) of positions `first` on: sines in the first half of the channels, cosines in the second; the
    wavelengths run from 2 pi to 10000 * 2 pi with both ends included (official fairseq and Whisper tables).
    """
    return waves(torch.arange(first, first + length), dim)


def waves(positions: Tensor, dim: int, *, ends: bool = True) -> Tensor:
    """(..., dim) for positions (...), float32; without `ends` the longest wavelength is left out, as in the paper
    (1706.03762, section 3.5).
    """
    half = dim // 2
    steps_F = torch.arange(half, dtype=torch.float32, device=positions.device)
    rates_F = torch.exp(steps_F * -(math.log(10000.0) / (half - 1 if ends else half)))
    angles = positions.float()[..., None] * rates_F
    return torch.cat((angles.sin(), angles.cos()), -1)
