"""A loaded model turned into its form for inference, in place: the same modules, whose matrices are packed and joined.

N outputs, K inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError
from beholder.model import BranchModule, Model
from beholder.native.whole import attend_whole, usable
from beholder.parts.adapters.base import AdaptedLinear
from beholder.parts.blocks.attention import SelfAttention
from beholder.parts.blocks.mlp import FeedForwardLayer
from beholder.parts.blocks.norms import RmsNorm
from beholder.parts.blocks.read_weights import read_elsewhere
from beholder.parts.contracts import Context
from beholder.parts.contracts import Packed as Features
from beholder.parts.language.decoder import DecoderModel
from beholder.speed.linears import (
    ACTIVATED,
    Activated,
    Gated,
    PackedLinear,
    is_packed,
    slices,
)
from beholder.speed.maps import packed_linear
from beholder.speed.memory import Files, trim
from beholder.speed.norms import Turner, packed_norm
from beholder.speed.precision import Precision

SMALLEST = 1 << 14  # weights of a matrix below which packing gains nothing
LEFT_PARTS = {"heads": "a head of its own kind", "codecs": "a codec"}


@dataclass(frozen=True)
class Map:
    """One packed map: the modules it took the place of, its shape (outputs, inputs) and its form."""

    names: tuple[str, ...]
    shape: tuple[int, int]
    kind: str


@dataclass(frozen=True)
class Packed:
    """What `pack` did. left: maps that stayed as they were, and why. Bytes are of all parameters, buffers and maps; a tied
    head's map is one more beside the table of words.
    """

    precision: Precision
    maps: tuple[Map, ...]
    left: Mapping[str, str]
    bytes_before: int
    bytes_after: int

    def __str__(self) -> str:
        kinds = Counter(packed.kind for packed in self.maps)
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none"
        reasons = "; ".join(
            f"{count} left: {reason}" for reason, count in Counter(self.left.values()).items()
        )
        sizes = f"{self.bytes_before / 1e6:.1f} MB to {self.bytes_after / 1e6:.1f} MB"
        return f"{self.precision}: {counts}; {sizes}" + (f"; {reasons}" if reasons else "")


@torch.no_grad()
def pack(
    model: Model, precision: Precision | str, *, smallest: int = SMALLEST, partly: bool = False
) -> Packed:
    """Give a model's linear maps the form for inference, in place. It does not train, move or save afterwards. Maps with fewer
    than `smallest` weights keep theirs. partly: some maps are packed already and stay. Another device than a processor takes
    float32 and bf16, as types of all parameters. float32 beside other precisions is for systems whose fusions and heads take
    features of any type.

    Raises `BeholderError` for int8 and int4 on such a device and for a model that is packed already.
    """
    if is_packed(model) and not partly:
        raise BeholderError(f"{model.card.name} is packed already; load it again with another precision")
    chosen = check_precision(precision, model.device.type)
    before = num_bytes(model)
    model.requires_grad_(False).eval()
    packer = _Packer(model, chosen, smallest)
    if model.device.type == "cpu":
        packer.run()
        _attend_compiled(model, chosen)
    for part, module in _parts(model):
        _cast(module, chosen.dtype(part))
    _join_parts(model, chosen)
    trim()
    return Packed(chosen, tuple(packer.maps), packer.left, before, num_bytes(model))


def check_precision(
    precision: Precision | str, device: str = "cpu", dtype: torch.dtype | None = None
) -> Precision:
    """The precision meant; raises `BeholderError` where it does not go with a device or a type of parameters."""
    chosen = Precision.parse(precision) if isinstance(precision, str) else precision
    if dtype is not None:
        raise BeholderError(f"both a precision, {chosen}, and a dtype are given; leave one out")
    if torch.device(device).type != "cpu" and chosen.quantised:
        raise BeholderError(
            f"precision {chosen} is for processors and the device is {device}; use precision bf16 or the device cpu"
        )
    return chosen


class _Packer:
    def __init__(self, model: Model, precision: Precision, smallest: int) -> None:
        self.model, self.precision, self.smallest = model, precision, smallest
        self.maps: list[Map] = []
        self.left: dict[str, str] = {}
        self.made: dict[tuple[int, ...], PackedLinear] = {}
        self.files = Files()

    def run(self) -> None:
        """One map after the other, so that each is let go when it is packed."""
        reasons = _reasons(dict(self.model.named_modules()))
        for name in [name for name, _ in self.model.named_modules()]:
            module = self.model.get_submodule(name)
            if isinstance(module, SelfAttention):
                self._attention(name, module, reasons)
            elif isinstance(module, FeedForwardLayer):
                self._mlp(name, module, reasons)
        for name in [name for name, _ in self.model.named_modules(remove_duplicate=False)]:
            module = self.model.get_submodule(name)
            if isinstance(module, nn.Linear):
                self._alone(name, module, reasons.get(name))
            elif isinstance(module, (RmsNorm, nn.LayerNorm)):
                self._norm(name, module)
        self._tied_head()

    def _norm(self, name: str, module: nn.Module) -> None:
        """Norms of bf16 that stand in a part with packed maps."""
        if name.split(".")[0] in LEFT_PARTS or self.precision.dtype(_part_of(name)) != torch.bfloat16:
            return
        norm, (parent, _, child) = packed_norm(module), name.rpartition(".")
        if norm is not None:
            setattr(self.model.get_submodule(parent), child, norm)

    def _attention(self, name: str, attention: SelfAttention, reasons: Mapping[str, str]) -> None:
        """Queries, keys and values in one map, for attention that reads one input."""
        kind = type(attention)
        if kind.heads is not SelfAttention.heads or kind.project is not SelfAttention.project:
            return
        if attention.fused is not None:
            return
        joined = self._join(name, ("q", "k", "v"), attention, reasons)
        if joined is not None:
            attention.fused = joined

    def _mlp(self, name: str, mlp: FeedForwardLayer, reasons: Mapping[str, str]) -> None:
        """The gate and what it multiplies in one map; or an activation that the map applies itself."""
        if mlp.fused is not None:
            return
        if mlp.gate is not None:
            joined = self._join(name, ("gate", "up"), mlp, reasons)
            act = mlp.config.act if mlp.threshold is None else None
            mlp.fused = None if joined is None else Gated(joined, mlp.active, act)
            return
        self._alone(f"{name}.up", mlp.up, reasons.get(f"{name}.up"))
        up: nn.Module = mlp.up
        if isinstance(up, PackedLinear) and mlp.config.act in ACTIVATED and mlp.threshold is None:
            mlp.fused = Activated(up, mlp.config.act)

    def _join(
        self, owner: str, children: Sequence[str], module: nn.Module, reasons: Mapping[str, str]
    ) -> PackedLinear | None:
        """One map for several of the same input, which become slices of it; None where one of them is no plain map."""
        linears = [getattr(module, child) for child in children]
        names = tuple(f"{owner}.{child}" for child in children)
        if any(
            type(linear) is not nn.Linear or name in reasons
            for name, linear in zip(names, linears, strict=True)
        ):
            return None
        if len({linear.in_features for linear in linears}) > 1:
            return None
        weight_NK = torch.cat([linear.weight for linear in linears])
        if weight_NK.numel() < self.smallest:
            return None
        joined = self._packed(names, weight_NK, _joined_bias(linears))
        for linear in linears:
            self.files.forget(linear.weight)
        parts = slices(joined, [linear.out_features for linear in linears])
        for child, part in zip(children, parts, strict=True):
            setattr(module, child, part)
        return joined

    def _alone(self, name: str, linear: nn.Linear, reason: str | None) -> None:
        if reason is None and linear.weight.numel() < self.smallest:
            reason = "small"
        if reason is not None:
            self.left[name] = reason
            return
        key = (id(linear.weight), id(linear.bias))
        if key not in self.made:
            self.made[key] = self._packed((name,), linear.weight, linear.bias)
            self.files.forget(linear.weight)
        parent, _, child = name.rpartition(".")
        setattr(self.model.get_submodule(parent), child, self.made[key])

    def _packed(self, names: tuple[str, ...], weight_NK: Tensor, bias_N: Tensor | None) -> PackedLinear:
        packed = packed_linear(weight_NK, bias_N, self.precision.of(_part_of(names[0])))
        trim()
        self.maps.append(Map(names, (packed.out_features, packed.in_features), packed.kind))
        return packed

    def _tied_head(self) -> None:
        """A map for the words' scores beside their table, where a system writes text."""
        if "main" not in self.model.languages or "text" not in {
            head.output for head in self.model.card.heads
        }:
            return
        for name, part in list(self.model.languages["main"].named_modules(prefix="languages.main")):
            if isinstance(part, DecoderModel) and part.head is None:
                weight_VD = part.embedding.weight
                assert isinstance(weight_VD, Tensor)
                if weight_VD.numel() >= self.smallest:
                    part.head = self._packed((f"{name}.head",), weight_VD, part.head_bias)  # type: ignore[assignment]


def _reasons(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """Why linear maps stay as they are, by name."""
    read = read_elsewhere(modules)
    reasons = {}
    for name, module in modules.items():
        if not isinstance(module, nn.Linear):
            continue
        top = name.split(".")[0]
        if isinstance(module, AdaptedLinear):
            reasons[name] = "it has an adapter; merge it first (merge_adapters)"
        elif type(module) is not nn.Linear:
            reasons[name] = f"a {type(module).__name__} computes otherwise"
        elif name in read or name.rpartition(".")[0] in read:
            reasons[name] = "its part reads the weight itself"
        elif top in LEFT_PARTS:
            reasons[name] = LEFT_PARTS[top]
    return reasons


def _joined_bias(linears: Sequence[nn.Linear]) -> Tensor | None:
    if all(linear.bias is None for linear in linears):
        return None
    return torch.cat(
        [
            linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
            for linear in linears
        ]
    )


def _part_of(name: str) -> str:
    """Which part of a precision a module goes with."""
    pieces = name.split(".")
    if pieces[0] == "branches":
        return "connector" if pieces[2] == "connector" else "vision"
    return "head" if pieces[0] == "languages" and pieces[-1] == "head" else "language"


def _parts(model: Model) -> Iterator[tuple[str, nn.Module]]:
    """Everything that has parameters, each with its part; a head of a language part after the rest of it."""
    for branch in model.branches.values():
        assert isinstance(branch, BranchModule)
        yield from (("vision", branch.vision), ("vision", branch.others))
        if branch.connector is not None:
            yield "connector", branch.connector
    rest = "language" if model.languages else "vision"
    for module in (model.languages, model.fusion, model.heads, model.codecs):
        yield rest, module


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Floating-point parameters and persistent buffers in another type, as they would be loaded in it."""
    for owner in module.modules():
        for parameter in owner.parameters(recurse=False):
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
        for name, buffer in owner.named_buffers(recurse=False):
            if buffer.is_floating_point() and name not in owner._non_persistent_buffers_set:
                owner._buffers[name] = buffer.to(dtype)


def _attend_compiled(model: nn.Module, precision: Precision) -> None:
    """Queries and keys are turned, and whole sequences in bf16 attended, by compiled code, where there is some for this
    processor.
    """
    whole = usable()
    for name, module in model.named_modules():
        if isinstance(module, SelfAttention):
            module.turner = (
                None if module.fused is None else Turner.of(module, precision.dtype(_part_of(name)))
            )
            module.kernel = attend_whole if whole else None


def _join_parts(model: Model, precision: Precision) -> None:
    """Let pixels, sounds and features come in the type of the part that reads them."""
    kinds = {part: precision.dtype(part) for part in ("vision", "connector", "language")}
    reads = kinds["language"] if model.languages else kinds["vision"]
    for branch in model.branches.values():
        assert isinstance(branch, BranchModule)
        given = reads if branch.connector is None else kinds["connector"]
        for encoder in (branch.vision, *branch.others):
            _between(encoder, kinds["vision"], torch.float32, given)
        if branch.connector is not None:
            _between(branch.connector, kinds["connector"], kinds["connector"], reads)


def _between(module: nn.Module, own: torch.dtype, read: torch.dtype, given: torch.dtype) -> None:
    """Hooks where a module of type `own` reads or is to give another type."""
    if read != own:
        module.register_forward_pre_hook(lambda _module, args: tuple(_recast(arg, own) for arg in args))
    if given != own:
        module.register_forward_hook(lambda _module, _args, features: _recast(features, given))


def _recast(given: Any, dtype: torch.dtype) -> Any:
    """Tensors, features, and what else a connector reads, in a type."""
    if isinstance(given, Tensor):
        return given.to(dtype) if given.is_floating_point() else given
    if isinstance(given, (list, tuple)):
        return [_recast(one, dtype) for one in given]
    if isinstance(given, Features):
        return replace(
            given,
            tokens_ND=_recast(given.tokens_ND, dtype),
            taps={depth: _recast(taps, dtype) for depth, taps in given.taps.items()},
            pooled_VD=_recast(given.pooled_VD, dtype),
        )
    if isinstance(given, Context):
        text = given.text and replace(given.text, embeddings_BTD=_recast(given.text.embeddings_BTD, dtype))
        return replace(given, encoders=tuple(_recast(given.encoders, dtype)), text=text)
    return given


def num_bytes(model: nn.Module) -> int:
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    packed = sum(module.nbytes for module in model.modules() if isinstance(module, PackedLinear))
    return packed + sum(tensor.nbytes for tensor in tensors.values())
