"""Deeper language models out of trained ones: some layers are repeated, and training goes on from there (2403.04652, section
7.3: Yi-9B out of Yi-6B).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from beholder.errors import BeholderError
from beholder.model import Model, build
from beholder.parts.language.decoder import Decoder

# Yi-9B: layers 12 to 28 of 32 are there twice.
YI_9B = (*range(28), *range(12, 32))

LAYER = re.compile(r"(languages\.main\.blocks\.)(\d+)(\..+)")


def deepened(model: Model, layers: Sequence[int], name: str = "") -> Model:
    """A model whose layer i has a copy of the weights of `model`'s layer `layers[i]`; all else is copied as it is.

    Raises `BeholderError` for layers that there are not, and for language parts whose layers are of several kinds.
    """
    main = model.card.main
    if not isinstance(main, Decoder) or main.others:
        raise BeholderError(f"{model.card.name} has no stack of equal layers to repeat")
    if not layers or not all(0 <= layer < main.num_layers for layer in layers):
        raise BeholderError(
            f"layers {list(layers)} of {model.card.name}, which has {main.num_layers}; name some of these"
        )
    card = model.card.but(name=name or model.card.name, **{"language.num_layers": len(layers)})
    deeper = build(card, device="meta").to_empty(device=model.device).to(model.dtype)
    source = model.state_dict()
    with torch.no_grad():
        for key, value in deeper.state_dict().items():
            layer = LAYER.fullmatch(key)
            origin = key if layer is None else f"{layer[1]}{layers[int(layer[2])]}{layer[3]}"
            value.copy_(source[origin])
    return deeper
