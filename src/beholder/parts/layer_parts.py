"""What fusions may put into the layers of a language part, by layer and slot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

SLOTS = ("sees", "before", "after", "norm1", "qkv", "heads", "out", "between", "norm2", "mlp", "prefix")
LayerParts = Mapping[int, Mapping[str, nn.Module]]


class LayerPart(Protocol):
    """A module that a fusion puts into a language layer.

    sees:          (hidden_BTD, layer, step) -> None, before the layer: may hide tokens from it and all later ones
    before, after: (hidden_BTD, inputs, state) -> hidden_BTD, around the layer
    qkv, out, mlp, norm1, norm2: (x_BTD, base, inputs) -> what base(x_BTD) gives; base is the layer's own projections, MLP
                   or norm of what the mixer or the MLP reads, which also take some tokens alone, (N, D)
    heads:         (heads_BHTK, queries_BHTK, x_BTD, step) -> what the heads give before they are joined
    between:       (hidden_BTD, step) -> hidden_BTD, behind the mixer's half
    prefix:        (step) -> (keys, values), each (B, heads, P, K), seen by every query
    """

    def __call__(self, *args: Any) -> Any: ...
