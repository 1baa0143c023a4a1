"""The closed list of what may happen to values between a published checkpoint and our parameters.

Every operation has an exact inverse, so that loading and exporting again gives the same bytes (but for what `Behind` says
nobody reads). `OneToOne` operations nest: `Reshape(Transpose("patch.weight", (1, 0)), shape=(-1, 16))` reshapes the published
tensor, then transposes it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from beholder.errors import UnknownName, WeightsError
from beholder.weights.lazy import Shape

Numbers = Mapping[str, int]
Count = int | str


def number(value: Count, numbers: Numbers) -> int:
    """A count given in an operation, or by a name that the binding gives a number."""
    if isinstance(value, int):
        return value
    if value not in numbers:
        raise UnknownName("number in a layout (bindings give numbers)", value, numbers)
    return numbers[value]


class Op(ABC):
    """What happens to the values of one published tensor."""

    @property
    @abstractmethod
    def targets(self) -> tuple[str, ...]:
        """Our names (patterns) that this operation fills, in whole or in part."""


class OneToOne(Op):
    """One published tensor becomes one of ours. `target` is our name, or the operation that follows."""

    target: str | OneToOne

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,) if isinstance(self.target, str) else self.target.targets

    def published_shape(self, own: Shape, numbers: Numbers) -> Shape:
        """The published shape that gives a parameter of shape `own`."""
        return self._shape(
            own if isinstance(self.target, str) else self.target.published_shape(own, numbers), numbers
        )

    def load(self, published: Tensor, own: Shape, numbers: Numbers) -> Tensor:
        """Published values as ours, of shape `own`."""
        if isinstance(self.target, str):
            return self._load(published, own, numbers)
        middle = self.target.published_shape(own, numbers)
        return self.target.load(self._load(published, middle, numbers), own, numbers)

    def save(self, own: Tensor, numbers: Numbers) -> Tensor:
        """Our values as published: the inverse of `load`."""
        return self._save(own if isinstance(self.target, str) else self.target.save(own, numbers), numbers)

    @abstractmethod
    def _shape(self, own: Shape, numbers: Numbers) -> Shape: ...

    @abstractmethod
    def _load(self, published: Tensor, own: Shape, numbers: Numbers) -> Tensor: ...

    @abstractmethod
    def _save(self, own: Tensor, numbers: Numbers) -> Tensor: ...


@dataclass(frozen=True)
class Rename(OneToOne):
    """Another name, the same values. A plain string in a layout means this."""

    target: str | OneToOne

    def _shape(self, own: Shape, numbers: Numbers) -> Shape:
        return own

    def _load(self, published: Tensor, own: Shape, numbers: Numbers) -> Tensor:
        return published

    def _save(self, own: Tensor, numbers: Numbers) -> Tensor:
        return own


@dataclass(frozen=True)
class Transpose(OneToOne):
    """Axes in another order: axis i of ours is axis `dims[i]` of the published tensor."""

    target: str | OneToOne
    dims: tuple[int, ...] = (1, 0)

    def _inverse(self) -> tuple[int, ...]:
        return tuple(sorted(range(len(self.dims)), key=lambda i: self.dims[i]))

    def _shape(self, own: Shape, numbers: Numbers) -> Shape:
        _check_rank(self, own, len(self.dims))
        return tuple(own[i] for i in self._inverse())

    def _load(self, published: Tensor, own: Shape, numbers: Numbers) -> Tensor:
        return published.permute(self.dims)

    def _save(self, own: Tensor, numbers: Numbers) -> Tensor:
        return own.permute(self._inverse())


@dataclass(frozen=True)
class Reshape(OneToOne):
    """The same values in the same order under another shape. `shape` is the published one: counts, names of
    numbers, and at most one -1 for what is left.
    """

    target: str | OneToOne
    shape: tuple[Count, ...]

    def _shape(self, own: Shape, numbers: Numbers) -> Shape:
        shape = [number(n, numbers) for n in self.shape]
        total, known = math.prod(own), math.prod(n for n in shape if n != -1)
        if shape.count(-1) == 1 and known and total % known == 0:
            shape[shape.index(-1)] = total // known
        if -1 in shape or math.prod(shape) != total:
            raise WeightsError(f"{self.targets[0]}: shape {own} cannot be published as {self.shape}")
        return tuple(shape)

    def _load(self, published: Tensor, own: Shape, numbers: Numbers) -> Tensor:
        return published.reshape(own)

    def _save(self, own: Tensor, numbers: Numbers) -> Tensor:
        return own.reshape(self._shape(tuple(own.shape), numbers))


@dataclass(frozen=True)
class Pointwise(OneToOne):
    """A matrix published as a convolution whose kernel has one element: `axes` more axes of length 1."""

    target: str | OneToOne
    axes: int = 2

    def _shape(self, own: Shape, numbers: Numbers) -> Shape:
        return (*own, *(1,) * self.axes)

    def _load(self, published: Tensor, own: Shape, numbers: Numbers) -> Tensor:
        return published.reshape(own)

    def _save(self, own: Tensor, numbers: Numbers) -> Tensor:
        return own.reshape(self._shape(tuple(own.shape), numbers))


@dataclass(frozen=True)
class Leading(OneToOne):
    """The same values published with `axes` more axes of length 1 in front: tokens that are learned for a batch of one."""

    target: str | OneToOne
    axes: int = 1

    def _shape(self, own: Shape, numbers: Numbers) -> Shape:
        return (*(1,) * self.axes, *own)

    def _load(self, published: Tensor, own: Shape, numbers: Numbers) -> Tensor:
        return published.reshape(own)

    def _save(self, own: Tensor, numbers: Numbers) -> Tensor:
        return own.reshape(self._shape(tuple(own.shape), numbers))


@dataclass(frozen=True)
class Behind(OneToOne):
    """The same rows, published behind `rows` others that the official code never reads: places of a class token that is taken
    away. They are not kept, and written as zeros.
    """

    target: str | OneToOne
    rows: int = 1

    def _shape(self, own: Shape, numbers: Numbers) -> Shape:
        return (own[0] + self.rows, *own[1:])

    def _load(self, published: Tensor, own: Shape, numbers: Numbers) -> Tensor:
        return published[self.rows :]

    def _save(self, own: Tensor, numbers: Numbers) -> Tensor:
        return torch.cat((own.new_zeros(self.rows, *own.shape[1:]), own))


@dataclass(frozen=True)
class RopePermute(OneToOne):
    """Rows of a query or key projection, head by head: published as pairs (x0, y0, x1, y1, ...) that rotate
    together, ours as halves (x0, x1, ..., y0, y1, ...). GGUF files of Llama models and the original Llama
    release have pairs.
    """

    target: str | OneToOne
    heads: Count

    def _shape(self, own: Shape, numbers: Numbers) -> Shape:
        heads = number(self.heads, numbers)
        if not own or own[0] % (2 * heads):
            raise WeightsError(
                f"{self.targets[0]}: {own} rows are not {heads} heads of pairs; check the number of heads"
            )
        return own

    def _load(self, published: Tensor, own: Shape, numbers: Numbers) -> Tensor:
        heads = number(self.heads, numbers)
        return published.reshape(heads, -1, 2, *own[1:]).transpose(1, 2).reshape(own)

    def _save(self, own: Tensor, numbers: Numbers) -> Tensor:
        heads = number(self.heads, numbers)
        return own.reshape(heads, 2, -1, *own.shape[1:]).transpose(1, 2).reshape(own.shape)


@dataclass(frozen=True)
class Grouped(OneToOne):
    """Rows of pieces that follow each other in ours alternate `groups` times in the published parameter. `share`: the sizes of
    the pieces as in `Fuse`. What `Split` with groups does, for pieces that are one parameter of ours.
    """

    target: str | OneToOne
    share: tuple[Count, ...]
    groups: Count

    def _shape(self, own: Shape, numbers: Numbers) -> Shape:
        share, groups = [number(count, numbers) for count in self.share], number(self.groups, numbers)
        if not own or own[0] % sum(share) or any(count % groups for count in share):
            raise WeightsError(
                f"{self.targets[0]}: {own} rows do not divide in shares {share} of {groups} groups"
            )
        return own

    def _sizes(self, rows: int, numbers: Numbers) -> list[int]:
        share = [number(count, numbers) for count in self.share]
        return [rows // sum(share) * count for count in share]

    def _load(self, published: Tensor, own: Shape, numbers: Numbers) -> Tensor:
        groups = number(self.groups, numbers)
        sizes = [size // groups for size in self._sizes(own[0], numbers)]
        return torch.cat(
            [part.flatten(0, 1) for part in published.unflatten(0, (groups, -1)).split(sizes, 1)]
        )

    def _save(self, own: Tensor, numbers: Numbers) -> Tensor:
        parts = own.split(self._sizes(len(own), numbers))
        return torch.cat(
            [part.unflatten(0, (number(self.groups, numbers), -1)) for part in parts], 1
        ).flatten(0, 1)


@dataclass(frozen=True)
class Exchange(OneToOne):
    """Columns `start` to `start + dim * places` of a matrix stand for squares of so many places with `dim` channels: published
    by channel, then place, ours by place, then channel. Others stay.
    """

    target: str | OneToOne
    start: Count
    dim: Count
    places: Count

    def _cells(self, numbers: Numbers) -> tuple[int, int, int]:
        start, dim, places = (number(count, numbers) for count in (self.start, self.dim, self.places))
        return start, dim, places

    def _shape(self, own: Shape, numbers: Numbers) -> Shape:
        start, dim, places = self._cells(numbers)
        if len(own) != 2 or own[1] < start + dim * places:
            raise WeightsError(f"{self.targets[0]}: {own} has no columns {start} to {start + dim * places}")
        return own

    def _load(self, published: Tensor, own: Shape, numbers: Numbers) -> Tensor:
        start, dim, places = self._cells(numbers)
        return _exchanged(published, start, dim, places)

    def _save(self, own: Tensor, numbers: Numbers) -> Tensor:
        start, dim, places = self._cells(numbers)
        return _exchanged(own, start, places, dim)


def _exchanged(matrix: Tensor, start: int, rows: int, columns: int) -> Tensor:
    """The matrix with `rows` x `columns` cells of each row, from `start` on, read column by column."""
    before, cells, behind = matrix.split(
        [start, rows * columns, matrix.shape[1] - start - rows * columns], dim=1
    )
    turned = cells.unflatten(1, (rows, columns)).transpose(1, 2).flatten(1)
    return torch.cat((before, turned, behind), 1)


@dataclass(frozen=True)
class Split(Op):
    """One published tensor is several of ours, one after the other along `dim`, sized as our parameters are.

    `groups`: the pieces alternate that many times (InternLM2 stores q, k, v of each key-value head together).
    """

    into: tuple[str | OneToOne, ...]
    dim: int = 0
    groups: Count = 1

    @property
    def pieces(self) -> tuple[OneToOne, ...]:
        return tuple(Rename(piece) if isinstance(piece, str) else piece for piece in self.into)

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(piece.targets[0] for piece in self.pieces)

    def published_shape(self, own: Sequence[Shape], numbers: Numbers) -> Shape:
        """The published shape that gives parameters of the shapes `own`."""
        shapes = [
            piece.published_shape(shape, numbers) for piece, shape in zip(self.pieces, own, strict=True)
        ]
        dim, groups = self.dim, number(self.groups, numbers)
        rests = {shape[:dim] + shape[dim + 1 :] for shape in shapes if len(shape) > dim}
        if len(rests) != 1 or any(len(shape) <= dim or shape[dim] % groups for shape in shapes):
            raise WeightsError(
                f"{self.targets}: shapes {shapes} do not join along axis {dim} in {groups} groups"
            )
        return (*shapes[0][:dim], sum(shape[dim] for shape in shapes), *shapes[0][dim + 1 :])

    def load(self, published: Tensor, own: Sequence[Shape], numbers: Numbers) -> list[Tensor]:
        """The published values as our parameters of the shapes `own`."""
        shapes = [
            piece.published_shape(shape, numbers) for piece, shape in zip(self.pieces, own, strict=True)
        ]
        groups = number(self.groups, numbers)
        grouped = published.unflatten(self.dim, (groups, -1))
        parts = grouped.split([shape[self.dim] // groups for shape in shapes], dim=self.dim + 1)
        return [
            piece.load(part.flatten(self.dim, self.dim + 1), shape, numbers)
            for piece, part, shape in zip(self.pieces, parts, own, strict=True)
        ]

    def save(self, own: Sequence[Tensor], numbers: Numbers) -> Tensor:
        """Our values as the published tensor: the inverse of `load`."""
        groups = number(self.groups, numbers)
        saved = [piece.save(tensor, numbers) for piece, tensor in zip(self.pieces, own, strict=True)]
        parts = [tensor.unflatten(self.dim, (groups, -1)) for tensor in saved]
        return torch.cat(parts, dim=self.dim + 1).flatten(self.dim, self.dim + 1)


@dataclass(frozen=True)
class Copies(Split):
    """One published tensor stands for several of ours, each equal to it. Writing them back raises `WeightsError` where they
    have come to differ.
    """

    def published_shape(self, own: Sequence[Shape], numbers: Numbers) -> Shape:
        if len(set(own)) != 1:
            raise WeightsError(f"{self.targets}: shapes {list(own)} cannot be copies of one tensor")
        return own[0]

    def load(self, published: Tensor, own: Sequence[Shape], numbers: Numbers) -> list[Tensor]:
        return [published.clone() for _ in own]

    def save(self, own: Sequence[Tensor], numbers: Numbers) -> Tensor:
        if not all(torch.equal(own[0], other) for other in own[1:]):
            raise WeightsError(f"{', '.join(self.targets)} are published as one tensor but differ")
        return own[0]


@dataclass(frozen=True)
class Fuse(Op):
    """This published tensor is piece `index` of one of ours, pieces following each other along `dim`.

    `share` gives the relative sizes of all pieces, as counts or names of numbers: q of a fused qkv under
    grouped-query attention is `Fuse("qkv.weight", 0, ("num_heads", "num_kv_heads", "num_kv_heads"))`.
    """

    target: str
    index: int
    share: tuple[Count, ...]
    dim: int = 0

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,)

    def span(self, own: Shape, numbers: Numbers) -> tuple[int, int]:
        """First row and number of rows of this piece in a parameter of shape `own`."""
        share = [number(count, numbers) for count in self.share]
        if len(own) <= self.dim or own[self.dim] % sum(share):
            raise WeightsError(
                f"{self.target}: shape {own} does not divide along axis {self.dim} in shares {share}"
            )
        unit = own[self.dim] // sum(share)
        return unit * sum(share[: self.index]), unit * share[self.index]

    def published_shape(self, own: Shape, numbers: Numbers) -> Shape:
        """The shape of this piece for a parameter of shape `own`."""
        return (*own[: self.dim], self.span(own, numbers)[1], *own[self.dim + 1 :])

    def save(self, own: Tensor, numbers: Numbers) -> Tensor:
        """This piece of our values."""
        return own.narrow(self.dim, *self.span(tuple(own.shape), numbers))


@dataclass(frozen=True)
class Stack(Op):
    """Published tensors numbered by one `{}` of the key, the last, are slices of one of ours along its first axis: the
    matrices of experts. `target` has the other wildcards; `count` is how many there are.
    """

    target: str
    count: Count

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,)


@dataclass(frozen=True)
class Tied(Op):
    """A published copy of the parameter `target`, which another rule fills as well. Not needed on loading,
    must be equal where present, stands in where the first one is absent, and is not written on export.
    """

    target: str

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,)


def _check_rank(op: OneToOne, own: Shape, rank: int) -> None:
    if len(own) != rank:
        raise WeightsError(f"{op.targets[0]}: shape {own} has {len(own)} axes, the layout speaks of {rank}")
