"""How the next token is chosen from scores.

B rows, V words of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from beholder.errors import BeholderError, UnknownName
from beholder.generate.forms import Form, form_of

MAX_SEED = 2**63 - 1

# name -> type, smallest and largest value allowed
RANGES: dict[str, tuple[type, float, float]] = {
    "max_tokens": (int, 1, 1_000_000),
    "min_tokens": (int, 0, 1_000_000),
    "temperature": (float, 0.0, 10.0),
    "top_k": (int, 0, 1_000_000),
    "top_p": (float, 1e-6, 1.0),
    "min_p": (float, 0.0, 1.0),
    "repetition_penalty": (float, 0.01, 100.0),
    "seed": (int, 0, MAX_SEED),
    "logprobs": (int, 0, 100),
    "beams": (int, 1, 64),
    "length_penalty": (float, -10.0, 10.0),
}
MAX_STOPS = 64
COLDEST = 1e-30  # smaller temperatures are 0 in float32


@dataclass(frozen=True)
class Sampling:
    """max_tokens: new tokens at most. min_tokens: no end comes before so many. temperature: 0 takes the best word each time;
    otherwise scores are divided by it.

    top_k: only so many best words, 0 for all. top_p: only the best words that together reach this
    probability. min_p: only words at least this likely relative to the best. repetition_penalty: scores of
    words seen before, prompt included, are lowered by this factor (CTRL, 1909.05858). stops: strings that end
    the answer and are not part of it. seed: the same seed gives the same answer whatever else is in the
    batch; None draws a new one. schema (JSON), regex, choice: what the whole answer must look like, one of
    them at most. logprobs: tell each token's logarithm of probability, and those of so many likeliest ones.
    beams: so many answers are followed at a time, and the likeliest whole one is given; length_penalty: their
    summed logarithms of probability are divided by length to this power.
    """

    max_tokens: int = 256
    min_tokens: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stops: Sequence[str] = ()
    seed: int | None = None
    schema: Mapping[str, Any] | str | None = None
    regex: str | None = None
    choice: Sequence[str] | None = None
    logprobs: int | None = None
    beams: int = 1
    length_penalty: float = 1.0
    form: Form | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        for name, (kind, low, high) in RANGES.items():
            value = getattr(self, name)
            if not (name in ("seed", "logprobs") and value is None):
                _check_number(name, value, kind, low, high)
        stops = (self.stops,) if isinstance(self.stops, str) else self.stops
        if not isinstance(stops, (tuple, list)) or not all(isinstance(stop, str) and stop for stop in stops):
            raise BeholderError(f"stops = {self.stops!r}; give a list of strings that are not empty")
        if len(stops) > MAX_STOPS:
            raise BeholderError(f"stops holds {len(stops)} strings; give at most {MAX_STOPS}")
        object.__setattr__(self, "stops", tuple(stops))
        apart = {
            "temperature": self.temperature > 0,
            "repetition_penalty": self.repetition_penalty != 1,
            "logprobs": self.logprobs is not None,
            "min_tokens": self.min_tokens > 0,
            "a form": any(given is not None for given in (self.schema, self.regex, self.choice)),
        }
        if self.beams > 1 and any(apart.values()):
            told = ", ".join(name for name, used in apart.items() if used)
            raise BeholderError(f"beams = {self.beams} does not go with {told}; leave one out")
        object.__setattr__(self, "form", form_of(self.schema, self.regex, self.choice))

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Sampling:
        """From options by name; an unknown one raises `UnknownName`."""
        names = [each.name for each in fields(cls) if each.init]
        for name in options:
            if name not in names:
                raise UnknownName("sampling option", name, names)
        return cls(**options)

    @property
    def greedy(self) -> bool:
        """Whether nothing is left to chance."""
        return self.temperature == 0

    def generator(self) -> torch.Generator:
        """This request's own source of chance, on the CPU so that a seed means the same on every device."""
        source = torch.Generator()
        if self.seed is None:
            source.seed()
        else:
            source.manual_seed(self.seed)
        return source


def next_ids(
    logits_BV: Tensor,
    samplings: Sequence[Sampling],
    generators: Sequence[torch.Generator],
    seen_BV: Tensor | None = None,
) -> list[int]:
    """One id per row. seen_BV marks the words a repetition penalty is for. A row draws from its own generator
    alone, so that it does not depend on the other rows.
    """
    logits_BV = logits_BV.float()
    if seen_BV is not None:
        logits_BV = penalised(logits_BV, seen_BV, [s.repetition_penalty for s in samplings])
    ids = best_ids(logits_BV)
    chance = [row for row, sampling in enumerate(samplings) if not sampling.greedy]
    if chance:
        drawn = _draw(
            logits_BV[chance], [samplings[row] for row in chance], [generators[row] for row in chance]
        )
        for row, token_id in zip(chance, drawn, strict=True):
            ids[row] = token_id
    return ids


def best_ids(logits_BV: Tensor) -> list[int]:
    """The best word of each row. On a processor by this thread alone: PyTorch's others would spin while compiled steps run."""
    if logits_BV.device.type != "cpu":
        return logits_BV.argmax(-1).tolist()
    return logits_BV.numpy().argmax(-1).tolist()


def penalised(logits_BV: Tensor, seen_BV: Tensor, penalties: Sequence[float]) -> Tensor:
    """Scores of seen words divided by the row's penalty where positive, multiplied by it where negative."""
    penalty_B1 = logits_BV.new_tensor(list(penalties))[:, None]
    lowered_BV = torch.where(logits_BV > 0, logits_BV / penalty_B1, logits_BV * penalty_B1)
    return torch.where(seen_BV, lowered_BV, logits_BV)


def filtered(logits_BV: Tensor, samplings: Sequence[Sampling]) -> tuple[Tensor, Tensor]:
    """Probabilities (B, V) in falling order with those of excluded words at 0, and the ids (B, V) they belong
    to. Filters apply in the order temperature, top_k, top_p, min_p, each to what the one before left.
    """

    def column(values: list[float]) -> Tensor:
        return logits_BV.new_tensor(values)[:, None]

    # Scores fall from 0, so that the coldest temperature divides to -inf at worst and never to NaN.
    falling_BV = logits_BV - logits_BV.amax(-1, keepdim=True)
    scaled_BV = falling_BV / column([max(s.temperature, COLDEST) for s in samplings])
    scores_BV, ids_BV = scaled_BV.sort(dim=-1, descending=True, stable=True)
    rank_V = torch.arange(logits_BV.shape[-1], device=logits_BV.device)
    probs_BV = scores_BV.masked_fill(
        rank_V >= column([s.top_k or math.inf for s in samplings]), -math.inf
    ).softmax(-1)
    before_BV = probs_BV.cumsum(-1) - probs_BV
    # A row without top_p keeps its whole tail, whatever rounding makes of the sum.
    probs_BV = probs_BV.masked_fill(
        before_BV >= column([s.top_p if s.top_p < 1 else math.inf for s in samplings]), 0.0
    )
    floor_B1 = probs_BV[:, :1] * column([s.min_p for s in samplings])
    return probs_BV.masked_fill(probs_BV < floor_B1, 0.0), ids_BV


def _draw(
    logits_BV: Tensor, samplings: Sequence[Sampling], generators: Sequence[torch.Generator]
) -> list[int]:
    """The word under a uniform point of each row's cumulated probabilities."""
    probs_BV, ids_BV = filtered(logits_BV, samplings)
    points = [torch.rand((), generator=generator, dtype=torch.float64) for generator in generators]
    sums_BV = probs_BV.double().cumsum(-1)
    points_B1 = torch.stack(points)[:, None].to(sums_BV.device) * sums_BV[:, -1:]
    places_B1 = torch.searchsorted(sums_BV, points_B1, right=True).clamp(max=logits_BV.shape[-1] - 1)
    return ids_BV.gather(-1, places_B1)[:, 0].tolist()


def _check_number(name: str, value: Any, kind: type, low: float, high: float) -> None:
    what, most = ("a whole number", str(high)) if kind is int else ("a number", f"{high:g}")
    wanted = f"give {what} from {low:g} to {most}"
    allowed = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise BeholderError(f"{name} = {value!r} is a {type(value).__name__}; {wanted}")
    if not low <= value <= high:  # false for NaN
        raise BeholderError(f"{name} = {value!r} is out of range; {wanted}")
