"""An exponential moving average of what trains, and putting it in the place of what trains for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of parameters, in float32: after each step `average = decay * average + (1 - decay) * parameter`, with a
    decay that rises from 0.1 as (1 + steps) / (10 + steps), so that the first weights are soon forgotten.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay, self.steps = dict(parameters), decay, 0
        self.values = {name: value.detach().float().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take one more step's parameters in."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, parameter in self.parameters.items():
            self.values[name].lerp_(parameter.float(), 1 - decay)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The parameters have the average's values while the block runs."""
        kept = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.put()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(kept[name])

    @torch.no_grad()
    def put(self) -> None:
        """Give the parameters the average's values."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.values[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The average's values, and how many steps it has taken in, under the empty name."""
        return {**self.values, "": torch.tensor(self.steps)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        self.steps = int(state[""])
        for name, value in self.values.items():
            value.copy_(state[name])
