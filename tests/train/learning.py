"""Whether a model learns a small batch by heart, and small batches to learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from beholder.cards.schema import Card
from beholder.data.samples import Sample, Turn
from beholder.model import Model, build
from beholder.train.collate import TrainBatch
from beholder.train.objectives import Objective


def stirred(card: Card, seed: int = 3, spread: float = 0.05) -> Model:
    """A tiny model, or that of a small card, whose zeros and equal numbers are random too."""
    model = build(card, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)
    return model


def pictures(count: int, size: tuple[int, int] = (28, 28), seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(count)]


def titled(titles: Sequence[str], size: tuple[int, int] = (28, 28)) -> list[Sample]:
    """Pictures of noise, each with a title; of several, a turn each."""
    return [
        Sample(pixels, tuple(Turn("", each, "title") for each in title.split("|")), str(row))
        for row, (pixels, title) in enumerate(zip(pictures(len(titles), size), titles, strict=True))
    ]


def learn(
    model: Model, objective: Objective, item: TrainBatch, *, steps: int = 30, lr: float = 3e-3
) -> list[float]:
    """The losses of so many steps on one batch, which must fall to less than 0.7 of the first; all finite."""
    call: Callable[..., Any] = getattr(objective, "prepare", lambda _model: None)
    call(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    losses = []
    for _ in range(steps):
        loss = objective(model, item)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        getattr(objective, "after_step", lambda _model: None)(model)
        losses.append(float(loss.detach()))
    assert all(np.isfinite(losses))
    assert losses[-1] < 0.7 * losses[0], losses
    return losses


def untouched(model: Model) -> set[str]:
    """Parameters that the last backward gave no gradient, those apart that no forward uses; all gradients are finite."""
    unused = model.unused_parameters()
    given = {name: p.grad for name, p in model.named_parameters() if name not in unused}
    assert all(bool(gradient.isfinite().all()) for gradient in given.values() if gradient is not None)
    return {name for name, gradient in given.items() if gradient is None or not gradient.abs().sum()}
