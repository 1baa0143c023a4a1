"""Recomputing layers in the backward pass instead of keeping what they computed (1604.06174, section 3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from beholder.train.gradients import draws

LAYERS = "blocks"  # what lists of equal layers are called, in every part


@contextmanager
def recomputed(model: nn.Module, wanted: bool = True) -> Iterator[int]:
    """While the block runs, every layer of every part keeps its inputs alone and computes again in the backward pass: memory of
    one layer instead of all, for a third more time. Gives the number of such layers; 0 where not `wanted`.
    """
    layers = layers_of(model) if wanted else []
    for layer in layers:
        layer.forward = partial(_again, layer.forward, draws(model))
    try:
        yield len(layers)
    finally:
        for layer in layers:
            del layer.forward  # the class's own comes to light again


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of all parts' stacks."""
    stacks = [module for name, module in model.named_modules() if name.rpartition(".")[2] == LAYERS]
    return [layer for stack in stacks if isinstance(stack, nn.ModuleList) for layer in stack]


def _again(forward: Any, keep_random_state: bool, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=keep_random_state, **kwargs)
