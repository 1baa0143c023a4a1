"""What files in their authors' layout are tested with: a small checkpoint of such names, written and opened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from beholder import load
from beholder.cards import card
from beholder.model import build
from beholder.parts.language.decoder import Decoder
from beholder.weights.layout import to_own, to_published
from beholder.weights.load import state_shapes, state_tensors
from beholder.weights.readers.systems import read_system


def both(*names: str) -> set[str]:
    """The weight and the bias of each module."""
    return {f"{name}.{leaf}" for name in names for leaf in ("weight", "bias")}


def published_names(config: Mapping[str, Any], prefix: str = "") -> set[str]:
    """What a checkpoint of these settings holds under `prefix`, without it."""
    reading = read_system(config, name="small")
    published = to_published(state_tensors(build(reading.card, device="meta")), reading.namings[0])
    return {name.removeprefix(prefix) for name in published if name.startswith(prefix)}


def assert_comes_back(config: Mapping[str, Any], folder: Path) -> None:
    """Values survive both directions, and a folder that holds them under the authors' names opens with them."""
    reading = read_system(config, name="small")
    model = build(reading.card, seed=3)
    state = state_tensors(model)
    published = to_published(state, reading.namings[0])
    again = to_own(published, reading.namings[0], state_shapes(model))
    assert all(torch.equal(again[name].load(), value) for name, value in state.items())
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        {name: value.load().contiguous() for name, value in published.items()}, folder / "model.safetensors"
    )
    opened = state_tensors(load(folder, dtype=torch.float32).model)
    assert set(opened) == set(state) and all(torch.equal(opened[name], state[name]) for name in state)


def assert_is_card(config: Mapping[str, Any], name: str) -> None:
    """The card that a released file gives has the branches, the fusion and the decoder of the one written here. Files give the
    number of key heads even where it is that of the queries.
    """
    read, written = read_system(config, name=name).card, card(name)
    assert read.branches == written.branches and read.fusion == written.fusion
    mine, theirs = read.main, written.main
    assert isinstance(mine, Decoder) and isinstance(theirs, Decoder)
    attention = theirs.attention
    assert mine.attention.num_kv_heads in (attention.num_kv_heads, attention.num_heads)
    assert mine.but(**{"attention.num_kv_heads": attention.num_kv_heads}) == theirs
