"""Folders of adapters: PEFT's, and our own for kinds that PEFT does not know.

adapter_config.json, adapter_model.safetensors     PEFT's form
beholder_adapter.json, adapter_model.safetensors   ours: adapters as data, tensors under our names
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from beholder.config import from_data
from beholder.errors import BeholderError, UnknownName, WeightsError
from beholder.files import atomic_folder
from beholder.model import Model
from beholder.parts.adapters.apply import known_as, put_on
from beholder.parts.adapters.base import Adapter
from beholder.weights.files import open_weights, write_safetensors
from beholder.weights.peft_files import CONFIG, TENSORS, write_peft
from beholder.weights.peft_names import OWN, naming_for_modules
from beholder.weights.peft_read import read_peft

if TYPE_CHECKING:
    from beholder.weights.layout import Binding
    from beholder.weights.open import Opened

OWN_FILE = "beholder_adapter.json"
FORMS = ("peft", "own")
SCHEMA = 1


def save_adapter(
    model: Model,
    folder: str | Path,
    *,
    form: str = "peft",
    origin: Opened | None = None,
    base: str = "",
    also: Sequence[str] = (),
) -> Path:
    """Write a model's adapters alone. form: `peft`, with names of the published system's modules where `origin` tells them, or
    `own`. base: what the adapters belong to, `origin`'s folder where empty. also: patterns of parameters that were trained
    themselves, such as "branches.image.connector.*".

    Raises `BeholderError` for kinds that a form does not know, and where the model has none.
    """
    if form not in FORMS:
        raise UnknownName("form of adapters", form, FORMS)
    if not base:
        base = str(origin.folder) if origin is not None else model.card.name
    if form == "own":
        return _write_own(model, Path(folder), base, also)
    published = None if origin is None else origin.published
    bindings = None if published is None else naming_for_modules(published.namings, published.naming)
    return write_peft(folder, model, bindings=bindings, base=base, also=also)


def load_adapter(model: Model, folder: str | Path, origin: Opened | None = None) -> list[str]:
    """Put the adapters of a folder, of either form, on a model, in place; gives the names of the layers that have them.

    Raises `WeightsError` in one line where the folder holds none, or one for another model.
    """
    folder = Path(folder)
    if (folder / OWN_FILE).is_file():
        return _read_own(model, folder)
    if not (folder / CONFIG).is_file():
        raise WeightsError(f"{folder}: no {CONFIG} and no {OWN_FILE}; name a folder of adapters")
    published = None if origin is None else origin.published
    namings: Sequence[Sequence[Binding]] = (OWN,) if published is None else published.namings
    return read_peft(model, folder, _read_json(folder / CONFIG), namings)


def _write_own(model: Model, folder: Path, base: str, also: Sequence[str]) -> Path:
    if not model.card.adapters:
        raise BeholderError(f"{model.card.name} has no adapters to save; save the model itself")
    document = {
        "schema": SCHEMA,
        "base": base,
        "card": model.card.name,
        "adapters": [adapter.to_data() for adapter in model.card.adapters],
    }
    tensors = {
        name: value.detach()
        for name, value in model.named_parameters()
        if known_as(name)[1] or any(fnmatchcase(name, pattern) for pattern in also)
    }

    def is_ours(existing: Path) -> bool:
        return (existing / OWN_FILE).is_file() and {p.name for p in existing.iterdir()} <= {OWN_FILE, TENSORS}

    with atomic_folder(folder, is_ours) as target:
        (target / OWN_FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        write_safetensors(target / TENSORS, tensors)
    return folder


@torch.no_grad()
def _read_own(model: Model, folder: Path) -> list[str]:
    document = _read_json(folder / OWN_FILE)
    listed = document.get("adapters")
    if document.get("schema") != SCHEMA or not isinstance(listed, list):
        raise WeightsError(f"{folder / OWN_FILE}: damaged, or of another release; copy the folder again")
    settings = [from_data(data, at=f"{OWN_FILE}: adapters[{number}]") for number, data in enumerate(listed)]
    saved = open_weights(folder / TENSORS)
    made_for = f"the adapter was made for {document.get('card')!r}"
    names: list[str] = []
    for adapter in settings:
        if not isinstance(adapter, Adapter):
            raise WeightsError(
                f"{folder / OWN_FILE}: a {type(adapter).__name__} is no adapter; copy the folder again"
            )
        names += put_on(model, adapter)
    own = dict(model.named_parameters())
    wanted = {name for name in own if known_as(name)[1]}
    differ = sorted((wanted - saved.keys()) | (saved.keys() - own.keys()))
    if differ:
        raise WeightsError(
            f"{folder}: {model.card.name} and the file differ in {len(differ)} names, first {differ[0]}; {made_for}"
        )
    for name, tensor in saved.items():
        if tuple(own[name].shape) != tensor.shape:
            raise WeightsError(
                f"{folder}: {name} is {tensor.shape} there, {tuple(own[name].shape)} here; {made_for}"
            )
    for name, tensor in saved.items():
        own[name].copy_(tensor.load(torch.float32).to(own[name].dtype))
    return list(dict.fromkeys(names))


def _read_json(path: Path) -> dict[str, object]:
    from beholder.weights.open import read_json

    return read_json(path)
