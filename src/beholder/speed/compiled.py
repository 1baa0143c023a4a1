"""Steps of answers in compiled code, where there is some and it covers the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from beholder.generate import steps
from beholder.model import Model
from beholder.native.decoder import NativeDecoder, why_not
from beholder.native.formats import Formats
from beholder.native.library import PORTABLE, describe
from beholder.parts.language.state import State
from beholder.speed.packed import Map, Packed, num_bytes, pack
from beholder.speed.precision import Precision


class CompiledSteps:
    """`steps.advance` by a `NativeDecoder`, or PyTorch's where a state or a prompt is not covered."""

    def __init__(self, decoder: NativeDecoder) -> None:
        self.decoder = decoder

    def __call__(self, model: Model, ids: Sequence[int], state: State, tail: steps.Tail | None) -> Tensor:
        visibility = None if tail is None else tail.visibility()
        if model.card.adapters:  # put on since: compiled steps have the weights alone
            return steps.advance(model, ids, state, tail)
        if self.decoder.refuses(state, visibility) is not None:
            return steps.advance(model, ids, state, tail)
        return self.decoder.step(ids, state, None if tail is None else tail.positions, visibility)


def pack_with_steps(model: Model, precision: Precision) -> tuple[Packed, CompiledSteps | str]:
    """`pack` a model, with compiled steps that share its weights, or have their own where the kernels know none of the
    processor's instructions; or why there are none.
    """
    reason = why_not(model)
    if reason is not None:
        return pack(model, precision), reason
    before = num_bytes(model)
    quick = describe()[0] != PORTABLE
    decoder = NativeDecoder.of(model, Formats(precision.language, precision.head), shared=quick)
    where = next(name for name, module in model.named_modules() if module is model.language)
    shared = tuple(
        Map(
            tuple(f"{where}.{name}" for name in names), (linear.out_features, linear.in_features), linear.kind
        )
        for names, linear in decoder.weights.taken.items()
    )
    report = pack(model, precision, partly=quick)
    report = replace(report, maps=(*shared, *report.maps), bytes_before=before)
    decoder.point_at_words()
    return report, CompiledSteps(decoder)
