"""The feed-forward half of a transformer layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.blocks.activations import activation
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.products import for_products
from beholder.parts.blocks.step import Mlp, MlpConfig, Step

Additions = nn.ModuleDict | Mapping[str, Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class FeedForward(MlpConfig):
    """hidden: inner width. gated: down(act(gate(x)) * up(x)) (GLU variants, 2002.05202), else down(act(up(x))).
    inner_norm: of what `down` reads (sub-LN, 2210.06423). sparsity: the share of a token's channels that is silent before the
    activation, as far as they are spread normally; the others count from that threshold on (Gemma 3n).
    """

    hidden: int
    act: str = "gelu"
    gated: bool = False
    bias: bool = True
    inner_norm: Norm | None = None
    sparsity: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise BeholderError(f"a share of {self.sparsity} of the channels is silent; give 0 up to below 1")

    def tiny(self) -> FeedForward:
        return super().tiny().but(hidden=48)

    def build(self, dim: int) -> FeedForwardLayer:
        return FeedForwardLayer(self, dim)


class FeedForwardLayer(Mlp):
    """(..., dim) -> (..., dim). fused: one map that gives all that `down` reads, where a model is packed (`beholder.speed`)."""

    fused: nn.Module | None

    def __init__(self, config: FeedForward, dim: int) -> None:
        super().__init__()
        self.config, self.fused = config, None
        self.gate = nn.Linear(dim, config.hidden, bias=config.bias) if config.gated else None
        self.up = nn.Linear(dim, config.hidden, bias=config.bias)
        self.inner_norm = config.inner_norm.build(config.hidden) if config.inner_norm else None
        self.down = nn.Linear(config.hidden, dim, bias=config.bias)
        self.act = activation(config.act)
        self.threshold = NormalDist().inv_cdf(config.sparsity) if config.sparsity else None

    def forward(self, x: Tensor, step: Step | None = None, plus: Additions | None = None) -> Tensor:
        """plus: what is added to what `gate`, `up` and `down` give, by their names."""
        x = for_products(x)
        if self.fused is not None and plus is None:
            y = self.fused(x)
        else:
            up = _map(self.up, "up", x, plus)
            y = self.active(up) if self.gate is None else self.active(_map(self.gate, "gate", x, plus)) * up
        return _map(self.down, "down", y if self.inner_norm is None else self.inner_norm(y), plus)

    def active(self, x: Tensor) -> Tensor:
        """What becomes of the gate's outputs, or of those of `up` where there is no gate."""
        if self.threshold is not None:
            spread = x.std(-1, correction=0, keepdim=True)
            x = F.relu(x - (x.mean(-1, keepdim=True) + self.threshold * spread))
        y: Tensor = self.act(x)
        return y


def _map(linear: nn.Linear, name: str, x: Tensor, plus: Additions | None) -> Tensor:
    y: Tensor = linear(x)
    return y if plus is None else y + plus[name](x)
