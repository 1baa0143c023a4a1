"""What stops a run that has gone wrong: losses or gradients that are no numbers, and losses that leave for good."""

from __future__ import annotations

import math
from collections import deque

from beholder.errors import BeholderError

BAD_STEPS = 5  # in a row that are left out before the run is stopped
WINDOW = 50  # steps that the watched mean is of


class Guard:
    """Looks at each step before it is taken.

    divergence: the run stops where the mean loss of 50 steps is so many times the lowest such mean so far; 0 never.
    """

    def __init__(self, divergence: float) -> None:
        self.divergence, self.bad = divergence, 0
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.lowest = math.inf

    def admits(self, step: int, loss: float, norm: float) -> bool:
        """Whether the step may be taken: not where its loss or gradient is infinite or no number.

        Raises `BeholderError` after 5 such steps in a row, and where the loss diverges.
        """
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.bad += 1
            if self.bad >= BAD_STEPS:
                raise BeholderError(
                    f"step {step}: the loss is {loss} and the gradient's norm {norm}, as in the {self.bad - 1} steps before; "
                    "lower the learning rate, or go on from the last checkpoint with precision=float32"
                )
            return False
        self.bad = 0
        self.losses.append(loss)
        if self.divergence and len(self.losses) == WINDOW:
            mean = sum(self.losses) / WINDOW
            self.lowest = min(self.lowest, mean)
            if self.lowest > 0 and mean > self.divergence * self.lowest:
                raise BeholderError(
                    f"step {step}: the mean loss of {WINDOW} steps is {mean:.3g}, it was {self.lowest:.3g}: the run diverges; "
                    "lower the learning rate or raise `warmup`, and go on from the last checkpoint"
                )
        return True
