"""Steps of answers in compiled code, where there is some and it covers the model."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from beholder.generate import steps
from beholder.model import Model
from beholder.native.decoder import NativeDecoder, why_not
from beholder.native.formats import Formats
from beholder.parts.language.state import State
from beholder.speed.packed import Packed, pack
from beholder.speed.precision import Precision


class CompiledSteps:
    """`steps.advance` by a `NativeDecoder`, or PyTorch's where a state or a prompt is not covered."""

    def __init__(self, decoder: NativeDecoder) -> None:
        self.decoder = decoder

    def __call__(self, model: Model, ids: Sequence[int], state: State, tail: steps.Tail | None) -> Tensor:
        visibility = None if tail is None else tail.visibility()
        if self.decoder.refuses(state, visibility) is not None:
            return steps.advance(model, ids, state, tail)
        return self.decoder.step(ids, state, None if tail is None else tail.positions, visibility)


def pack_with_steps(model: Model, precision: Precision) -> tuple[Packed, CompiledSteps | str]:
    """`pack` a model, its weights also for compiled steps: those, or why there are none. Both keep weights of their own."""
    reason = why_not(model)
    if reason is not None:
        return pack(model, precision), reason
    decoder = NativeDecoder.of(model, Formats(precision.language, precision.head))
    report = pack(model, precision)
    decoder.point_at_words()
    return report, CompiledSteps(decoder)
