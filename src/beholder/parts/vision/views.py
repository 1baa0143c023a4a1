"""Views of unequal sizes through an encoder that takes stacks of equal ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def by_size(views: Sequence[Tensor], encode: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """`encode` (n, 3, h, w) -> (n, ...) applied to the views of each size together; one result per view, in order."""
    groups: dict[torch.Size, list[int]] = {}
    for index, view in enumerate(views):
        groups.setdefault(view.shape, []).append(index)
    results: dict[int, Tensor] = {}
    for indices in groups.values():
        results.update(zip(indices, encode(torch.stack([views[index] for index in indices])), strict=True))
    return [results[index] for index in range(len(views))]
