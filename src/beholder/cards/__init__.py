"""Systems as cards. A family's module is imported when one of its cards is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from beholder.errors import UnknownName

if TYPE_CHECKING:
    from beholder.cards.schema import Card

# module -> names of its cards
FAMILIES: dict[str, tuple[str, ...]] = {
    "clip": ("clip-b-32", "clip-b-16", "clip-l-14", "clip-l-14-336"),
    "idefics3": ("idefics3-8b", "smolvlm-2.2b", "smolvlm-500m", "smolvlm-256m"),
    "llava": (
        "llava-1.5-7b",
        "llava-1.5-13b",
        "bakllava",
        "llava-1.6-vicuna-7b",
        "llava-1.6-vicuna-13b",
        "llava-1.6-mistral-7b",
    ),
    "mini": ("mini",),
    "siglip": ("siglip-b-16-224", "siglip-l-16-384", "siglip-so400m-14-224", "siglip-so400m-14-384"),
    "language_models": (
        "llama-2-7b",
        "llama-2-13b",
        "llama-2-70b",
        "vicuna-7b",
        "vicuna-13b",
        "llama-3-8b",
        "llama-3-70b",
        "mistral-7b",
        "yi-6b",
        "yi-34b",
    ),
}


def card_names() -> tuple[str, ...]:
    """The names of all cards, sorted; imports no family."""
    return tuple(sorted(name for names in FAMILIES.values() for name in names))


def card(name: str) -> Card:
    """The card called `name` exactly; raises `UnknownName` with the nearest three."""
    for family, names in FAMILIES.items():
        if name in names:
            return family_cards(family)[name]
    raise UnknownName("card", name, card_names())


def family_cards(family: str) -> dict[str, Card]:
    """The cards of one module by name; raises `UnknownName` for no such module."""
    from beholder.cards.schema import Card

    if family not in FAMILIES:
        raise UnknownName("family of cards", family, FAMILIES)
    module = importlib.import_module(f"beholder.cards.{family}")
    return {value.name: value for value in vars(module).values() if isinstance(value, Card)}
