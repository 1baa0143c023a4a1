"""One part out of a published checkpoint, such as the vision tower of a system whose other parts are not wanted."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from beholder.errors import WeightsError
from beholder.model import NoDraws
from beholder.parts.codecs.contract import CodecConfig
from beholder.parts.contracts import EncoderConfig, LanguageConfig
from beholder.weights.files import open_weights
from beholder.weights.layout import Binding
from beholder.weights.load import load_state
from beholder.weights.readers.read import Read


def open_part(
    folder: str | Path,
    read: Read[EncoderConfig] | Read[LanguageConfig] | Read[CodecConfig],
    prefix: str,
    *,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """The part that `read` describes with the weights under `prefix` (`vision_tower.`), all other keys left alone.

    drop: patterns relative to the prefix of weights that belong to another part. Raises `WeightsError` where nothing lies
    under the prefix or what does is not the part's.
    """
    weights = {key: tensor for key, tensor in open_weights(folder).items() if key.startswith(prefix)}
    if not weights:
        known = ", ".join(sorted({key.split(".")[0] + "." for key in open_weights(folder)}))
        raise WeightsError(f"{folder}: no weights under {prefix!r}; keys begin with {known}")
    with torch.device("meta"), NoDraws():
        module = read.config.build()
    load_state(
        module, weights, (Binding(prefix, "", read.layout, read.numbers, drop),), dtype=dtype, device=device
    )
    return module.eval()
