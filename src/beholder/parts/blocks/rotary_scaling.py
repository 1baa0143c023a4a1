"""Rotary frequencies for texts longer than those a model was first trained on.

F frequencies. Official forms: `transformers/modeling_rope_utils.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from beholder.config import Config
from beholder.errors import BeholderError

Device = torch.device | None
Length = int | Tensor | None  # of a text, or of each row's (B, 1)


@dataclass(frozen=True)
class RotaryScaling(Config):
    """How frequencies are changed."""

    @property
    def by_length(self) -> bool:
        """Whether the frequencies depend on how long the text is."""
        return False

    @property
    def magnitude(self) -> float:
        """What cosines and sines are multiplied by."""
        return 1.0

    def frequencies(self, theta: float, width: int, length: Length, device: Device) -> Tensor:
        """(width / 2,) radians per position, float32, for a text of `length` tokens; (B, width / 2) for rows of `length`
        (B, 1), which nobody asks for.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Llama3Scaling(RotaryScaling):
    """Llama 3.1's (official `_compute_llama3_parameters`): long wavelengths are divided by `factor`, short ones kept,
    those between are blended.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_length: int

    def frequencies(self, theta: float, width: int, length: Length, device: Device) -> Tensor:
        frequencies_F = 1.0 / theta_powers(theta, width, device)
        wavelengths_F = 2 * math.pi / frequencies_F
        blend_F = (self.original_length / wavelengths_F - self.low_freq_factor) / (
            self.high_freq_factor - self.low_freq_factor
        )
        blend_F = blend_F.clamp(0, 1)
        return (1 - blend_F) * frequencies_F / self.factor + blend_F * frequencies_F


@dataclass(frozen=True)
class LinearScaling(RotaryScaling):
    """Positions divided by `factor` (position interpolation, 2306.15595)."""

    factor: float

    def frequencies(self, theta: float, width: int, length: Length, device: Device) -> Tensor:
        return 1.0 / theta_powers(theta, width, device) / self.factor


@dataclass(frozen=True)
class NtkScaling(RotaryScaling):
    """The base grows by factor^(width / (width - 2)), so that the longest wavelength grows by `factor` and the shortest
    stays (NTK-aware scaling).
    """

    factor: float

    def frequencies(self, theta: float, width: int, length: Length, device: Device) -> Tensor:
        return 1.0 / theta_powers(theta * self.factor ** (width / (width - 2)), width, device)


@dataclass(frozen=True)
class DynamicScaling(RotaryScaling):
    """The base grows with the text beyond `original_length` (dynamic NTK)."""

    factor: float
    original_length: int

    @property
    def by_length(self) -> bool:
        return True

    def frequencies(self, theta: float, width: int, length: Length, device: Device) -> Tensor:
        if isinstance(length, Tensor):
            longer_B1 = length.double().clamp(min=self.original_length)
            growth_B1 = self.factor * longer_B1 / self.original_length - (self.factor - 1)
            return 1.0 / theta_powers(_grown(theta, growth_B1, width), width, device)
        length = max(length or 0, self.original_length)
        growth = self.factor * length / self.original_length - (self.factor - 1)
        return NtkScaling(growth).frequencies(theta, width, None, device)


@dataclass(frozen=True)
class SteppedScaling(RotaryScaling):
    """Dynamic NTK as in Qwen's first models: the base grows each time a text's length passes a power of two times
    `original_length` (official `modeling_qwen.py`, `get_ntk_alpha`). While generating, a text's newest length counts.
    """

    original_length: int

    @property
    def by_length(self) -> bool:
        return True

    def frequencies(self, theta: float, width: int, length: Length, device: Device) -> Tensor:
        if isinstance(length, Tensor):
            share_B1, power_B1 = torch.frexp(length.double().clamp(min=1) / self.original_length)
            octaves_B1 = power_B1 + 1 - (share_B1 == 0.5).int()  # ceil(log2) + 1, exactly
            growth_B1 = (2.0 ** octaves_B1.double() - 1).clamp(min=1)
            return 1.0 / theta_powers(_grown(theta, growth_B1, width), width, device)
        octaves = math.ceil(math.log2(max(length or 1, 1) / self.original_length) + 1)
        return NtkScaling(max(2**octaves - 1, 1)).frequencies(theta, width, None, device)


@dataclass(frozen=True)
class Yarn(RotaryScaling):
    """YaRN (2309.00071): frequencies with fewer than `beta_slow` turns in `original_length` are divided by `factor`,
    those with more than `beta_fast` kept. attention_factor: magnitude; None derives it from `factor` (and DeepSeek's
    `mscale` pair).
    """

    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    @property
    def magnitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return yarn_magnitude(self.factor, self.mscale) / yarn_magnitude(self.factor, self.mscale_all_dim)
        return yarn_magnitude(self.factor)

    def frequencies(self, theta: float, width: int, length: Length, device: Device) -> Tensor:
        def place(turns: float) -> float:
            """The (fractional) frequency that makes so many turns in the original length."""
            return width * math.log(self.original_length / (turns * 2 * math.pi)) / (2 * math.log(theta))

        low, high = place(self.beta_fast), place(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, width - 1)
        if low == high:
            high += 0.001
        ramp_F = (torch.arange(width // 2, dtype=torch.float32, device=device) - low) / (high - low)
        blend_F = 1 - ramp_F.clamp(0, 1)
        powers_F = theta_powers(theta, width, device)
        return (1 - blend_F) / (self.factor * powers_F) + blend_F / powers_F


def yarn_magnitude(factor: float, mscale: float = 1.0) -> float:
    """0.1 m ln(factor) + 1 (2309.00071, section 3.4)."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


@dataclass(frozen=True)
class LongRope(RotaryScaling):
    """LongRoPE (2402.13753): each frequency divided by a factor found by search, one list up to `original_length` tokens,
    another beyond.
    """

    short_factors: tuple[float, ...]
    long_factors: tuple[float, ...]
    original_length: int
    attention_factor: float

    @property
    def by_length(self) -> bool:
        return True

    @property
    def magnitude(self) -> float:
        return self.attention_factor

    def tiny(self) -> LongRope:
        """For heads of 8 channels."""
        return self.but(short_factors=self.short_factors[:4], long_factors=self.long_factors[:4])

    def frequencies(self, theta: float, width: int, length: Length, device: Device) -> Tensor:
        if isinstance(length, Tensor):
            long_F, short_F = (
                _numbers(factors, length.device) for factors in (self.long_factors, self.short_factors)
            )
            factors_F = torch.where(length > self.original_length, long_F, short_F)
        else:
            chosen = self.long_factors if (length or 0) > self.original_length else self.short_factors
            factors_F = torch.tensor(chosen, device=device)
        return 1.0 / (factors_F * theta_powers(theta, width, device))


@lru_cache(maxsize=16)
def _numbers(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A device's own copy."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def _grown(theta: float, growth_B1: Tensor, width: int) -> Tensor:
    """Each row's base, `NtkScaling`'s for its growth."""
    return (theta * growth_B1 ** (width / (width - 2))).float()


def theta_powers(theta: float | Tensor, width: int, device: Device) -> Tensor:
    """theta^(2i / width) for i < width / 2, float32; a row of them for each theta (B, 1)."""
    return theta ** (torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)


@dataclass(frozen=True)
class Proportional(RotaryScaling):
    """Of the pairs of all channels only the first `share` turn, the wavelengths being those of all (official
    `_compute_proportional_rope_parameters`). factor: frequencies are divided by it.
    """

    share: float
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise BeholderError(
                f"a share of {self.share} of the pairs cannot turn; give one above 0 and up to 1"
            )

    def frequencies(self, theta: float, width: int, length: Length, device: Device) -> Tensor:
        frequencies_F = 1.0 / theta_powers(theta, width, device) / self.factor
        frequencies_F[int(self.share * width // 2) :] = 0.0
        return frequencies_F
