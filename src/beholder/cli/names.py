"""What a name on the command line stands for: a system of the catalogue, a card, a folder, a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from beholder.errors import BeholderError, UnknownName

if TYPE_CHECKING:
    from beholder.cards.schema import Card
    from beholder.catalogue import System

DEFAULT = "mini"
GGUF = ".gguf"


def complete_model(incomplete: str) -> list[str]:
    """Names of cards that start so."""
    from beholder.cards import card_names

    return [name for name in card_names() if name.startswith(incomplete)]


def known_system(name: str) -> System | None:
    """The system or component of this id, or else of this name or alias; None for the name of a card or of a
    place.

    Raises `UnknownName` with the nearest ids and cards where it is none of these.
    """
    from beholder.cards import card_names
    from beholder.catalogue import all_systems, components, entry

    ids = [each.id for each in (*all_systems(), *components())]
    cards = card_names()
    if is_place(name) or (name in cards and name not in ids):
        return None
    try:
        return entry(name)
    except UnknownName:
        raise UnknownName("system or card", name, {*ids, *cards}) from None


def is_place(name: str) -> bool:
    """Whether `name` is a folder or GGUF file or can only be one, or a hub id. A folder is preferred to a card of its name."""
    path = Path(name)
    return bool(name) and ("/" in name or path.is_dir() or (path.suffix == GGUF and path.is_file()))


def check_model(name: str) -> None:
    """Raises `BeholderError` for a name that no card and no place has: with the cards of the system it means, else
    with the nearest cards; and for a file that is no GGUF.
    """
    from beholder.cards import card_names
    from beholder.catalogue import entry
    from beholder.catalogue.evidence import evidence

    path = Path(name)
    if name and path.is_file() and path.suffix != GGUF:
        raise BeholderError(
            f"{name} is one file; give the folder of the checkpoint it belongs to, or a .gguf file"
        )
    cards = card_names()
    if is_place(name) or name in cards:
        return
    try:
        system = entry(name)
    except UnknownName:
        raise UnknownName("model (a card, a folder or a hub id)", name, cards) from None
    of_system = [row.id for row in evidence([system]) if row.id in cards]
    if not of_system:
        raise BeholderError(
            f"{name} is in the catalogue but has no card yet, so it cannot be built; beholder list --evidence shows what can"
        )
    raise BeholderError(f"{name} is a system; choose one of its cards: {', '.join(of_system)}")


def open_card(name: str) -> Card:
    """The card of this name, or of the weights in a beholder folder, an official folder, a GGUF file or a hub repository.

    Of a hub repository only the settings are fetched. Raises as `check_model`, and `WeightsError` for a folder
    without a card or config.
    """
    from beholder.cards import card

    check_model(name)
    if not is_place(name):
        return card(name)
    from beholder.config import from_data
    from beholder.weights.files import open_weights
    from beholder.weights.gguf_files import read_metadata
    from beholder.weights.open import folder_config, read_folder_config
    from beholder.weights.readers.gguf import gguf_card
    from beholder.weights.save import is_beholder_folder, read_card_data
    from beholder.weights.sources import resolve

    folder = resolve(name, settings_only=True)
    if folder.suffix == GGUF:
        return gguf_card(folder, read_metadata(folder), open_weights(folder))
    if is_beholder_folder(folder):
        return from_data(read_card_data(folder), at="card")
    return read_folder_config(folder, folder_config(folder)).card
