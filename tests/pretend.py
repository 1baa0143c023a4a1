"""A GPU that is pretended on the processor: tensors that say they are on `cuda` and refuse to meet others, as there.

What a GPU's kernels would give is computed on the processor, so that code which asks for values goes on. Moves between the two
devices and questions of the processor about a tensor's values, for each of which a real one would wait, are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten
MOVES = ("to", "_to_copy", "copy_", "_copy_from")  # what may read one device and write the other
INDEXED = (
    "index",
    "index_put",
    "index_put_",
    "_index_put_impl_",
    "_unsafe_index",
    "__getitem__",
    "__setitem__",
)
ASKED = ("__int__", "__float__", "__bool__", "__index__", "item", "tolist")  # become numbers
WAITS = (*ASKED, "nonzero", "bincount", "masked_select", "_unique2", "unique_dim", "equal")
# functions that look for a device's kernels before a tensor can have its say
FUNCTIONS = (
    F.scaled_dot_product_attention,
    Tensor.__getitem__,
    Tensor.__setitem__,
    Tensor.new_tensor,
    Tensor.nonzero,
    torch.nonzero,
    Tensor.__contains__,
    Tensor.__invert__,
    Tensor.contiguous,
    Tensor.copy_,
    *(getattr(Tensor, name) for name in ASKED),
)


class Claimed(Tensor):
    """A tensor on the pretended device; `held` has its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Claimed:
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), held.stride(), held.storage_offset(), dtype=held.dtype, device=CUDA
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return Pretended.running().run(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl


class Pretended(TorchDispatchMode):
    """While it is on, `cuda` is there. moves, waits: what would have to wait for the device, by operation."""

    _running: list[Pretended] = []

    def __init__(self) -> None:
        super().__init__()
        self.moves: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self._stack = ExitStack()

    @classmethod
    def running(cls) -> Pretended:
        assert cls._running, "the pretended GPU has been taken away"
        return cls._running[-1]

    def __enter__(self) -> Pretended:
        self._running.append(self)
        self._stack.enter_context(mock.patch("torch.cuda._lazy_init", lambda: None))
        self._stack.enter_context(mock.patch("torch.cuda.synchronize", lambda *_: None))
        self._stack.enter_context(mock.patch.object(Tensor, "pin_memory", lambda self: self))
        self._stack.enter_context(_lifting())
        self._stack.enter_context(_Functions(self))
        super().__enter__()
        return self

    def __exit__(self, *given: Any) -> None:
        super().__exit__(*given)
        self._stack.close()
        self._running.remove(self)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """An operation on what the tensors hold. Raises `RuntimeError` where they are on two devices."""
        name = getattr(func, "overloadpacket", func).__name__
        given = [each for each in tree_flatten((args, dict(kwargs)))[0] if isinstance(each, Tensor)]
        claimed = any(isinstance(each, Claimed) for each in given)
        wanted = _device(func, args, kwargs)
        there = claimed if wanted is None else wanted.type == "cuda"
        self._check(name, args, kwargs, given, there)
        if claimed and name in WAITS:
            self.waits[name] += 1
        if name in MOVES and (there != claimed or _mixed(given)):
            self.moves[name] += 1
        args_here, kwargs_here = tree_map(_here, (tuple(args), dict(kwargs)))
        return _told(given, func(*args_here, **kwargs_here), there)

    def _check(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], given: Sequence[Tensor], there: bool
    ) -> None:
        if name in INDEXED:
            given = [args[0], *(each for each in args[2:] if isinstance(each, Tensor))]
        source = kwargs.get("generator")
        if there and source is not None and source.device.type != "cuda":
            raise RuntimeError(f"{name}: a generator of the processor draws on cuda")
        if name not in MOVES and _mixed([each for each in given if each.ndim or isinstance(each, Claimed)]):
            told = ", ".join(f"{tuple(each.shape)} on {each.device.type}" for each in given)
            raise RuntimeError(f"{name}: tensors on two devices: {told}")


class _Functions(TorchFunctionMode):
    """Functions that choose a kernel by device."""

    def __init__(self, mode: Pretended) -> None:
        super().__init__()
        self.mode = mode

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FUNCTIONS:
            return self.mode.run(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def _mixed(given: Sequence[Tensor]) -> bool:
    return len({isinstance(each, Claimed) for each in given}) > 1


def _here(value: Any) -> Any:
    """The same on the processor."""
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    return value.held if isinstance(value, Claimed) else value


def _told(given: Sequence[Tensor], found: Any, there: bool) -> Any:
    """What an operation gives, on the device where it was computed; a tensor that was written to is the one given in."""
    before = {id(_here(each)): each for each in given if isinstance(each, Claimed) == there}

    def told(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return before[id(value)] if id(value) in before else Claimed(value) if there else value

    return tree_map(told, found)


def _device(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.device | None:
    """Where an operation is told to put what it gives."""
    schema = getattr(func, "_schema", None)
    names = [] if schema is None else [each.name for each in schema.arguments]
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    if getattr(func, "__name__", "").startswith("copy_"):
        return args[0].device
    if names[:2] == ["self", "other"] and "aten.to" in str(func):
        return given["other"].device
    return None if given.get("device") is None else torch.device(given["device"])


@contextmanager
def _lifting() -> Iterator[None]:
    """Lists become tensors on the processor first, and move from there."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def moved(module: nn.Module) -> nn.Module:
    """The module with its parameters and buffers on the pretended device, in place."""
    known: dict[int, Tensor] = {}

    def there(held: Tensor) -> Tensor:
        if isinstance(held, Claimed):
            return held
        return known.setdefault(id(held), Claimed(held.detach()))

    for each in module.modules():
        for table in (each._parameters, each._buffers):
            for name, held in table.items():
                if held is not None:
                    table[name] = there(held)  # type: ignore[assignment]
    return module


def on_device(value: Any) -> Any:
    """A batch, or anything else of tensors, on the pretended device."""
    return _mapped(value, lambda held: Claimed(held))


def back(value: Any) -> Any:
    """What it holds, on the processor."""
    return _mapped(value, _here)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _mapped(each, change) for name, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(each, change) for each in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(each, change) for each in value)
    return value
