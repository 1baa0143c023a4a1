"""Computing without numbers: what a model would multiply and remember, on no memory.

Weights and all that follows from them are on torch's meta device; ids, sizes and masks stay real numbers on the processor, so
that whatever a batch decides is decided as ever. An operation on both gives a meta tensor.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.flop_counter import flop_registry

from beholder.errors import BeholderError

META = torch.device("meta")
aten = torch.ops.aten
BY_INDEX = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)


class OnPaper(TorchDispatchMode):
    """Counts while it is entered.

    flops: of matrix products, convolutions and attention, two for a multiplication and its addition
    live, peak: bytes of the meta tensors that were made meanwhile, and of the most that lived at once
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.live = self.peak = 0
        self._known = weakref.WeakSet[Any]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named: dict[str, Any] = dict(kwargs or {})
        given = [
            value
            for value in tree_flatten((args, named))[0]
            if isinstance(value, Tensor) and value.device == META
        ]
        self._known.update(value.untyped_storage() for value in given)  # were there before
        if given:
            if func in BY_INDEX:
                args = (args[0], _numbered(args[1]), *args[2:])
            args, named = tree_map_only(Tensor, _on_meta, (args, named))
            if func is aten._local_scalar_dense.default:
                raise BeholderError(
                    "what this model does depends on the values it computes; only a run tells its cost"
                )
        if named.get("device") is not None and func is aten._to_copy.default:
            named["device"] = META if args[0].device == META else named["device"]
        out = func(*args, **named)
        packet = func._overloadpacket
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **named, out_val=out)
        tree_map_only(Tensor, self._track, out)
        return out

    def _track(self, tensor: Tensor) -> None:
        if tensor.device != META:
            return
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size


def _numbered(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Masks on the processor as the numbers of what they choose, which are as many on meta."""
    given: list[Tensor | None] = []
    for index in indices:
        chooses = index is not None and index.dtype == torch.bool and index.device != META
        given += list(index.nonzero(as_tuple=True)) if index is not None and chooses else [index]
    return given


def _on_meta(tensor: Tensor) -> Tensor:
    return tensor if tensor.device == META else torch.empty_like(tensor, device=META)
