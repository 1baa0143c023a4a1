"""A tensor of a file that is known by name, shape and type before its values are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, ...]
Read = Callable[[torch.dtype | None], Tensor]


@dataclass(frozen=True)
class LazyTensor:
    """`read(dtype)` gives the values; None keeps `dtype`. `origin` is the file, for messages."""

    name: str
    shape: Shape
    dtype: torch.dtype
    read: Read
    origin: str = ""

    def load(self, dtype: torch.dtype | None = None) -> Tensor:
        """The values, as `dtype` where given (tensors of whole numbers keep their type). May share memory
        with the file; writing to it never changes the file.
        """
        wanted = dtype if dtype is not None and self.dtype.is_floating_point else None
        tensor = self.read(wanted)
        return tensor if wanted is None else tensor.to(wanted)


LazyTensors = Mapping[str, LazyTensor]


def lazy(name: str, tensor: Tensor, origin: str = "") -> LazyTensor:
    """A tensor in memory as a `LazyTensor`."""
    return LazyTensor(name, tuple(tensor.shape), tensor.dtype, lambda _: tensor, origin)
