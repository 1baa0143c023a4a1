"""Adapters put on a built model, listed, merged into it and taken off."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from beholder.errors import BeholderError, nearest
from beholder.parts.adapters.base import AdaptedLinear, Adapter, LinearAdapter, adaptable, rejoin
from beholder.parts.adapters.low_rank import Lora, LowRankLinear
from beholder.parts.adapters.named import KINDS
from beholder.parts.adapters.prompts import PromptAdapter
from beholder.parts.blocks.read_weights import read_elsewhere

OWNED = re.compile(r"^adapters\.|\.fused(\.joined)*$")  # parts of adapters, and joined forms of maps
# last piece of a parameter's name -> the kind of adapter that it belongs to, in a linear map and in a layer
IN_MAPS = {leaf: kind.kind for kind in KINDS if issubclass(kind, LinearAdapter) for leaf in kind.leaves}
IN_LAYERS = {leaf: kind.kind for kind in KINDS if issubclass(kind, PromptAdapter) for leaf in kind.leaves}


def put_on(model: nn.Module, adapter: Adapter) -> list[str]:
    """Put an adapter on the linear maps, or into the layers, that it matches, in place; returns their names. What has one of
    its kind keeps it. A built system's card tells of it from then on, so that saving and building again keep it.

    Raises `BeholderError` where nothing matches, or what matches has an adapter of another kind.
    """
    if isinstance(adapter, PromptAdapter):
        names, new = _stand(model, adapter)
    else:
        assert isinstance(adapter, LinearAdapter)
        names, new = _change(model, adapter)
    card: Any = getattr(model, "card", None)
    if new and card is not None and adapter not in card.adapters:
        model.card = card.but(adapters=(*card.adapters, adapter))
    return names


def apply_adapters(model: nn.Module, pattern: str, rank: int, alpha: float | None = None) -> list[str]:
    """`put_on` for low-rank adapters, on the linear maps whose weight's name matches `pattern`. alpha: 2 * rank where None."""
    return put_on(model, Lora(pattern=pattern, rank=rank, alpha=alpha))


def _change(model: nn.Module, adapter: LinearAdapter) -> tuple[list[str], bool]:
    known = linear_maps(model)
    names = [name for name in known if adapter.matches(f"{name}.weight")]
    if not names:
        said = adapter.pattern or ", ".join(adapter.layers[:3])
        near = ", ".join(f"{name}.weight" for name in nearest(said.removesuffix(".weight"), known))
        raise BeholderError(
            f"adapters: no linear layer's weight matches {said!r}" + (f"; nearest: {near}" if near else "")
        )
    absent = [layer for layer in adapter.layers if layer not in known]
    if absent:
        raise BeholderError(f"adapters: the model has no linear layer {absent[0]} ({len(absent)} such names)")
    for name in names:
        module = known[name]
        if isinstance(module, AdaptedLinear) and module.kind != adapter.kind:
            raise BeholderError(
                f"{name} has a {module.kind} adapter; merge it before you put a {adapter.kind} adapter there"
            )
    fresh = [name for name in names if not isinstance(known[name], AdaptedLinear)]
    for name in fresh:
        _replace(model, name, adapter.build(known[name], name))
    for owner in dict.fromkeys(name.rpartition(".")[0] for name in fresh):
        rejoin(model.get_submodule(owner))
    return names, bool(fresh)


def linear_maps(model: nn.Module) -> dict[str, nn.Module]:
    """The maps that can have an adapter, or have one, by name: not those whose weight a part reads itself, nor what adapters
    are made of.
    """
    modules = dict(model.named_modules())
    inner = {id(module.base) for module in modules.values() if isinstance(module, AdaptedLinear)}
    read = read_elsewhere(modules)
    return {
        name: module
        for name, module in modules.items()
        if adaptable(module)
        and id(module) not in inner
        and not OWNED.search(name)
        and not {name, name.rpartition(".")[0]} & read
    }


def _stand(model: nn.Module, adapter: PromptAdapter) -> tuple[list[str], bool]:
    system: Any = model
    main = getattr(getattr(model, "card", None), "main", None)
    if main is None:
        raise BeholderError(f"{adapter.kind} adapters stand in a language part, which this model lacks")
    numbers = adapter.numbers(main)
    if not numbers:
        raise BeholderError(
            f"adapters: {adapter.pattern!r} matches no layer of the language part; write languages.main.blocks.*"
        )
    names = [f"languages.main.blocks.{number}" for number in numbers]
    if any(known.kind == adapter.kind for known in system.standing):
        return names, False
    system.stand(adapter, adapter.build(system.language, numbers))
    return names, True


@torch.no_grad()
def merge_adapters(model: nn.Module) -> int:
    """Add every adapter's change to its layer's weight and take the adapter off, in place; returns how many.

    Raises `BeholderError`, and changes nothing, where one cannot be merged: mixtures, bottlenecks, prompts, all on packed maps.
    """
    standing = getattr(model, "standing", ())
    if standing:
        raise BeholderError(
            f"{standing[0].kind} adapters are no change of a matrix, so they cannot be merged; keep them"
        )
    adapted = adapters(model)
    merged = {name: layer.merged() for name, layer in adapted.items()}
    for name, layer in adapted.items():
        weight, bias = merged.pop(name)
        plain = nn.Linear(layer.in_features, layer.out_features, bias=bias is not None, device="meta")
        plain.weight = nn.Parameter(weight.to(layer.weight.dtype), requires_grad=layer.weight.requires_grad)
        plain.bias = bias  # type: ignore[assignment]
        _replace(model, name, plain.train(layer.training))
    card: Any = getattr(model, "card", None)
    if card is not None:
        model.card = card.but(adapters=())
    return len(adapted)


def adapters(model: nn.Module) -> dict[str, AdaptedLinear]:
    """The adapted linear maps by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}


def adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What is trained in adapted maps, by name. `<layer>.lora_a` (R, I) and `<layer>.lora_b` (O, R) have the scale multiplied
    in, so that the change of a weight is their product; `<layer>.lora_m` (O) are DoRA's magnitudes.
    """
    tensors = {}
    for name, layer in adapters(model).items():
        for leaf in layer.leaves:
            value = getattr(layer, leaf)
            if value is not None:
                scale = layer.scaling if leaf == "lora_b" and isinstance(layer, LowRankLinear) else 1.0
                tensors[f"{name}.{leaf}"] = value.detach() * scale
    return tensors


def known_as(name: str) -> tuple[str, str]:
    """The name by which rules speak of a parameter, and the kind of adapter that it belongs to: adapters of a map go by its
    weight's name, those in layers by `languages.main.blocks.{}.attn.` and a leaf; "" for what all layers share.
    """
    layer, _, leaf = name.rpartition(".")
    if leaf in IN_MAPS:
        return f"{layer}.weight", IN_MAPS[leaf]
    if not name.startswith("adapters."):
        return name, ""
    kind = next(IN_LAYERS[piece] for piece in name.split(".") if piece in IN_LAYERS)
    number = re.match(r"adapters\.\d+\.layers\.(\d+)\.", name)
    return (f"languages.main.blocks.{number[1]}.attn.{leaf}" if number else ""), kind


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
