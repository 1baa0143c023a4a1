"""What trains in a stage: its rules matched against the parameters of a model."""

from __future__ import annotations

import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from beholder.cards.schema import Stage, Trains
from beholder.errors import BeholderError, nearest
from beholder.parts.adapters.apply import known_as, put_on
from beholder.parts.adapters.base import Adapter
from beholder.parts.adapters.named import chosen
from beholder.parts.adapters.prompts import PromptAdapter
from beholder.speed.linears import PackedLinear, Slice

if TYPE_CHECKING:
    from rich.table import Table

PARTS = ("vision", "connector", "fusion", "language", "heads", "codecs", "adapters")
WIDE = 200  # columns of a table that is text


@dataclass(frozen=True)
class Group:
    """The parameters one rule trains, by name. depths: layers of its stack above each, for rates."""

    rule: Trains
    parameters: dict[str, nn.Parameter]
    depths: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_values(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters.values())

    def by_rate(self) -> list[tuple[float, list[nn.Parameter]]]:
        """Learning rates and what has them, the lowest layers first."""
        rule, found = self.rule, defaultdict[int, list[nn.Parameter]](list)
        for name, parameter in self.parameters.items():
            found[0 if rule.layer_decay == 1 else self.depths.get(name, 0)].append(parameter)
        return [(rule.lr * rule.layer_decay**depth, found[depth]) for depth in sorted(found, reverse=True)]


@dataclass(frozen=True)
class Plan:
    """A stage's groups on one model; `frozen` counts the values that stay as they are, packed ones included. parts: values of
    each part of the model in all, and of these those that train.
    """

    stage: Stage
    groups: tuple[Group, ...]
    frozen: int
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """Every parameter that trains, by name."""
        return {name: value for group in self.groups for name, value in group.parameters.items()}

    def optimizer_groups(self) -> list[dict[str, object]]:
        """Parameter groups for a torch optimizer: one for each rule, or for each layer of a rule with `layer_decay`."""
        return [
            {"params": parameters, "lr": rate, "weight_decay": group.rule.weight_decay}
            for group in self.groups
            for rate, parameters in group.by_rate()
        ]

    def table(self) -> str:
        """What trains, a line per rule and per part, as text."""
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=WIDE, color_system=None).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def __rich__(self) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        total = self.frozen + sum(group.num_values for group in self.groups)
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("what trains", overflow="fold")
        for column in ("adapter", "rate"):
            table.add_column(column)
        for column in ("decay", "tensors", "values", "share"):
            table.add_column(column, justify="right")
        for group in self.groups:
            rule, values = group.rule, group.num_values
            decay = f"{rule.weight_decay:g}"
            tensors = f"{len(group.parameters):,}"
            named = (
                rule.pattern,
                _told(rule),
                _rates(group),
                decay,
                tensors,
                f"{values:,}",
                _share(values, total),
            )
            table.add_row(*named)
        table.add_row(
            "(frozen)", "", "", "", "", f"{self.frozen:,}", _share(self.frozen, total), end_section=True
        )
        for part, (values, trained) in self.parts.items():
            table.add_row(
                f"of {part} ({values:,})", *[""] * 4, f"{trained:,}", _share(trained, values), style="dim"
            )
        return table


def prepare_stage(model: nn.Module, stage: Stage) -> Plan:
    """Put a stage's adapters on the model and freeze and free its parameters, in place.

    The first rule that matches a parameter decides; what none matches is frozen. A rule with an adapter trains that alone: of a
    map its weight and bias are decided, and frozen, with it; of a layer nothing else is. Raises `BeholderError` for a rule that
    matches nothing, with the names that are nearest, or matches only what earlier rules decided.
    """
    for rule in stage.rules:
        adapter = adapter_of(rule)
        if adapter is not None:
            put_on(model, adapter)
    matched: dict[int, dict[str, nn.Parameter]] = {index: {} for index in range(len(stage.rules))}
    shares: dict[str, list[int]] = {part: [0, 0] for part in PARTS}
    for name, parameter in model.named_parameters():
        index = _first_match(name, stage.rules)
        parameter.requires_grad_(trains(name, stage))
        if index is not None:
            matched[index][name] = parameter
        share = shares.setdefault(part_of(name), [0, 0])
        share[0] += parameter.numel()
        share[1] += parameter.numel() if parameter.requires_grad else 0
    for name, module in model.named_modules():
        if isinstance(module, PackedLinear):
            shares.setdefault(part_of(name), [0, 0])[0] += module.in_features * module.out_features
        if isinstance(module, (PackedLinear, Slice)):
            _check_packed(stage, f"{name}.weight")
    _check_rules(stage, matched, [name for name, _ in model.named_parameters()])
    depths = layer_depths([name for name, _ in model.named_parameters()])
    groups = tuple(
        Group(rule, {name: p for name, p in matched[index].items() if p.requires_grad}, depths)
        for index, rule in enumerate(stage.rules)
        if rule.lr > 0
    )
    frozen = sum(values - trained for values, trained in shares.values())
    parts = {part: (values, trained) for part, (values, trained) in shares.items() if values}
    return Plan(stage, groups, frozen, parts)


def adapter_of(rule: Trains) -> Adapter | None:
    """What a rule puts on; None where it trains parameters themselves."""
    return chosen(rule.adapter, rule.rank, rule.pattern, rule.above)


def trains(name: str, stage: Stage) -> bool:
    """Whether a stage trains the parameter `name`. Under a rule with an adapter only adapters of its kind train."""
    index = _first_match(name, stage.rules)
    if index is None or stage.rules[index].lr <= 0:
        return False
    return adapter_of(stage.rules[index]) is None or known_as(name)[1] != ""


def store_frozen(model: nn.Module, dtype: torch.dtype) -> None:
    """Keep the frozen weights of the language parts as `dtype`, in place: half the memory traffic in bfloat16."""
    for parameter in model.get_submodule("languages").parameters():
        if not parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def part_of(name: str) -> str:
    """Which part of a system a parameter, or a module, belongs to."""
    if known_as(name)[1]:
        return "adapters"
    first, _, rest = name.partition(".")
    if first == "branches":
        return "connector" if rest.partition(".")[2].startswith("connector") else "vision"
    return "language" if first == "languages" else first


def layer_depths(names: Iterable[str]) -> dict[str, int]:
    """How many layers stand above each parameter in its stack (`blocks.{}`): 0 in the last layer and behind it, as many as
    there are in front of the first one, and 0 where there is no stack.
    """
    ordered = [(name, known_as(name)[0]) for name in names]
    counts: Counter[str] = Counter()
    begins: dict[str, int] = {}
    for place, (_, known) in enumerate(ordered):
        for prefix, number in _stacks(known):
            counts[prefix] = max(counts[prefix], number + 1)
            begins.setdefault(prefix, place)
    depths = {}
    for place, (name, known) in enumerate(ordered):
        inside = _stacks(known)
        if inside:
            prefix, number = inside[0]
            depths[name] = counts[prefix] - 1 - number
        else:
            owners = [prefix for prefix in counts if known.startswith(prefix)]
            owner = max(owners, key=len, default=None)
            depths[name] = counts[owner] if owner is not None and place < begins[owner] else 0
    return depths


def _stacks(name: str) -> list[tuple[str, int]]:
    """The outermost stack of layers that a name lies in, and the layer's number."""
    found = re.search(r"(^|\.)blocks\.(\d+)\.", name)
    return [(name[: found.start() + len(found[1])], int(found[2]))] if found else []


def _check_rules(stage: Stage, matched: Mapping[int, Mapping[str, object]], names: Sequence[str]) -> None:
    for index, rule in enumerate(stage.rules):
        if matched[index]:
            continue
        taken = [name for name in names if rule.matches(name)]
        if taken:
            first = _first_match(taken[0], stage.rules)
            assert first is not None
            said = f"{taken[0]} and all others that match are of the rule {stage.rules[first].pattern!r} before it"
        else:
            near = nearest(rule.pattern, {re.sub(r"\.\d+\.", ".*.", name) for name in names})
            said = f"nothing is called so; nearest: {', '.join(near)}"
        raise BeholderError(
            f"stage {stage.name}: rule {rule.pattern!r} decides no parameter; correct or remove it ({said})"
        )


def _check_packed(stage: Stage, name: str) -> None:
    index = _first_match(name, stage.rules)
    if index is not None and stage.rules[index].lr > 0 and adapter_of(stage.rules[index]) is None:
        raise BeholderError(
            f"stage {stage.name}: rule {stage.rules[index].pattern!r} is to train {name}, which is packed; give it a rank, or "
            "load the model without a precision"
        )


def _first_match(name: str, rules: Sequence[Trains]) -> int | None:
    """An adapter's parameters are matched under the name of what they change, and by rules of their own kind."""
    known, kind = known_as(name)
    return next((index for index, rule in enumerate(rules) if _speaks_of(rule, name, known, kind)), None)


def _speaks_of(rule: Trains, name: str, known: str, kind: str) -> bool:
    adapter = adapter_of(rule)
    if kind and adapter is not None:
        return adapter.kind == kind and (not known or rule.matches(known))
    if isinstance(adapter, PromptAdapter):
        return False
    return rule.matches(known) or rule.matches(name)


def _told(rule: Trains) -> str:
    adapter = adapter_of(rule)
    if adapter is None:
        return ""
    name = adapter.kind if isinstance(rule.adapter, Adapter) else rule.adapter or "lora"
    size = getattr(adapter, "rank", None) or getattr(adapter, "count", None)
    return name if size is None else f"{name} {size}"


def _rates(group: Group) -> str:
    rates = [rate for rate, _ in group.by_rate()] or [group.rule.lr]
    return f"{rates[0]:.3g}" if len(rates) == 1 else f"{rates[0]:.2g} to {rates[-1]:.2g}"


def _share(values: int, total: int) -> str:
    return f"{100 * values / total:.2f} %" if total else ""
