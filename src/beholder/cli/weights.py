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
    SAFETENSORS = "safetensors"


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
            help="A folder in an official layout, a beholder folder, a GGUF file, a card, a hub id, or a pickle (.pth, .bin)."
        ),
    ],
    target: Annotated[Path, typer.Argument(help="Folder to write; of a pickle a .safetensors file.")],
    to: Annotated[Layout, typer.Option("--to", help="Layout to write.")] = Layout.BEHOLDER,
    dtype: options.Dtype = None,
    as_json: Json = False,
) -> None:
    """Read weights in one layout and write them in another, values unchanged unless --dtype is given.

    A beholder folder holds the whole card as data and always opens again; the official layout is what the
    publisher's library opens. A pickle's tensors are read by a child process that loads nothing else, and written under
    their own names; `--to safetensors` does so for all pickles of a folder. What is written appears whole or not at all.
    """
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise BeholderError(f"{target} is both source and target; choose another folder to write")
    if to is Layout.SAFETENSORS or _is_pickle(Path(source)):
        _take_tensors(Path(source), target, dtype, as_json)
        return
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


def _is_pickle(source: Path) -> bool:
    from beholder.weights.files import PICKLES

    return source.suffix in PICKLES and source.is_file()


def _take_tensors(source: Path, target: Path, dtype: str | None, as_json: bool) -> None:
    """Pickles to safetensors, their sizes and digests told."""
    from beholder.weights.pickles import convert_folder, tensors_of_pickle

    if dtype:
        raise BeholderError(
            "--dtype is not for pickles, whose tensors are written as they are; convert again"
        )
    if source.is_dir():
        with working(f"reading {source}"):
            found = convert_folder(source, target)
    elif not _is_pickle(source):
        raise BeholderError(f"{source}: no folder and no pickle; name a .pth, .pt, .bin or .ckpt file")
    elif target.suffix != ".safetensors":
        raise BeholderError(
            f"{target}: tensors of a pickle are written to one file; name a .safetensors file"
        )
    elif target.exists():
        raise BeholderError(f"{target} exists; choose another file to write")
    else:
        with working(f"reading {source}"):
            found = [tensors_of_pickle(source, target)]
    rows = [each._asdict() | {"source": str(each.source), "target": str(each.target)} for each in found]
    if as_json:
        print_json({"target": target, "layout": Layout.SAFETENSORS.value, "converted": rows})
        return
    for each in found:
        print(f"{each.source}: {bytes_text(each.size)}, sha256 {each.sha256}")
        besides = f"; left out: {', '.join(each.left_out)}" if each.left_out else ""
        print(f"  {each.tensors} tensors in {each.target}{besides}")


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
