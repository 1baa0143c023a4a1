"""A small dual encoder with random weights, and pictures of one colour each."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from beholder.cards.schema import Card
from beholder.model import build
from beholder.pipeline import Pipeline
from tests.toys import DUAL, byte_tokenizer

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (90, 90, 90)}


def made(card: Card = DUAL, seed: int = 4) -> Pipeline:
    """A pipeline whose weights are random, norms and biases too."""
    model = build(card, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)) * 0.3)
    return Pipeline(model, byte_tokenizer())


def paint(folder: Path) -> list[Path]:
    """Pictures in the folder and in one below it, a damaged one and a text among them; gives those that can be read."""
    (folder / "more").mkdir(parents=True)
    paths = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        path = folder / ("more" if number % 2 else ".") / f"{name}.png"
        Image.new("RGB", (40, 30 + number), colour).save(path)
        paths.append(path)
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    return paths
