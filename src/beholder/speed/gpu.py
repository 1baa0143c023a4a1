"""A loaded model made ready for a GPU."""

from __future__ import annotations

from beholder.generate.runtime import Runtime
from beholder.model import Model
from beholder.speed.graphs import FixedSteps, allowed, why_not
from beholder.speed.varlen import use_packed


def runtime_of(model: Model) -> Runtime:
    """How a model's answers are computed where it is. On CUDA its encoders attend to pictures of several sizes at once, and
    answers go on by steps of fixed shape where these cover it.
    """
    if model.device.type != "cuda":
        return Runtime()
    use_packed(model.branches)
    if not allowed() or why_not(model) is not None:
        return Runtime()
    fixed = FixedSteps(model)
    return Runtime(fixed, fixed, rolling=False)
