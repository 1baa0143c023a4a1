"""Two-way names: a layout maps one publisher's names of one part to ours; a binding puts it under a prefix.

The engine is lazy: `to_own` and `to_published` look at names and shapes; loading a result reads its values.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from beholder.errors import WeightsError
from beholder.weights.differences import Differences
from beholder.weights.lazy import LazyTensor, LazyTensors, Shape, lazy
from beholder.weights.ops import Fuse, Numbers, OneToOne, Op, Rename, Split, Stack, Tied, number

WILDCARD = re.compile(r"\{\}|\*$")


@dataclass(frozen=True, eq=False)
class Layout:
    """Rules from published names (relative to a prefix) to ours.

    A key is a pattern in which `{}` stands for one segment between dots, and a final `*` for any rest. A value is our
    pattern with the same wildcards, None for a key dropped on purpose, or an operation of `beholder.weights.ops`.
    """

    rules: Mapping[str, str | Op | None]
    name: str = ""

    def __post_init__(self) -> None:
        for rule in self.parsed:
            for target in rule.targets:
                numbered = ["{}"] if isinstance(rule.op, Stack) else []
                if _wildcards(target) + numbered != _wildcards(rule.key):
                    raise ValueError(
                        f"layout {self.name}: {rule.key!r} and {target!r} differ in their wildcards"
                    )

    @cached_property
    def parsed(self) -> tuple[Rule, ...]:
        """The rules with plain strings written as `Rename`."""
        return tuple(Rule(key, Rename(op) if isinstance(op, str) else op) for key, op in self.rules.items())

    def but(self, rules: Mapping[str, str | Op | None], *, name: str = "") -> Layout:
        """The same layout with some rules replaced or added."""
        return Layout({**self.rules, **rules}, name or self.name)


@dataclass(frozen=True)
class Rule:
    """One line of a layout: a published pattern, and what becomes of it (None: dropped)."""

    key: str
    op: Op | None

    @property
    def targets(self) -> tuple[str, ...]:
        return self.op.targets if self.op is not None else ()

    @cached_property
    def key_regex(self) -> re.Pattern[str]:
        return _regex(self.key)

    @cached_property
    def target_regexes(self) -> tuple[re.Pattern[str], ...]:
        return tuple(_regex(target) for target in self.targets)


@dataclass(frozen=True)
class Binding:
    """A layout under a published prefix and one of ours, with the numbers that its operations name.

    `drop` lists published patterns (relative to the prefix) that this system leaves unused although the
    layout knows them, such as encoder layers past the one that is read.
    """

    prefix: str
    own_prefix: str
    layout: Layout
    numbers: Numbers = field(default_factory=dict)
    drop: tuple[str, ...] = ()

    @cached_property
    def dropped(self) -> tuple[Rule, ...]:
        return tuple(Rule(key, None) for key in self.drop)


@dataclass(frozen=True)
class Claim:
    """A rule that applies to a name, with what its `{}` stood for."""

    binding: Binding
    rule: Rule
    values: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.binding.prefix + _fill(self.rule.key, self.values)

    @property
    def own(self) -> tuple[str, ...]:
        values = self.values[:-1] if isinstance(self.rule.op, Stack) else self.values
        return tuple(self.binding.own_prefix + _fill(target, values) for target in self.rule.targets)

    @property
    def piece(self) -> int:
        """Which piece of our parameter this is, where several published tensors make it; -1 for a name that is none."""
        op = self.rule.op
        if isinstance(op, Stack):
            found = self.values[-1]
            return (
                int(found)
                if found.isdecimal() and int(found) < number(op.count, self.binding.numbers)
                else -1
            )
        return op.index if isinstance(op, Fuse) else -1


def to_own(
    published: LazyTensors,
    bindings: Sequence[Binding],
    own_shapes: Mapping[str, Shape],
    *,
    aliases: Mapping[str, str] | None = None,
) -> dict[str, LazyTensor]:
    """Published tensors as ours, one for every name of `own_shapes`, values unread.

    `aliases` maps further names of a shared parameter to the one in `own_shapes`; what is published under
    them is a tied copy. Raises `Mismatch` with all differences: parameters without a source, keys that no
    rule uses, other shapes.
    """
    found = _Found(published, bindings, own_shapes, aliases or {})
    for key in published:
        found.take(key)
    return found.finish()


def to_published(
    own: Mapping[str, Tensor | LazyTensor], bindings: Sequence[Binding]
) -> dict[str, LazyTensor]:
    """Our tensors under published names and forms, values uncomputed: the exact inverse of `to_own`.

    Dropped keys and tied copies are not written. Raises `WeightsError` for a name of ours that no rule
    publishes.
    """
    tensors = {name: lazy(name, t) if isinstance(t, Tensor) else t for name, t in own.items()}
    result: dict[str, LazyTensor] = {}
    homeless = []
    for name in tensors:
        claims = claims_on_own(name, bindings)
        if not claims:
            homeless.append(name)
        for claim in claims:
            absent = [other for other in claim.own if other not in tensors]
            if absent:
                raise WeightsError(
                    f"{claim.key} is made of {', '.join(claim.own)} but {', '.join(absent)} is absent"
                )
            result[claim.key] = _publish(claim, tensors)
    if homeless:
        names = ", ".join(homeless[:12])
        raise WeightsError(
            f"this layout has no published name for {len(homeless)} of our parameters: {names}"
        )
    return result


def published_name(name: str, bindings: Sequence[Binding]) -> str | None:
    """The first published key of a parameter of ours; None where no rule has it."""
    claims = claims_on_own(name, bindings)
    return claims[0].key if claims else None


class _Found:
    """What the published keys seen so far give."""

    def __init__(
        self,
        published: LazyTensors,
        bindings: Sequence[Binding],
        shapes: Mapping[str, Shape],
        aliases: Mapping[str, str],
    ) -> None:
        self.published, self.bindings, self.shapes, self.aliases = published, bindings, shapes, aliases
        self.own: dict[str, LazyTensor] = {}
        self.sources: dict[str, str] = {}
        self.pieces: dict[str, dict[int, tuple[Claim, LazyTensor]]] = defaultdict(dict)
        self.copies: list[tuple[str, LazyTensor]] = []
        self.differences = Differences()

    def take(self, key: str) -> None:
        claim, tensor = claim_on_published(key, self.bindings), self.published[key]
        own = [self.aliases.get(name, name) for name in claim.own] if claim else []
        numbered = claim is not None and isinstance(claim.rule.op, Stack)
        if claim is None or any(name not in self.shapes for name in own) or (numbered and claim.piece < 0):
            self.differences.unexpected.append(key)
            return
        op, numbers = claim.rule.op, claim.binding.numbers
        shapes = [self.shapes[name] for name in own]
        if isinstance(op, Tied):
            if self._fits(key, tensor, shapes[0]):
                self.copies.append((own[0], tensor))
        elif isinstance(op, Fuse):
            if self._fits(key, tensor, op.published_shape(shapes[0], numbers)):
                self.pieces[claim.own[0]][claim.piece] = (claim, tensor)
        elif isinstance(op, Stack):
            if self._fits(key, tensor, shapes[0][1:]):
                self.pieces[claim.own[0]][claim.piece] = (claim, tensor)
        elif isinstance(op, Split):
            fits = self._fits(key, tensor, op.published_shape(shapes, numbers))
            for i, name in enumerate(claim.own):
                self._fill(name, key, _split(claim, tensor, shapes, i) if fits else tensor)
        elif isinstance(op, OneToOne):
            fits = self._fits(key, tensor, op.published_shape(shapes[0], numbers))
            mapped = _one(claim, tensor, shapes[0]) if fits else tensor
            if own[0] != claim.own[0]:
                self.copies.append((own[0], mapped))
            else:
                self._fill(own[0], key, mapped)

    def finish(self) -> dict[str, LazyTensor]:
        for name, pieces in self.pieces.items():
            self._join(name, [pieces[i] for i in sorted(pieces)])
        for name, copy in self.copies:
            self.own[name] = (
                _checked(self.own[name], copy, self.sources.get(name, "another copy"))
                if name in self.own
                else copy
            )
        for name in self.shapes:
            if name not in self.own:
                self.differences.missing.append((published_name(name, self.bindings) or "?", name))
        self.differences.check(self.published)
        return {name: self.own[name] for name in self.shapes}

    def _fits(self, key: str, tensor: LazyTensor, want: Shape) -> bool:
        if tensor.shape != want:
            self.differences.reshaped.append((key, tensor.shape, want))
        return tensor.shape == want

    def _fill(self, name: str, key: str, tensor: LazyTensor) -> None:
        if name in self.own:
            raise WeightsError(f"{self.sources[name]} and {key} both fill {name}; the layouts overlap")
        self.own[name], self.sources[name] = tensor, key

    def _join(self, name: str, pieces: list[tuple[Claim, LazyTensor]]) -> None:
        present = {claim.key for claim, _ in pieces}
        absent = [c.key for c in claims_on_own(name, self.bindings) if c.key not in present]
        self.differences.missing.extend((key, name) for key in absent)
        first = pieces[0][1]
        op = pieces[0][0].rule.op

        def read(dtype: torch.dtype | None) -> Tensor:
            loaded = [tensor.load(dtype) for _, tensor in pieces]
            return torch.cat(loaded, dim=op.dim) if isinstance(op, Fuse) else torch.stack(loaded)

        keys = ", ".join(sorted(present))
        self._fill(name, keys, LazyTensor(name, self.shapes[name], first.dtype, read, first.origin))


def _one(claim: Claim, tensor: LazyTensor, own: Shape) -> LazyTensor:
    op, numbers = claim.rule.op, claim.binding.numbers
    assert isinstance(op, OneToOne)

    def read(dtype: torch.dtype | None) -> Tensor:
        return op.load(tensor.load(dtype), own, numbers)

    return LazyTensor(tensor.name, own, tensor.dtype, read, tensor.origin)


def _split(claim: Claim, tensor: LazyTensor, own: list[Shape], i: int) -> LazyTensor:
    op, numbers = claim.rule.op, claim.binding.numbers
    assert isinstance(op, Split)

    def read(dtype: torch.dtype | None) -> Tensor:
        return op.load(tensor.load(dtype), own, numbers)[i]

    return LazyTensor(tensor.name, own[i], tensor.dtype, read, tensor.origin)


def _checked(first: LazyTensor, copy: LazyTensor, source: str) -> LazyTensor:
    """`first`, refusing on load a tied copy that differs."""

    def read(dtype: torch.dtype | None) -> Tensor:
        values = first.load(dtype)
        if not torch.equal(values, copy.load(dtype)):
            raise WeightsError(
                f"{copy.name} should be a copy of {source} but differs; "
                "load it with a layout that does not tie them"
            )
        return values

    return LazyTensor(first.name, first.shape, first.dtype, read, first.origin)


def _publish(claim: Claim, own: LazyTensors) -> LazyTensor:
    op, numbers = claim.rule.op, claim.binding.numbers
    tensors = [own[name] for name in claim.own]
    if isinstance(op, Split):
        shape = op.published_shape([tensor.shape for tensor in tensors], numbers)

        def read(dtype: torch.dtype | None) -> Tensor:
            return op.save([tensor.load(dtype) for tensor in tensors], numbers)
    elif isinstance(op, Stack):
        shape = tensors[0].shape[1:]

        def read(dtype: torch.dtype | None) -> Tensor:
            return tensors[0].load(dtype)[claim.piece].clone()
    else:
        assert isinstance(op, (OneToOne, Fuse))
        shape = op.published_shape(tensors[0].shape, numbers)

        def read(dtype: torch.dtype | None) -> Tensor:
            return op.save(tensors[0].load(dtype), numbers)

    return LazyTensor(claim.key, shape, tensors[0].dtype, read, tensors[0].origin)


def claim_on_published(key: str, bindings: Sequence[Binding]) -> Claim | None:
    """The rule for a published key, from the longest prefix that has one."""
    for group in _by_length(key, [(b.prefix, b) for b in bindings]):
        claims = []
        for binding in group:
            rest = key[len(binding.prefix) :]
            matches = [(rule, rule.key_regex.fullmatch(rest)) for rule in binding.dropped]
            if not any(match for _, match in matches):
                matches = [(rule, rule.key_regex.fullmatch(rest)) for rule in binding.layout.parsed]
            claims += [Claim(binding, rule, match.groups()) for rule, match in matches if match]
        if len(claims) > 1:
            rules = " and ".join(repr(claim.binding.prefix + claim.rule.key) for claim in claims)
            raise WeightsError(f"two rules claim {key}: {rules}")
        if claims:
            return claims[0]
    return None


def claims_on_own(name: str, bindings: Sequence[Binding]) -> list[Claim]:
    """The rules that publish a parameter of ours: one, or all pieces of a `Fuse` in order."""
    for group in _by_length(name, [(b.own_prefix, b) for b in bindings]):
        claims = []
        for binding in group:
            rest = name[len(binding.own_prefix) :]
            for rule in binding.layout.parsed:
                if not isinstance(rule.op, Tied):
                    matches = [regex.fullmatch(rest) for regex in rule.target_regexes]
                    claims += [
                        Claim(binding, rule, (*match.groups(), *piece))
                        for match in matches
                        if match
                        for piece in _pieces(rule.op, binding.numbers)
                    ]
        if len(claims) > 1 and not all(isinstance(claim.rule.op, (Fuse, Stack)) for claim in claims):
            raise WeightsError(f"two rules publish {name}: {' and '.join(claim.key for claim in claims)}")
        if claims:
            return sorted(claims, key=lambda claim: claim.piece)
    return []


def _pieces(op: Op | None, numbers: Numbers) -> list[tuple[str, ...]]:
    """What the number of a stacked tensor may be; nothing to fill in for other operations."""
    return [(str(i),) for i in range(number(op.count, numbers))] if isinstance(op, Stack) else [()]


def _by_length(name: str, prefixed: Iterable[tuple[str, Binding]]) -> list[list[Binding]]:
    """Bindings whose prefix begins `name`, grouped by prefix, longest first."""
    groups: dict[str, list[Binding]] = defaultdict(list)
    for prefix, binding in prefixed:
        if name.startswith(prefix):
            groups[prefix].append(binding)
    return [groups[prefix] for prefix in sorted(groups, key=len, reverse=True)]


def _regex(pattern: str) -> re.Pattern[str]:
    pieces = WILDCARD.split(pattern)
    groups = ("([^.]+)" if wildcard == "{}" else "(.*)" for wildcard in _wildcards(pattern))
    rest = (group + re.escape(piece) for group, piece in zip(groups, pieces[1:], strict=True))
    return re.compile(re.escape(pieces[0]) + "".join(rest))


def _fill(pattern: str, values: Sequence[str]) -> str:
    pieces = WILDCARD.split(pattern)
    return pieces[0] + "".join(value + piece for value, piece in zip(values, pieces[1:], strict=True))


def _wildcards(pattern: str) -> list[str]:
    return WILDCARD.findall(pattern)
