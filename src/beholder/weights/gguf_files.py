"""GGUF files: metadata and tensors, checked against the file's size, dequantized in blocks when loaded.

The header is read here rather than with the `gguf` package's reader, which takes seconds for a tokenizer of
100,000 strings and trusts the offsets; types and their block sizes, and rare quantizations, come from the
package.
"""

from __future__ import annotations

import functools
import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from torch import Tensor

from beholder.errors import WeightsError
from beholder.weights.lazy import LazyTensor, Shape

VERSIONS = (2, 3)
MAX_AXES = 8
CHUNK_VALUES = 1 << 19  # 2 MB of float32: the values of a chunk stay in cache between steps
PLAIN = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
    GGMLQuantizationType.F64: torch.float64,
    GGMLQuantizationType.I8: torch.int8,
    GGMLQuantizationType.I16: torch.int16,
    GGMLQuantizationType.I32: torch.int32,
    GGMLQuantizationType.I64: torch.int64,
}
SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
    GGUFValueType.BOOL: "?",
}


def read_metadata(path: str | Path) -> dict[str, Any]:
    """All metadata by key as plain values and lists: architecture, numbers, tokenizer, chat template.

    Raises `WeightsError` for a file that is not GGUF or is damaged.
    """
    path = Path(path)
    with _map(path) as data:
        return _Cursor(data, path).header()[0]


def open_gguf(path: str | Path) -> dict[str, LazyTensor]:
    """The tensors by name, values unread. Quantized ones load as float32 unless another type is asked for.

    Raises `WeightsError` for a file that is not GGUF, is damaged, or holds a type that cannot be read.
    """
    path = Path(path)
    data = _map(path)
    cursor = _Cursor(data, path)
    metadata, entries = cursor.header()
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise cursor.damaged(f"its alignment is {alignment!r}")
    start = -(-cursor.at // alignment) * alignment
    tensors: dict[str, LazyTensor] = {}
    end = start
    for entry in sorted(entries, key=lambda entry: (entry.offset, entry.num_bytes)):
        begin = start + entry.offset
        if entry.name in tensors:
            raise cursor.damaged(f"{entry.name} is in it twice")
        if begin < end:
            raise cursor.damaged(
                f"{entry.name} overlaps the tensor before it (byte {begin:,}, expected {end:,})"
            )
        end = begin + entry.num_bytes
        if end > len(data):
            raise cursor.damaged(
                f"{entry.name} ends at byte {end:,} of a file of {len(data):,}; it was cut off"
            )
        tensors[entry.name] = _lazy_entry(entry, data, begin, str(path))
    return {entry.name: tensors[entry.name] for entry in entries}


@dataclass(frozen=True)
class Entry:
    """One tensor of a GGUF header; `offset` counts bytes from the start of the tensor data."""

    name: str
    shape: Shape
    kind: GGMLQuantizationType
    offset: int

    @property
    def num_bytes(self) -> int:
        block, size = GGML_QUANT_SIZES[self.kind]
        return math.prod(self.shape) // block * size


class _Cursor:
    """Reads a GGUF header from the front, never past the end of the file."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path, self.at = data, path, 0

    def header(self) -> tuple[dict[str, Any], list[Entry]]:
        if self.data[:4] != b"GGUF":
            raise WeightsError(f"{self.path}: not a GGUF file")
        self.at = 4
        version = self.number("I")
        if version not in VERSIONS:
            raise WeightsError(
                f"{self.path}: GGUF version {version}; versions 2 and 3 (little-endian) can be read"
            )
        num_tensors, num_fields = self.number("Q"), self.number("Q")
        metadata: dict[str, Any] = {}
        for _ in range(num_fields):
            key = self.text()
            if key in metadata:
                raise self.damaged(f"{key} is in its metadata twice")
            metadata[key] = self.value(self.number("I"))
        return metadata, [self.entry() for _ in range(num_tensors)]

    def entry(self) -> Entry:
        name, axes = self.text(), self.number("I")
        if axes > MAX_AXES:
            raise self.damaged(f"{name} has {axes} axes")
        shape = tuple(reversed(self.numbers("Q", axes)))
        kind, offset = self.number("I"), self.number("Q")
        try:
            known = GGMLQuantizationType(kind)
            block, _ = GGML_QUANT_SIZES[known]
        except (ValueError, KeyError):
            raise WeightsError(
                f"{self.path}: {name} has the unknown type {kind}; a newer gguf package may read it"
            ) from None
        if (shape[-1] if shape else 1) % block:
            raise self.damaged(
                f"{name} has rows of {shape[-1]} values, not whole {known.name} blocks of {block}"
            )
        return Entry(name, shape, known, offset)

    def value(self, kind: int, depth: int = 0) -> Any:
        try:
            known = GGUFValueType(kind)
        except ValueError:
            raise self.damaged(f"a metadata value has the unknown type {kind}") from None
        if known in SCALARS:
            return self.number(SCALARS[known])
        if known == GGUFValueType.STRING:
            return self.text()
        if depth > 2:
            raise self.damaged("its metadata has lists within lists within lists")
        item, count = self.number("I"), self.number("Q")
        if item in SCALARS:
            return list(self.numbers(SCALARS[GGUFValueType(item)], count))
        if count > len(self.data) - self.at:
            raise self.damaged(f"a list of {count:,} values does not fit in the file")
        return [self.value(item, depth + 1) for _ in range(count)]

    def number(self, code: str) -> Any:
        return self.numbers(code, 1)[0]

    def numbers(self, code: str, count: int) -> tuple[Any, ...]:
        begin = self.take(count * struct.calcsize(f"<{code}"))
        return struct.unpack_from(f"<{count}{code}", self.data, begin)

    def text(self) -> str:
        count = self.number("Q")
        begin = self.take(count)
        try:
            return self.data[begin : begin + count].decode("utf-8")
        except UnicodeDecodeError:
            raise self.damaged(f"the text at byte {begin:,} is not UTF-8") from None

    def take(self, count: int) -> int:
        begin, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise self.damaged(f"its header reaches past its end ({len(self.data):,} bytes)")
        return begin

    def damaged(self, what: str) -> WeightsError:
        return WeightsError(f"{self.path}: damaged: {what}; download it again")


def _map(path: Path) -> mmap.mmap:
    if not path.is_file() or path.stat().st_size < 4:
        raise WeightsError(f"{path}: not a GGUF file")
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _lazy_entry(entry: Entry, data: mmap.mmap, begin: int, origin: str) -> LazyTensor:
    plain = PLAIN.get(entry.kind)

    def read(dtype: torch.dtype | None) -> Tensor:
        if not entry.num_bytes:
            return torch.empty(entry.shape, dtype=plain or torch.float32)
        raw = torch.frombuffer(data, dtype=torch.uint8, count=entry.num_bytes, offset=begin)
        if begin % 8:
            raw = raw.clone()
        if plain is not None:
            return raw.view(plain).view(entry.shape)
        return dequantize(raw, entry.kind, dtype or torch.float32).view(entry.shape)

    return LazyTensor(entry.name, entry.shape, plain or torch.float32, read, origin)


def dequantize(raw: Tensor, kind: GGMLQuantizationType, dtype: torch.dtype = torch.float32) -> Tensor:
    """Whole blocks of bytes (uint8, flat) as values (flat), computed in float32 and rounded to `dtype` once."""
    block, size = GGML_QUANT_SIZES[kind]
    unpack = UNPACK.get(kind) or functools.partial(_by_package, kind=kind)
    blocks = raw.view(-1, size)
    values = torch.empty(len(blocks), block, dtype=dtype)
    step = CHUNK_VALUES // block
    chunk = torch.empty(min(step, len(blocks)), block)
    for first in range(0, len(blocks), step):
        part = blocks[first : first + step]
        into = values[first : first + step] if dtype == torch.float32 else chunk[: len(part)]
        unpack(part, into)
        if into is chunk or dtype != torch.float32:
            values[first : first + step] = into
    return values.view(-1)


def _half(blocks: Tensor, at: int) -> Tensor:
    """The float16 at byte `at` of each block, as a column of float32."""
    return blocks[:, at : at + 2].view(torch.float16).float()


def _nibbles(packed: Tensor, out: Tensor) -> None:
    """Low halves of the bytes to the first half of the last axis, high halves to the second."""
    width = packed.shape[-1]
    out[..., :width] = packed & 15
    out[..., width:] = packed >> 4


def _q4_0(blocks: Tensor, out: Tensor) -> None:
    _nibbles(blocks[:, 2:], out)
    out.sub_(8).mul_(_half(blocks, 0))


def _q4_1(blocks: Tensor, out: Tensor) -> None:
    _nibbles(blocks[:, 4:], out)
    out.mul_(_half(blocks, 0)).add_(_half(blocks, 2))


def _q8_0(blocks: Tensor, out: Tensor) -> None:
    out.copy_(blocks[:, 2:].view(torch.int8)).mul_(_half(blocks, 0))


def _q4_k(blocks: Tensor, out: Tensor) -> None:
    """Eight runs of 32 values, each with a 6-bit scale and a 6-bit minimum; 12 bytes hold those of all runs."""
    low, middle, high = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scale = torch.cat([low & 63, (high & 15) | ((low >> 2) & 48)], dim=1).float() * _half(blocks, 0)
    least = torch.cat([middle & 63, (high >> 4) | ((middle >> 2) & 48)], dim=1).float() * _half(blocks, 2)
    _nibbles(blocks[:, 16:].unflatten(1, (4, 32)), out.view(-1, 4, 64))
    out.view(-1, 8, 32).mul_(scale[..., None]).sub_(least[..., None])


def _q6_k(blocks: Tensor, out: Tensor) -> None:
    """Two halves of 128 values: 64 bytes of low four bits, 32 bytes of high two bits; a scale for 16 values."""
    runs = out.view(-1, 2, 4, 32)
    low, high = blocks[:, :128].unflatten(1, (2, 2, 32)), blocks[:, 128:192].unflatten(1, (2, 32))
    for i in range(4):
        nibble = low[:, :, i % 2] >> 4 if i >= 2 else low[:, :, i % 2] & 15
        runs[:, :, i] = nibble | (((high >> (2 * i)) & 3) << 4)
    scale = blocks[:, 192:208].view(torch.int8).float() * _half(blocks, 208)
    out.view(-1, 16, 16).sub_(32).mul_(scale[..., None])


def _by_package(blocks: Tensor, out: Tensor, *, kind: GGMLQuantizationType) -> None:
    from gguf.quants import dequantize as dequantize_rows

    try:
        out.copy_(torch.from_numpy(dequantize_rows(blocks.numpy(), kind)))
    except NotImplementedError:
        raise WeightsError(
            f"GGUF tensors of type {kind.name} cannot be read; use a file with another quantization"
        ) from None


UNPACK: dict[GGMLQuantizationType, Callable[[Tensor, Tensor], None]] = {
    GGMLQuantizationType.Q4_0: _q4_0,
    GGMLQuantizationType.Q4_1: _q4_1,
    GGMLQuantizationType.Q8_0: _q8_0,
    GGMLQuantizationType.Q4_K: _q4_k,
    GGMLQuantizationType.Q6_K: _q6_k,
}
