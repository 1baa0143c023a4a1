"""Activation functions by the names that configs use."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import UnknownName


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), the approximation in OpenAI's CLIP."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of GELU (1606.08415)."""
    return F.gelu(x, approximate="tanh")


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)^2 (Primer, 2109.08668)."""
    return F.relu(x).square()


class XIelu(nn.Module):
    """A trained activation (2411.13010, equation 9): a parabola for x > 0, an exponential that falls to a line below.
    beta and eps are constants that published files hold.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha_p = nn.Parameter(torch.tensor([0.8]).expm1().log())  # through softplus: 0.8
        self.alpha_n = nn.Parameter(torch.tensor([0.3]).expm1().log())  # 0.8 with beta
        self.beta, self.eps = nn.Buffer(torch.tensor(0.5)), nn.Buffer(torch.tensor(-1e-6))

    def forward(self, x: Tensor) -> Tensor:
        above, below = F.softplus(self.alpha_p), self.beta + F.softplus(self.alpha_n)
        curved = torch.where(x > 0, above * x * x, (torch.expm1(torch.minimum(x, self.eps)) - x) * below)
        return curved + self.beta * x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "relu2": relu_squared,
    "relu6": F.relu6,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function called `name`, or a module that trains it; raises `UnknownName`."""
    if name == "xielu":
        return XIelu()
    if name not in ACTIVATIONS:
        raise UnknownName("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]
