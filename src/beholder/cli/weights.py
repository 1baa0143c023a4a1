"""`pull` fetches weights, `convert` writes them in another layout."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beholder.cli import options
from beholder.cli.names import DEFAULT, check_model, complete_model
from beholder.cli.output import Json, amount, bytes_text, print_json, step_bars, working
from beholder.errors import BeholderError

if TYPE_CHECKING:
    from typing import Any


class Layout(StrEnum):
    """What `convert` writes."""

    BEHOLDER = "beholder"
    OFFICIAL = "official"


def pull(
    name: Annotated[
        str, typer.Argument(help="A card's name or a hub id.", autocompletion=complete_model)
    ] = DEFAULT,
    as_json: Json = False,
) -> None:
    """Fetch weights, check their sums, and keep them: afterwards nothing touches the network.

    An interrupted pull goes on where it was; nothing half-fetched is ever used.
    """
    check_model(name)
    from beholder.weights import pull as pulling

    with step_bars() as progress:
        folder = pulling.pull(name, progress=progress)
    _tell({"name": name, **_written(folder)}, as_json, f"{name} is in")


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder in an official layout, a beholder folder, a GGUF file, a card or a hub id."
        ),
    ],
    target: Annotated[Path, typer.Argument(help="Folder to write.")],
    to: Annotated[Layout, typer.Option("--to", help="Layout to write.")] = Layout.BEHOLDER,
    dtype: options.Dtype = None,
    as_json: Json = False,
) -> None:
    """Read weights in one layout and write them in another, values unchanged unless --dtype is given.

    A beholder folder holds the whole card as data and always opens again; the official layout is what the
    publisher's library opens. The folder appears whole or not at all.
    """
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise BeholderError(f"{target} is both source and target; choose another folder to write")
    check_model(source)
    with working(f"reading {source}"):
        import torch

        from beholder.pipeline import Pipeline
        from beholder.weights.open import open_named

        opened, tokenizer = open_named(source, dtype=getattr(torch, dtype) if dtype else None, exact=True)
    pipeline = Pipeline(opened.model, tokenizer, origin=opened)
    with working(f"writing {target}"):
        folder = pipeline.save(target) if to is Layout.BEHOLDER else pipeline.export(target)
    count = sum(parameter.numel() for parameter in pipeline.model.parameters())
    found = {"card": pipeline.card.name, "layout": to.value, "parameters": count, **_written(folder)}
    _tell(found, as_json, f"{pipeline.card.name}, {amount(count)} parameters, {to.value} layout, in")


def _written(folder: Path) -> dict[str, Any]:
    files = [
        {"name": path.name, "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]
    return {"folder": folder, "files": files}


def _tell(found: dict[str, Any], as_json: bool, what: str) -> None:
    if as_json:
        print_json(found)
        return
    print(f"{what} {found['folder']}")
    for file in found["files"]:
        print(f"  {file['name']:32} {bytes_text(file['bytes']):>10}")
