"""What all adapters are: settings that say where they go, and linear maps with something small and trained beside them.

I inputs, O outputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.speed.linears import Activated, Gated, PackedLinear, Slice


def deep_enough(name: str, above: int) -> bool:
    """Whether a parameter lies in a layer (`blocks.{}`) from number `above` on; all do where that is 0."""
    layer = re.search(r"\.blocks\.(\d+)\.", name) if above else None
    return not above or (layer is not None and int(layer[1]) >= above)


@dataclass(frozen=True)
class Adapter(Config):
    """pattern: of the parameters (as in `fnmatch`) that it changes, or of the layers where it stands. above: of layers
    (`blocks.{}`), those from this number on alone. layers: exact names in place of a pattern.

    kind: its name; leaves: pieces of its parameters' names by which they are known.
    """

    pattern: str = ""
    above: int = 0
    layers: tuple[str, ...] = ()

    kind: ClassVar[str] = ""
    leaves: ClassVar[tuple[str, ...]] = ()

    def matches(self, name: str) -> bool:
        """Whether it changes the parameter called `name`."""
        if self.layers:
            return name.rpartition(".")[0] in self.layers
        return deep_enough(name, self.above) and fnmatchcase(name, self.pattern)

    @property
    def virtual_tokens(self) -> int:
        """Places that it takes in front of every text."""
        return 0


class LinearAdapter(Adapter):
    """One that changes linear maps."""

    def build(self, base: nn.Module, name: str) -> AdaptedLinear:
        """What takes the place of the map called `name`."""
        raise NotImplementedError


class AdaptedLinear(nn.Linear):
    """A linear map and what is trained beside it. An `nn.Linear`'s weight and bias stay parameters under their names; a packed
    map (int8, int4, bf16) stays as it is, in `base`, and gradients go through it.
    """

    leaves: ClassVar[tuple[str, ...]] = ()
    kind: ClassVar[str] = ""

    def __init__(self, base: nn.Module) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = _size(base, "in_features"), _size(base, "out_features")
        self.base: nn.Module | None = None
        if isinstance(base, nn.Linear):
            self.weight, self.bias = base.weight, base.bias
        else:
            self.base = base
            self.__dict__["weight"] = self.__dict__["bias"] = None
        self.train(base.training)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.weight.device if self.base is None else torch.device("cpu")

    def dense(self) -> Tensor:
        """The weight (O, I) that is computed with, made anew of a packed map."""
        weight = self.weight if self.base is None else self.base.weight
        assert isinstance(weight, Tensor)
        return weight.detach()

    def offset(self) -> Tensor | None:
        """The bias."""
        return self.bias if self.base is None else bias_of(self.base)

    def product(self, x: Tensor) -> Tensor:
        """What the map without its adapter gives, bias included."""
        if self.base is None:
            return F.linear(x, self.weight, self.bias)
        given: Tensor = self.base(x)
        return given

    def forward(self, x: Tensor) -> Tensor:
        return self.adapt(x, self.product(x))

    def adapt(self, x: Tensor, y: Tensor) -> Tensor:
        """What becomes of `y`, the map's output for `x`."""
        raise NotImplementedError

    def merged(self) -> tuple[Tensor, Tensor | None]:
        """Weight in float32 and bias of the one map that computes the same. Raises `BeholderError` where there is none."""
        raise BeholderError(
            f"{self.kind} adapters compute more than one matrix can, so they cannot be merged; keep them"
        )

    def new(self, *shape: int) -> nn.Parameter:
        """A trained parameter in float32, zeros at first."""
        return nn.Parameter(torch.zeros(*shape, device=self.device, dtype=torch.float32))


def _size(base: nn.Module, name: str) -> int:
    size: Any = getattr(base, name)
    return int(size)


def adaptable(module: nn.Module) -> bool:
    """Whether a module is a linear map that can have an adapter, or has one."""
    return isinstance(module, (nn.Linear, PackedLinear, Slice))


def bias_of(base: nn.Module) -> Tensor | None:
    """The bias of a packed map, or of a slice of one."""
    if isinstance(base, Slice):
        whole = base.joined.bias
        return None if whole is None else whole[base.start : base.start + base.count]
    assert isinstance(base, PackedLinear)
    return base.bias


class Joined(nn.Module):
    """A packed map of several maps, with the adapters of those that have one."""

    def __init__(self, joined: PackedLinear, parts: list[nn.Module]) -> None:
        super().__init__()
        self.joined = joined
        self.__dict__["parts"] = parts  # owned by the module that joins

    def forward(self, x: Tensor) -> Tensor:
        parts: list[nn.Module] = self.__dict__["parts"]
        y: Tensor = self.joined(x)
        pieces = y.split([_size(part, "out_features") for part in parts], -1)
        adapted = (
            part.adapt(x, piece) if isinstance(part, AdaptedLinear) else piece
            for part, piece in zip(parts, pieces, strict=True)
        )
        return torch.cat(list(adapted), -1)


def rejoin(owner: nn.Module) -> None:
    """Let the joined map of a module (`fused`) go through the adapters that its slices have now."""
    fused = getattr(owner, "fused", None)
    if isinstance(fused, Activated):
        owner.fused = None  # type: ignore[assignment]
        return
    inner = fused.joined if isinstance(fused, Gated) else fused
    joined = inner.joined if isinstance(inner, Joined) else inner
    if not isinstance(joined, PackedLinear):
        return
    parts = sorted(_slices(owner, joined), key=lambda pair: pair[0])
    wrapped = Joined(joined, [part for _, part in parts])
    if isinstance(fused, Gated):
        fused.joined = wrapped  # type: ignore[assignment]
    else:
        owner.fused = wrapped


def _slices(owner: nn.Module, joined: PackedLinear) -> Iterator[tuple[int, nn.Module]]:
    """Where each part of a joined map begins, and the module that has it."""
    for child in owner.children():
        own = child.base if isinstance(child, AdaptedLinear) else child
        if isinstance(own, Slice) and own.joined is joined:
            yield own.start, child
