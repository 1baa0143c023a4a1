"""How learning rates go over a stage."""

from __future__ import annotations

import math

from beholder.cards.schema import Stage


def learning_rate_factor(stage: Stage, step: int, share: float) -> float:
    """What the rules' learning rates are multiplied by in `step` (from 0), `share` of the schedule being behind: a linear rise
    over `stage.warmup` steps, times the stage's schedule.
    """
    rise = min(1.0, (step + 1) / max(1, stage.warmup))
    return rise * (stage.floor + (1 - stage.floor) * _fall(stage, min(1.0, share)))


def _fall(stage: Stage, share: float) -> float:
    """From 1 at the start to 0 at the end, but for a constant schedule."""
    if stage.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share))
    if stage.schedule == "linear":
        return 1 - share
    if stage.schedule == "wsd":
        return min(1.0, (1 - share) / stage.decay)
    return 1.0
