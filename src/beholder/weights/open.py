"""Checkpoints to models: official folders by their `config.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from beholder.errors import WeightsError
from beholder.media.geometry import Geometry
from beholder.media.settings import geometry_from_official
from beholder.model import Model, build
from beholder.weights.files import open_weights
from beholder.weights.layout import Binding
from beholder.weights.load import load_state
from beholder.weights.readers.systems import Naming, Reading, Recorded, read_system


@dataclass(frozen=True)
class Opened:
    """A model with its weights. bindings and config: how it was published, where it was."""

    model: Model
    folder: Path
    bindings: tuple[Binding, ...] = ()
    stages: Mapping[str, Recorded] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


def open_official(folder: str | Path, *, dtype: torch.dtype | None = None, device: str = "cpu") -> Opened:
    """Build the system that a folder's `config.json` describes and load its weights strictly.

    Raises `BeholderError` for a folder that lacks a file or holds an unknown type, `WeightsError` for weights that do not
    fit. Nothing in the folder is executed.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    reading = read_folder_config(folder, config)
    published = open_weights(folder)
    naming = choose_naming(reading, published)
    model = build(reading.card, device="meta")
    load_state(model, published, naming, dtype=dtype, device=device)
    return Opened(model.eval(), folder, naming, reading.stages, config)


def read_folder_config(folder: Path, config: Mapping[str, Any]) -> Reading:
    """The reading of a folder's `config.json`, with the geometry of its processor settings."""
    return read_system(config, name=folder.resolve().name, geometry=folder_geometry(folder, config))


def folder_geometry(folder: Path, config: Mapping[str, Any]) -> Geometry | None:
    """From `preprocessor_config.json` or `processor_config.json`; None where neither speaks of pictures."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            settings = read_json(folder / name)
            if name.startswith("pre") or "image_processor" in settings:
                return geometry_from_official(settings, config)
    return None


def choose_naming(reading: Reading, keys: Iterable[str]) -> Naming:
    """The naming whose prefixes all occur among `keys`, longer prefixes first; else the usual one, whose strict load will
    say what is wrong.
    """
    keys = list(keys)
    for naming in reading.namings:
        required = [b.prefix for b in naming if b.prefix and any(op is not None for op in b.layout.rules.values())]
        optional = {b.prefix for b in naming if b.layout.name.startswith("tied")}
        if all(any(key.startswith(prefix) for key in keys) for prefix in required if prefix not in optional):
            return naming
    return reading.namings[0]


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file; raises `WeightsError` in one line where there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path.parent}: no {path.name}; is it a checkpoint folder?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(data, dict):
        raise WeightsError(f"{path}: expected an object, got a {type(data).__name__}")
    return data
