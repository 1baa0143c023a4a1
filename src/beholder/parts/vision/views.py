"""Sizes of views, and views of unequal sizes through an encoder that takes stacks of equal ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from beholder.media.plan import Size
from beholder.parts.contracts import Context

T = TypeVar("T")

VALUES_AT_ONCE = 3 * 2**23  # eight pictures of 1024 x 1024 pixels


def size_of(view: Tensor) -> Size:
    """(rows, columns) of the last two axes."""
    return view.shape[-2], view.shape[-1]


def stacked(views: Sequence[Tensor]) -> Tensor:
    """(n, ...) of n views of one size, not to be written to: the same memory where they lie one after the other in it, as
    `media.pixels.load_views` makes them, else a copy.
    """
    first, step = views[0], views[0].numel() * views[0].element_size()
    together = not torch.compiler.is_compiling() and all(
        type(view) is Tensor  # others have no memory to look at
        and view.is_contiguous()
        and not view.requires_grad
        and view.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        and (view.dtype, view.data_ptr()) == (first.dtype, first.data_ptr() + number * step)
        for number, view in enumerate(views)
    )
    if not together:
        return torch.stack(list(views))
    return first.as_strided((len(views), *first.shape), (first.numel(), *first.stride()))


def by_size(views: Sequence[Tensor], encode: Callable[[Tensor], Iterable[T]]) -> list[T]:
    """`encode` (n, 3, h, w) -> n results, applied to the views of each size together; one result per view, in order. Without
    gradients no more than `VALUES_AT_ONCE` go in together, so that a long recording takes no more memory than a short one.
    """
    groups: dict[torch.Size, list[int]] = {}
    for index, view in enumerate(views):
        groups.setdefault(view.shape, []).append(index)
    results: dict[int, T] = {}
    for indices in groups.values():
        most = len(indices)
        if not torch.is_grad_enabled():
            most = max(VALUES_AT_ONCE // max(views[indices[0]].numel(), 1), 1)
        for first in range(0, len(indices), most):
            own = indices[first : first + most]
            results.update(zip(own, encode(stacked([views[index] for index in own])), strict=True))
    return [results[index] for index in range(len(views))]


def views_of_pictures(context: Context | None, num_views: int) -> list[int]:
    """How many of so many views each picture or recording has; where none were planned, each view is a picture."""
    counts = [len(plan.views) for plan in context.pictures] if context else []
    return counts if sum(counts) == num_views else [1] * num_views
