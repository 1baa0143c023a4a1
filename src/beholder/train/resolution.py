"""A trained model at another resolution: position tables are resized, all else is copied (ViT, 2010.11929, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError
from beholder.model import Model, build
from beholder.parts.vision.positions import GridTable

TABLE = GridTable("bicubic", antialias=True)


def card_at(card: Card, side: int) -> Card:
    """The card for pictures of `side` pixels per side. Raises `BeholderError` where the encoder takes no such side."""
    return card.but(branches=tuple(_branch_at(card, branch, side) for branch in card.branches))


def _branch_at(card: Card, branch: Branch, side: int) -> Branch:
    if branch.geometry is None:
        return branch
    if len(branch.encoders) > 1:
        raise BeholderError(
            f"{card.name}: branch {branch.name} has {len(branch.encoders)} encoders of sides of their own; "
            "give such a system another card instead of another side"
        )
    (encoder,) = branch.encoders
    patch = getattr(encoder, "patch", 1)
    if side < 1 or side % patch:
        raise BeholderError(
            f"{card.name}: pictures of {side} pixels per side are no whole number of patches of {patch}; "
            f"take {max(patch, side - side % patch)}"
        )
    if hasattr(encoder, "image_size"):
        encoder = encoder.but(image_size=side)
    return branch.but(encoders=(encoder,), geometry=branch.geometry.at(side))


@torch.no_grad()
def at_side(model: Model, side: int) -> Model:
    """The model for pictures of `side` pixels per side, itself where it takes these already. Raises `BeholderError` for parts
    that are made for one number of tokens.
    """
    card = card_at(model.card, side)
    if card == model.card:
        return model
    changed = build(card, device="meta").to_empty(device=model.device).to(model.dtype)
    source = model.state_dict()
    for name, value in changed.state_dict().items():
        value.copy_(_resized(changed, name, source[name], value.shape))
    return changed


def _resized(model: Model, name: str, old: Tensor, shape: torch.Size) -> Tensor:
    if old.shape == shape:
        return old
    module = model.get_submodule(name.rpartition(".")[0])
    front = getattr(module, "placed", None)
    if front is None or old.dim() != 2 or old.shape[1:] != shape[1:]:
        raise BeholderError(
            f"{model.card.name}: {name} is {tuple(old.shape)} and would have to be {tuple(shape)} at this side; "
            "change that part's card first"
        )
    side = round((shape[0] - front) ** 0.5)
    return torch.cat([old[:front], TABLE.resized(old[front:], side, side)])
