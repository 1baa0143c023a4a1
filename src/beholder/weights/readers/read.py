"""What readers of parts give, and what they have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from beholder.config import Config
from beholder.errors import BeholderError, UnknownName
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.rotary_scaling import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRope,
    NtkScaling,
    Proportional,
    RotaryScaling,
    Yarn,
)
from beholder.parts.contracts import HeadConfig
from beholder.weights.layout import Binding, Layout
from beholder.weights.ops import Numbers
from beholder.weights.readers.fields import Fields

FULL, SLIDING = "full_attention", "sliding_attention"  # kinds of `layer_types`
C = TypeVar("C", bound=Config, covariant=True)

ACTIVATION_NAMES = {
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "swish": "silu",
}


@dataclass(frozen=True)
class Recorded:
    """A tensor of a recorded reference. skip: tokens in front of each view's (class tokens) that are no features.
    channels_first: (V, D, rows, columns) where ours are tokens. times: ours are so many times theirs (features that are scaled
    as words are). first: it holds the first tokens alone (those of pictures, where recordings follow).
    padded: it has padding behind each view's tokens. whole: the official forward reads the padding of rows as text.
    """

    name: str
    skip: int = 0
    channels_first: bool = False
    times: float = 1.0
    first: bool = False
    padded: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Read(Generic[C]):
    """A part as an official config describes it.

    layout:  the bare model's names, with the numbers its operations need
    older:   layouts of releases that name the same weights otherwise
    body:    prefixes under which stand-alone releases hold the bare model, the usual one first
    head:    prefix of a language model's output matrix
    stages:  where a recorded reference of the part alone holds its stages, if not where all do
    heads, rest: what a stand-alone release has besides, and where it stands
    """

    config: C
    layout: Layout
    numbers: Numbers = field(default_factory=dict)
    body: tuple[str, ...] = ("model.",)
    head: str = "lm_head."
    stages: Mapping[str, Recorded] | None = None
    older: tuple[Layout, ...] = ()
    heads: tuple[HeadConfig, ...] = ()
    rest: tuple[Binding, ...] = ()


Readers = Mapping[str, Callable[[Fields], Read[Any]]]


def read_part(fields: Fields, readers: Readers) -> Read[Any]:
    """The part that `fields` describe by their `model_type`; raises `UnknownName` for a type none of `readers` knows."""
    kind = str(fields.raw("model_type"))
    if kind not in readers:
        raise UnknownName(f"{fields.name}: model_type", kind, readers)
    read = readers[kind](fields)
    fields.finish()
    return read


def activation_name(fields: Fields, key: str, default: str) -> str:
    """Our name of an official activation."""
    name = fields.get(key, default)
    return ACTIVATION_NAMES.get(name, name)


def head_dim(fields: Fields, dim: int, num_heads: int, default: int | None = None) -> int | None:
    """The width of a head; None where it is the model's width over the heads, as our configs say it."""
    width = fields.count("head_dim", default)
    return None if width is not None and width * num_heads == dim else width


def rotary(
    fields: Fields,
    context: int,
    *,
    theta: float = 10000.0,
    share: float = 1.0,
    pairs: str = "half",
    sections: tuple[int, ...] = (),
    layers: str = FULL,
) -> Rotary:
    """`rope_parameters` of new files, `rope_theta` with `rope_scaling` of older ones. theta, share, sections: the
    official defaults. layers: which ones, where a file has settings for two kinds; older files scale the full ones alone.
    """
    settings = fields.part("rope_parameters")
    if not len(settings):
        settings = fields.part("rope_scaling")
    if FULL in settings or SLIDING in settings:
        settings = settings.part(layers)
    elif layers != FULL:
        settings = Fields({}, settings.name)
    base = settings.positive("rope_theta", fields.positive("rope_theta", theta))
    part = settings.positive("partial_rotary_factor", fields.positive("partial_rotary_factor", share))
    older = settings.raw("type")
    settings.ignore("max_position_embeddings")  # the model's own once more
    kind = settings.raw("rope_type") or older or "default"
    if not isinstance(kind, str) or kind not in SCALINGS:
        raise UnknownName(f"{fields.name}: rope type", str(kind), SCALINGS)
    original = settings.count(
        "original_max_position_embeddings", fields.count("original_max_position_embeddings", context)
    )
    scaling = SCALINGS[kind](settings, original, context)
    part = 1.0 if isinstance(scaling, Proportional) else part  # which pairs turn is then the scaling's
    axes = settings.get("mrope_section", list(sections))
    if not all(type(count) is int and count > 0 for count in axes):
        raise BeholderError(f"{settings.name}: mrope_section is {axes}; expected whole numbers above 0")
    turned = Rotary(base, pairs, scaling, part, tuple(axes), settings.get("mrope_interleaved", False))
    settings.finish()
    return turned


def _unscaled(*_: Any) -> None:
    return None


def _linear(settings: Fields, *_: int) -> RotaryScaling:
    return LinearScaling(settings.positive("factor"))


def _llama3(settings: Fields, original: int, _: int) -> RotaryScaling:
    return Llama3Scaling(
        factor=settings.positive("factor"),
        low_freq_factor=settings.positive("low_freq_factor"),
        high_freq_factor=settings.positive("high_freq_factor"),
        original_length=original,
    )


def _proportional(settings: Fields, *_: int) -> RotaryScaling:
    return Proportional(settings.positive("partial_rotary_factor", 1.0), settings.positive("factor", 1.0))


def _dynamic(settings: Fields, _: int, context: int) -> RotaryScaling:
    """HunYuan's files call a fixed `alpha` dynamic."""
    if settings.raw("alpha"):
        settings.ignore("factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")
        return NtkScaling(settings.positive("alpha"))
    return DynamicScaling(settings.positive("factor"), context)


def _yarn(settings: Fields, original: int, context: int) -> RotaryScaling:
    """Phi-3's first files call LongRoPE so."""
    if "short_factor" in settings:
        return _longrope(settings, original, context)
    return Yarn(
        factor=settings.positive("factor", context / original),
        original_length=original,
        beta_fast=settings.positive("beta_fast", 32.0),
        beta_slow=settings.positive("beta_slow", 1.0),
        attention_factor=_optional(settings, "attention_factor"),
        mscale=_optional(settings, "mscale"),
        mscale_all_dim=_optional(settings, "mscale_all_dim"),
        truncate=settings.get("truncate", True),
    )


def _longrope(settings: Fields, original: int, context: int) -> RotaryScaling:
    """The magnitude follows from how much longer texts became (2402.13753, official `_compute_longrope_parameters`)."""
    factor = settings.positive("factor", context / original)
    derived = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    return LongRope(
        short_factors=_numbers(settings, "short_factor"),
        long_factors=_numbers(settings, "long_factor"),
        original_length=original,
        attention_factor=_optional(settings, "attention_factor") or derived,
    )


def _numbers(settings: Fields, key: str) -> tuple[float, ...]:
    settings.need(key)
    values = settings.get(key, [])
    if not values or not all(type(value) in (int, float) and value > 0 for value in values):
        raise BeholderError(f"{settings.name}: {key} is {values!r}; expected a list of numbers above 0")
    return tuple(float(value) for value in values)


def _optional(settings: Fields, key: str) -> float | None:
    """A number above 0; None where the field is absent, or 0, which the official code treats alike."""
    return None if not settings.raw(key) else settings.positive(key)


SCALINGS: Mapping[str, Callable[[Fields, int, int], RotaryScaling | None]] = {
    "default": _unscaled,
    "mrope": _unscaled,
    "linear": _linear,
    "proportional": _proportional,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "su": _longrope,
}
