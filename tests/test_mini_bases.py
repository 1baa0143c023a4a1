"""The base weights of mini, computed by our parts and by the package that published them: `pytest -m published`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from beholder.media.decode import decode
from beholder.media.geometry import Fixed
from beholder.media.pixels import load_views
from beholder.packages import Package, cache_folder, fetch
from beholder.parts.vision.efficientnet import EfficientNetLite
from beholder.weights.files import open_weights
from beholder.weights.layout import Binding
from beholder.weights.layouts.convnets import EFFICIENTNET_LITE
from beholder.weights.load import load_state
from beholder.weights.pickles import convert_pickle
from beholder.weights.pull import ASSEMBLIES
from beholder.weights.sources import fetch_file

pytestmark = pytest.mark.published

OFFICIAL = Package(
    "pip",
    "efficientnet-lite-pytorch",
    "0.1.0",
    "efficientnet_lite_pytorch-0.1.0-py3-none-any.whl",
    "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
)


def test_efficientnet_lite0_equals_the_official_code(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ImageNet scores of two real photos: relative to their spread, within 1e-4."""
    source = ASSEMBLIES["mini"].vision
    weights = open_weights(convert_pickle(fetch_file(source), source.sha256, tmp_path / "vision.safetensors"))
    monkeypatch.syspath_prepend(fetch(OFFICIAL, cache_folder() / "downloads"))
    official = sys.modules.get("efficientnet_lite_pytorch") or __import__("efficientnet_lite_pytorch")
    theirs = official.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict({name: tensor.load() for name, tensor in weights.items()}, strict=False)
    ours = EfficientNetLite(classes=1000).build()
    load_state(ours, weights, (Binding("", "", EFFICIENTNET_LITE),))
    geometry = Fixed(size=(224, 224), mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    pixels = []
    for name in ("cat.jpg", "coffee.jpg"):
        picture = decode(samples / name)
        pixels += load_views(picture, geometry.views(picture.shape[:2]), geometry)
    with torch.inference_mode():
        scores, wanted = ours.eval().classify(torch.stack(pixels)), theirs.eval()(torch.stack(pixels))
    assert (scores - wanted).abs().max() / wanted.std() < 1e-4
    assert scores.argmax(1).tolist() == wanted.argmax(1).tolist()
    assert int(scores[0].argmax()) in range(281, 286)  # ImageNet's domestic cats
