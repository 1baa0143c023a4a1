"""The compiled library, found and spoken to; `abi.h` says what the structures mean."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from beholder.errors import BeholderError, UnknownName
from beholder.native import build

ABI = 3
PORTABLE = "portable"  # the instruction set of any processor; PyTorch is quicker where rows are many
OFF = "BEHOLDER_NATIVE"  # set to 0: PyTorch computes everything

_OPERATIONS: ContextVar[list[int] | None] = ContextVar("operations", default=None)
_POINTER, _INT, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_float


class Matrix(ctypes.Structure):
    """A packed linear map."""

    _fields_ = (
        *((name, _POINTER) for name in ("data", "scales", "bias")),
        *((name, _INT) for name in ("outputs", "inputs", "format", "unused")),
    )


class Layer(ctypes.Structure):
    """A layer's matrices and norms."""

    _fields_ = (
        *((name, Matrix) for name in ("qkv", "out", "gate_up", "down")),
        *((name, _POINTER) for name in ("norm1", "norm2", "q_norm", "k_norm")),
        ("rotary", _LONG),
    )


class Decoder(ctypes.Structure):
    """A whole decoder."""

    _fields_ = (
        *((name, _POINTER) for name in ("layers", "norm", "embedding", "turned", "adjacent")),
        ("head", Matrix),
        *((name, _INT) for name in ("num_layers", "dim", "heads", "kv_heads", "head_dim", "hidden")),
        *((name, _INT) for name in ("activation", "embedding_bf16", "cache_bf16")),
        *((name, _FLOAT) for name in ("eps", "qk_eps", "score_scale", "embedding_scale")),
    )


class Step(ctypes.Structure):
    """One step of some rows."""

    _fields_ = (
        *((name, _POINTER) for name in ("ids", "lengths", "keys", "values", "capacities")),
        *((name, _POINTER) for name in ("cosines", "sines", "places", "logits", "scratch")),
        ("rows", _LONG),
    )


class Product(ctypes.Structure):
    """Many rows times a matrix."""

    _fields_ = (
        ("matrix", Matrix),
        *((name, _POINTER) for name in ("x", "y")),
        *((name, _LONG) for name in ("rows", "x_stride", "y_stride", "half")),
        *((name, _POINTER) for name in ("scratch", "parallel")),
        *((name, _INT) for name in ("threads", "bf16", "order", "activation")),
    )


class Whole(ctypes.Structure):
    """Attention of whole sequences: `whole.h`."""

    _fields_ = (
        *((name, _POINTER) for name in ("q", "k", "v", "y")),
        *((f"{name}_strides", _LONG * 3) for name in ("q", "k", "v", "y")),
        *((name, _LONG) for name in ("batch", "heads", "kv_heads", "queries", "keys", "width", "window")),
        *((name, _POINTER) for name in ("scratch", "parallel")),
        *((name, _INT) for name in ("threads", "causal")),
        ("scale", _FLOAT),
    )


class Heads(ctypes.Structure):
    """Rows of heads, normed and turned."""

    _fields_ = (
        *((name, _POINTER) for name in ("x", "y", "weight", "bias", "cos", "sin")),
        *((name, _LONG) for name in ("rows", "x_stride", "y_stride", "heads", "width", "groups", "apart")),
        ("places", _LONG),
        ("parallel", _POINTER),
        *((name, _INT) for name in ("threads", "bf16", "norm", "turned", "adjacent")),
        ("eps", _FLOAT),
    )


class Active(ctypes.Structure):
    """Rows activated."""

    _fields_ = (
        *((name, _POINTER) for name in ("x", "times", "y")),
        *((name, _LONG) for name in ("rows", "width", "x_stride", "y_stride")),
        ("parallel", _POINTER),
        *((name, _INT) for name in ("threads", "bf16", "activation", "unused")),
    )


@dataclass(frozen=True)
class Kernels:
    """The loaded library. sets: instruction sets that this processor has, best first, with their numbers."""

    library: ctypes.CDLL
    sets: dict[str, int]

    def number(self, name: str | None) -> int:
        """Of an instruction set, the best one for None; raises `UnknownName`."""
        name = next(iter(self.sets)) if name is None else name
        if name not in self.sets:
            raise UnknownName("instruction set of this processor", name, self.sets)
        return self.sets[name]

    def scratch_bytes(self, decoder: Decoder, rows: int, threads: int) -> int:
        """Memory that a step of so many rows needs for itself."""
        return int(self.library.beholder_scratch(ctypes.byref(decoder), rows, threads))

    def step(self, decoder: Decoder, step: Step, number: int, threads: int) -> None:
        """Compute; Python's lock is not held."""
        self.library.beholder_step(ctypes.byref(decoder), ctypes.byref(step), number, threads)

    def product_scratch(self, product: Product, number: int) -> int:
        """Memory that a product needs for itself."""
        return int(self.library.beholder_product_scratch(ctypes.byref(product), number))

    def product(self, product: Product, number: int) -> None:
        """Compute; Python's lock is not held."""
        _count(2 * product.rows * product.matrix.outputs * product.matrix.inputs)
        self.library.beholder_product(ctypes.byref(product), number)

    def heads(self, call: Heads, number: int) -> None:
        """Norm and turn; Python's lock is not held."""
        self.library.beholder_heads(ctypes.byref(call), number)

    def activate(self, call: Active, number: int) -> None:
        """Python's lock is not held."""
        self.library.beholder_active(ctypes.byref(call), number)

    def attend_whole(self, call: Whole) -> None:
        """Attention of whole sequences; Python's lock is not held."""
        hidden = call.queries * (call.queries - 1) // 2 if call.causal else 0
        _count(4 * call.batch * call.heads * (call.queries * call.keys - hidden) * call.width)
        self.library.beholder_attend_whole(ctypes.byref(call))

    def whole_scratch(self, call: Whole) -> int:
        """Memory that it needs for itself; 0 where this processor has no kernel for it."""
        return int(self.library.beholder_whole_scratch(ctypes.byref(call)))

    def ask_for_large_pages(self, address: int, count: int) -> None:
        """For `count` bytes that are about to be filled."""
        self.library.beholder_large_pages(address, count)


@dataclass(frozen=True)
class Kernel:
    """The library and which of its instruction sets computes."""

    kernels: Kernels
    number: int


@contextmanager
def operations() -> Iterator[list[int]]:
    """Gives a list that gets the operations of each product and each attention of whole sequences."""
    counts: list[int] = []
    token = _OPERATIONS.set(counts)
    try:
        yield counts
    finally:
        _OPERATIONS.reset(token)


def _count(number: int) -> None:
    counts = _OPERATIONS.get()
    if counts is not None:
        counts.append(number)


@cache
def load(path: Path) -> Kernels:
    """The library of that file; raises `OSError` where it does not load and `BeholderError` where there is none or another
    version of it.
    """
    if not path.exists():
        raise BeholderError("compiled kernels are not built; run python -m beholder.native.build")
    library = ctypes.CDLL(str(path))
    library.beholder_set.restype = ctypes.c_char_p
    library.beholder_set.argtypes = (_INT, _POINTER)
    library.beholder_scratch.restype = _LONG
    library.beholder_scratch.argtypes = (_POINTER, _LONG, _INT)
    library.beholder_step.restype = None
    library.beholder_step.argtypes = (_POINTER, _POINTER, _INT, _INT)
    library.beholder_product_scratch.restype = _LONG
    library.beholder_product_scratch.argtypes = (_POINTER, _INT)
    library.beholder_product.restype = None
    library.beholder_product.argtypes = (_POINTER, _INT)
    library.beholder_heads.restype = library.beholder_active.restype = None
    library.beholder_heads.argtypes = library.beholder_active.argtypes = (_POINTER, _INT)
    library.beholder_whole_scratch.restype = _LONG
    library.beholder_whole_scratch.argtypes = (_POINTER,)
    library.beholder_attend_whole.restype = None
    library.beholder_attend_whole.argtypes = (_POINTER,)
    library.beholder_large_pages.restype = None
    library.beholder_large_pages.argtypes = (_POINTER, _LONG)
    if library.beholder_abi() != ABI:
        raise BeholderError(
            f"{path.name} has version {library.beholder_abi()}, this code {ABI}; build it again"
        )
    sets: dict[str, int] = {}
    usable, number = _INT(), 0
    while (name := library.beholder_set(number, ctypes.byref(usable))) is not None:
        if usable.value:
            sets[name.decode()] = number
        number += 1
    return Kernels(library, sets)


@cache
def _path(folder: Path) -> Path:
    """Of the library that belongs to a folder's sources as they are at first: a program goes on with what it has loaded."""
    assert folder == build.FOLDER
    return build.library()


def kernels() -> Kernels:
    """The library of these sources; raises `BeholderError` with the reason where it cannot be used."""
    if os.environ.get(OFF) == "0":
        raise BeholderError(f"compiled kernels are turned off by {OFF}=0")
    try:
        return load(_path(build.FOLDER))
    except OSError as error:
        raise BeholderError(f"compiled kernels do not load: {error}") from error


def quickest() -> Kernel | None:
    """The best instruction set; None without the library, and where it has only what any processor has: PyTorch is quicker."""
    try:
        found = kernels()
    except BeholderError:
        return None
    number = found.number(None)
    return None if number == found.sets.get(PORTABLE) else Kernel(found, number)


def describe() -> tuple[str | None, str]:
    """The instruction set that would be used, None without the library; and a line for people."""
    try:
        sets = list(kernels().sets)
    except BeholderError as error:
        return None, f"no: {error}"
    return sets[0], f"yes, with {sets[0]}"
