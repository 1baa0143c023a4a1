"""Weight files: safetensors, single or in shards, checked before they are mapped, written deterministically."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from beholder.errors import WeightsError
from beholder.files import atomic_file
from beholder.weights.lazy import LazyTensor, LazyTensors, Shape, lazy

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format
MAX_SHARD_BYTES = 5_000_000_000
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_NAME = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Entry:
    """One tensor of a safetensors header; bytes [begin, end) are counted from the start of the file."""

    name: str
    dtype: torch.dtype
    shape: Shape
    begin: int
    end: int


def open_weights(path: str | Path) -> dict[str, LazyTensor]:
    """The tensors of a `.safetensors` or `.gguf` file, or of a folder that holds such weights, values unread.

    Raises `WeightsError` for a missing, damaged or incomplete file, and for pickle files, which can run code.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file or folder")
    if path.suffix == ".gguf":
        from beholder.weights.gguf_files import open_gguf

        return open_gguf(path)
    if path.suffix in PICKLES:
        raise _pickle_refused(path)
    if path.name.endswith(".index.json"):
        return _open_shards(path)
    return _open_file(path)


def read_header(path: str | Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Tensors and metadata of one safetensors file, from its header, checked against the file's size."""
    path = Path(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = 8 + int.from_bytes(file.read(8), "little")
        if size < 8 or start > size:
            raise _damaged(path, f"its header would be {start - 8:,} bytes in a file of {size:,}")
        if start - 8 > MAX_HEADER_BYTES:
            raise _damaged(path, f"its header is {start - 8:,} bytes; the format allows {MAX_HEADER_BYTES:,}")
        header = _parse_header(path, file.read(start - 8))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _damaged(path, "its __metadata__ is not text by name")
    entries = {name: _entry(path, name, fields, start) for name, fields in header.items()}
    at = start
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != at:
            what = "overlaps the tensor before it" if entry.begin < at else "leaves a hole before it"
            raise _damaged(path, f"{entry.name} {what} (byte {entry.begin:,}, expected {at:,})")
        at = entry.end
        if at > size:
            raise _damaged(path, f"{entry.name} ends at byte {at:,} of a file of {size:,}; it was cut off")
    if at != size:
        raise _damaged(path, f"{size - at:,} bytes follow the last tensor")
    return entries, metadata


def write_weights(
    folder: str | Path,
    tensors: Mapping[str, Tensor | LazyTensor],
    metadata: Mapping[str, str] | None = None,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> list[Path]:
    """Write `model.safetensors`, or shards with an index where the tensors exceed `max_shard_bytes`.

    The same tensors give the same bytes. All files are complete under temporary names before the first is
    renamed, so an error (`DiskError` for no space) leaves earlier weights in `folder` as they were.
    Returns the files.
    """
    folder = Path(folder)
    named = {name: lazy(name, t) if isinstance(t, Tensor) else t for name, t in sorted(tensors.items())}
    shards = _shards(named, max_shard_bytes)
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    names = names if len(shards) > 1 else [SINGLE]
    old = [p for p in folder.glob("model*") if SHARD_NAME.fullmatch(p.name) or p.name in (SINGLE, INDEX)]
    with ExitStack() as stack:
        for name, shard in zip(names, shards, strict=True):
            _write_file(stack.enter_context(atomic_file(folder / name)), shard, metadata or {})
        if len(shards) > 1:
            weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
            index = {"metadata": {"total_size": sum(map(_nbytes, named.values()))}, "weight_map": weight_map}
            temporary = stack.enter_context(atomic_file(folder / INDEX))
            temporary.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            names = [*names, INDEX]
    for path in old:
        if path.name not in names:
            path.unlink()
    return [folder / name for name in names]


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor | LazyTensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write one safetensors file whole, or leave the old one. The same tensors give the same bytes."""
    named = {name: lazy(name, t) if isinstance(t, Tensor) else t for name, t in tensors.items()}
    with atomic_file(path) as temporary:
        _write_file(temporary, named, metadata or {})


def _open_folder(folder: Path) -> dict[str, LazyTensor]:
    if (folder / SINGLE).is_file():
        return _open_file(folder / SINGLE)
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    files = sorted(p for p in folder.glob("*.safetensors") if not p.name.startswith("adapter_"))
    ggufs = sorted(folder.glob("*.gguf"))
    if len(indexes) == 1:
        return _open_shards(indexes[0])
    for found in (files, ggufs):
        if len(found) == 1:
            return open_weights(found[0])
        if found:
            names = ", ".join(p.name for p in found[:3])
            raise WeightsError(
                f"{folder} holds {len(found)} weight files ({names}) and no one index; name one of them"
            )
    pickles = sorted(p for p in folder.iterdir() if p.suffix in PICKLES)
    if pickles:
        raise _pickle_refused(pickles[0])
    raise WeightsError(f"{folder} holds no weights; expected {SINGLE}, {INDEX} or a .gguf file")


def _open_file(path: Path) -> dict[str, LazyTensor]:
    entries, _ = read_header(path)
    if not entries:
        return {}
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return {name: _lazy_entry(entry, mapped, str(path)) for name, entry in entries.items()}


def _open_shards(index: Path) -> dict[str, LazyTensor]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise WeightsError(f"{index}: not an index of shards (no weight_map); download it again") from None
    tensors: dict[str, LazyTensor] = {}
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise WeightsError(f"{index}: {name!r} is not a safetensors file beside it")
        shard = index.parent / name
        if not shard.is_file():
            raise WeightsError(f"{shard}: missing shard, named in {index.name}; download it again")
        for key, tensor in _open_file(shard).items():
            if key in tensors:
                raise WeightsError(f"{key} is in two shards, {Path(tensors[key].origin).name} and {name}")
            tensors[key] = tensor
            if weight_map.get(key) != name:
                raise WeightsError(
                    f"{key} is in {name} but {index.name} says {weight_map.get(key, 'nothing of it')}"
                )
    absent = [key for key in weight_map if key not in tensors]
    if absent:
        raise WeightsError(
            f"{weight_map[absent[0]]} lacks {absent[0]} ({len(absent)} of {len(weight_map)} are absent)"
        )
    return tensors


def _lazy_entry(entry: Entry, mapped: mmap.mmap, origin: str) -> LazyTensor:
    def read(_: torch.dtype | None) -> Tensor:
        count = entry.end - entry.begin
        if not count:
            return torch.empty(entry.shape, dtype=entry.dtype)
        raw = torch.frombuffer(mapped, dtype=torch.uint8, count=count, offset=entry.begin)
        if entry.begin % entry.dtype.itemsize:
            raw = raw.clone()
        return raw.view(entry.dtype).view(entry.shape)

    return LazyTensor(entry.name, entry.shape, entry.dtype, read, origin)


def _parse_header(path: Path, raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [name for name, _ in pairs]
            raise _damaged(path, f"{next(n for n in names if names.count(n) > 1)} is in its header twice")
        return result

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except WeightsError:
        raise
    except (ValueError, RecursionError):
        raise _damaged(path, "its header is not JSON; it is no safetensors file") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not an object")
    return header


def _entry(path: Path, name: str, fields: Any, start: int) -> Entry:
    """One tensor of the header, its numbers checked; `start` is the first byte after the header."""
    if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"{name} has no dtype, shape and data_offsets")
    dtype, shape, offsets = DTYPES.get(str(fields["dtype"])), fields["shape"], fields["data_offsets"]
    if dtype is None:
        raise WeightsError(
            f"{path}: {name} has the unknown type {fields['dtype']!r}; known: {', '.join(DTYPES)}"
        )
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _damaged(path, f"{name} has shape {shape} and offsets {offsets}")
    begin, end = offsets
    want = dtype.itemsize
    for count in shape:
        want *= count
    if end - begin != want:
        raise _damaged(
            path, f"{name} of {fields['dtype']} {shape} needs {want:,} bytes but has {end - begin:,}"
        )
    return Entry(name, dtype, tuple(shape), start + begin, start + end)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _shards(tensors: LazyTensors, limit: int) -> list[dict[str, LazyTensor]]:
    """Tensors in order of name, cut where the next would exceed `limit` bytes."""
    shards: list[dict[str, LazyTensor]] = [{}]
    used = 0
    for name, tensor in tensors.items():
        if shards[-1] and used + _nbytes(tensor) > limit:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += _nbytes(tensor)
    return shards


def _write_file(path: Path, tensors: LazyTensors, metadata: Mapping[str, str]) -> None:
    # Wide types first keeps every tensor aligned to its own size.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for name, tensor in ordered:
        if tensor.dtype not in DTYPE_NAMES:
            raise WeightsError(f"{name}: {tensor.dtype} cannot be written to a safetensors file")
        offsets = [at, at + _nbytes(tensor)]
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
        at = offsets[1]
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for _, tensor in ordered:
            _write_values(file, tensor)


def _write_values(file: BinaryIO, tensor: LazyTensor) -> None:
    values = tensor.load().detach().cpu().contiguous()
    if values.dtype != tensor.dtype or tuple(values.shape) != tensor.shape:
        raise WeightsError(
            f"{tensor.name}: {values.dtype} {tuple(values.shape)} instead of {tensor.dtype} {tensor.shape}"
        )
    if values.numel():
        file.write(values.reshape(-1).view(torch.uint8).numpy().data)


def _nbytes(tensor: LazyTensor) -> int:
    count = tensor.dtype.itemsize
    for n in tensor.shape:
        count *= n
    return count


def _damaged(path: Path, what: str) -> WeightsError:
    return WeightsError(f"{path}: damaged: {what}; download or write it again")


def _pickle_refused(path: Path) -> WeightsError:
    return WeightsError(
        f"{path}: pickle files can run code and are not opened; use the .safetensors release, or take its tensors out: "
        f"beholder convert {path.name} {path.stem}.safetensors (a whole folder: beholder convert FOLDER NEW --to safetensors)"
    )
