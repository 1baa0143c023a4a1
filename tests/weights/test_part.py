"""One part out of a whole checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from beholder.errors import WeightsError
from beholder.pipeline import load
from beholder.weights.open import read_json
from beholder.weights.part import open_part
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_decoder, read_encoder


def test_a_tower_and_a_language_model_of_a_system(oracle: Callable[[str], Path]) -> None:
    folder = oracle("llava")
    config = read_json(folder / "config.json")
    whole = load(folder).model
    tower = open_part(folder, read_encoder(Fields(config["vision_config"])), "vision_tower.")
    theirs = whole.branch("image").vision.state_dict()
    ours = tower.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(WeightsError, match=r"'visual\.'; keys begin with "):
        open_part(folder, read_encoder(Fields(config["vision_config"])), "visual.")
    with pytest.raises(WeightsError, match="unexpected"):
        open_part(folder, read_decoder(Fields(config["text_config"])), "vision_tower.")
