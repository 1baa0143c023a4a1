"""Features of frozen encoders, computed once and kept on disk: later epochs skip the encoders and give the same losses.

A view's features are found by its pixels and by the encoder's settings and weights, so that nothing old is ever read after
either has changed.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.files import DiskError
from beholder.media.plan import Grid
from beholder.model import BranchModule, Model
from beholder.parts.contracts import Packed
from beholder.train.collate import TrainBatch

HEAD = struct.Struct("<16s8sQ")  # key, checksum, bytes that follow
MOST = 32 << 30  # bytes


class FeatureStore:
    """Bytes by key in a folder. Each process writes a file of its own and reads those that were there when it began. `most`:
    bytes of all files; what comes when they are full is not kept.
    """

    def __init__(self, folder: Path, *, most: int = MOST) -> None:
        self.folder, self.most, self.used = folder, most, 0
        self._lock = threading.Lock()
        self._places: dict[bytes, tuple[int, int, int]] = {}  # key -> file, offset, size
        self._files: list[int] = []
        self._own: int | None = None
        self._end = 0
        for path in sorted(folder.glob("features-*.bin")):
            self._read(path)

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: bytes) -> bytes | None:
        """What was kept, None where nothing was or it is damaged."""
        with self._lock:
            place = self._places.get(key)
        if place is None:
            return None
        file, offset, size = place
        head, data = (
            os.pread(self._files[file], HEAD.size, offset),
            os.pread(self._files[file], size, offset + HEAD.size),
        )
        return data if HEAD.unpack(head)[1] == _checksum(data) else None

    def put(self, key: bytes, data: bytes) -> bool:
        """Keep it; False where there is no more room. Raises `DiskError` where the disk refuses."""
        entry = HEAD.pack(key, _checksum(data), len(data)) + data
        with self._lock:
            if key in self._places or self.used + len(entry) > self.most:
                return key in self._places
            number = self._mine()
            try:
                os.pwrite(self._files[number], entry, self._end)
            except OSError as error:
                raise DiskError(
                    self.folder, f"{error.strerror}; free some space, or keep fewer features"
                ) from None
            self._places[key] = (number, self._end, len(data))
            self._end += len(entry)
            self.used += len(entry)
        return True

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            os.close(file)
        self._files, self._places = [], {}

    def _read(self, path: Path) -> None:
        """The entries of a file, up to one that a killed process left half written."""
        file, size, offset = os.open(path, os.O_RDONLY), path.stat().st_size, 0
        while offset + HEAD.size <= size:
            key, _, count = HEAD.unpack(os.pread(file, HEAD.size, offset))
            if offset + HEAD.size + count > size:
                break
            self._places[key] = (len(self._files), offset, count)
            offset += HEAD.size + count
        self._files.append(file)
        self.used += size

    def _mine(self) -> int:
        """The number of the file that this process writes."""
        if self._own is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            number = 0
            while (path := self.folder / f"features-{number:04d}.bin").exists():
                number += 1
            self._files.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
            self._own = len(self._files) - 1
        return self._own


class Cached:
    """An objective whose model reads features of frozen encoders from a store, and keeps there what it has to compute.

    branches: whose encoders; all where None. Raises `BeholderError` for encoders that train, or that drop things at random.
    `hits` and `misses` count views.
    """

    def __init__(
        self,
        objective: Callable[[Model, TrainBatch], Tensor],
        folder: str | Path,
        *,
        branches: Sequence[str] | None = None,
        most: int = MOST,
    ) -> None:
        self.objective, self.branches = objective, branches
        self.store = FeatureStore(Path(folder), most=most)
        self.hits = self.misses = 0
        self._weights: dict[str, tuple[int, list[bytes]]] = {}
        self._lock = threading.Lock()

    def prepare(self, model: Model) -> None:
        """Check that the encoders are frozen, and take the digest of their weights."""
        for name in self._names(model):
            self._digests(model.branch(name), name)
        if hasattr(self.objective, "prepare"):
            self.objective.prepare(model)

    def after_step(self, model: Model) -> None:
        """What the objective does behind a step."""
        if hasattr(self.objective, "after_step"):
            self.objective.after_step(model)

    def state_dict(self) -> dict[str, Any]:
        """Of the objective; features are no state."""
        return self.objective.state_dict() if hasattr(self.objective, "state_dict") else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if hasattr(self.objective, "load_state_dict"):
            self.objective.load_state_dict(state)

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        batch = item.batch
        encoded = {
            name: self._encoded(model, item, name) for name in self._names(model) if batch.views.get(name)
        }
        return self.objective(model, replace(item, batch=replace(batch, encoded=encoded)))

    def _names(self, model: Model) -> list[str]:
        return list(model.branches) if self.branches is None else list(self.branches)

    @torch.no_grad()
    def _encoded(self, model: Model, item: TrainBatch, name: str) -> tuple[Packed, ...]:
        branch, views = model.branch(name), item.batch.views[name]
        if item.batch.columns.get(name) is not None:
            raise BeholderError(f"branch {name} hears sounds, whose features are not kept; leave it out")
        owners = [
            view.encoder
            for row in model.context(item.batch, name).plans
            for plan in row
            for view in plan.views
        ]
        out = []
        for number, (encoder, digest) in enumerate(
            zip(_encoders(branch), self._digests(branch, name), strict=True)
        ):
            own = [view for view, owner in zip(views, owners, strict=True) if owner in (None, number)]
            keys = [_key(digest, view) for view in own]
            kept = [self.store.get(key) for key in keys]
            lacking = [n for n, data in enumerate(kept) if data is None]
            made = _apart(encoder([own[n] for n in lacking]), len(lacking), name) if lacking else []
            for n, features in zip(lacking, made, strict=True):
                self.store.put(
                    keys[n], save({key: value.cpu().contiguous() for key, value in features.items()})
                )
            fresh = iter(made)
            out.append(
                _together([next(fresh) if data is None else load(data) for data in kept], views[0].device)
            )
            with self._lock:
                self.misses += len(lacking)
                self.hits += len(own) - len(lacking)
        return tuple(out)

    def _digests(self, branch: BranchModule, name: str) -> list[bytes]:
        """Of each encoder's settings, weights and precision; taken anew where weights were written to."""
        encoders = _encoders(branch)
        with self._lock:
            tensors = [tensor for encoder in encoders for tensor in _tensors(encoder).values()]
            version = hash(tuple((tensor._version, tensor.data_ptr()) for tensor in tensors))
            if name not in self._weights or self._weights[name][0] != version:
                for encoder in encoders:
                    _check_frozen(encoder, name)
                pairs = zip(encoders, branch.config.encoders, strict=True)
                self._weights[name] = (version, [_digest(encoder, config) for encoder, config in pairs])
            return self._weights[name][1]


def _encoders(branch: BranchModule) -> list[nn.Module]:
    return [branch.vision, *branch.others]


def _tensors(encoder: nn.Module) -> dict[str, Tensor]:
    return {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}


def _check_frozen(encoder: nn.Module, name: str) -> None:
    if any(parameter.requires_grad for parameter in encoder.parameters()):
        raise BeholderError(
            f"branch {name} trains its encoder, so its features change; freeze it, or do not cache them"
        )
    if any(isinstance(part, nn.Dropout) and part.p > 0 and part.training for part in encoder.modules()):
        raise BeholderError(
            f"branch {name} drops values at random, so its features differ each time; do not cache them"
        )


def _digest(encoder: nn.Module, config: Any) -> bytes:
    found = hashlib.blake2b(repr(config).encode(), digest_size=16)
    for key, tensor in sorted(_tensors(encoder).items()):
        found.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(_raw(tensor))
    return found.digest()


def _key(digest: bytes, view: Tensor) -> bytes:
    """Of what an encoder makes of a view, in the precision that products have here."""
    kind = view.device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else "own"
    found = hashlib.blake2b(digest + f"{precision} {view.dtype} {tuple(view.shape)}".encode(), digest_size=16)
    found.update(_raw(view))
    return found.digest()


def _raw(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def _apart(packed: Packed, count: int, name: str) -> list[dict[str, Tensor]]:
    """The features of each view: tokens, grid, one vector, and those of other depths."""
    out: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for key, part in {"": packed, **{f"{depth}.": tap for depth, tap in packed.taps.items()}}.items():
        if len(part.grids) != count or (part.taps and key):
            raise BeholderError(
                f"branch {name} reads its views together; their features cannot be kept one by one"
            )
        for own, tokens_ND, grid in zip(out, part.split(), part.grids, strict=True):
            own[f"{key}tokens"], own[f"{key}grid"] = tokens_ND.clone(), torch.tensor(grid)
        if part.pooled_VD is not None:
            for own, pooled_D in zip(out, part.pooled_VD, strict=True):
                own[f"{key}pooled"] = pooled_D.clone()
    return out


def _together(views: Sequence[Mapping[str, Tensor]], device: torch.device) -> Packed:
    """`_apart` undone."""

    def packed(key: str, taps: Mapping[int, Packed]) -> Packed:
        tokens_ND = torch.cat([view[f"{key}tokens"].to(device) for view in views])
        pooled = [view[f"{key}pooled"].to(device) for view in views if f"{key}pooled" in view]
        grids = tuple(Grid(*view[f"{key}grid"].tolist()) for view in views)
        return Packed(tokens_ND, grids, taps, torch.stack(pooled) if pooled else None)

    depths = sorted({int(key.partition(".")[0]) for key in views[0] if key.endswith(".tokens")})
    return packed("", {depth: packed(f"{depth}.", {}) for depth in depths})
