"""`parts`: the backbones that systems are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from beholder.cli.output import Json, amount, console, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from beholder.catalogue.backbones import Backbone


def complete_kind(incomplete: str) -> list[str]:
    """Kinds of backbone that start so."""
    from beholder.catalogue.backbones import kinds

    return [kind for kind in kinds() if kind.startswith(incomplete)]


def parts(
    words: Annotated[
        list[str] | None, typer.Argument(help="Words that all appear in the name or class, such as qwen2.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="audio, codecs, language or vision.", autocompletion=complete_kind)
    ] = None,
    types: Annotated[
        bool, typer.Option("--types", help="Show which official model types load instead of sizes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List published backbones with their exact parameters: each is a constant of `beholder.parts`."""
    from beholder.catalogue.backbones import backbones, model_types

    wanted = tuple(words or ())
    found = backbones(kind=kind, words=wanted)
    known = {
        each: {
            part: chosen
            for part, names in parts.items()
            if (chosen := [name for name in names if all(word.lower() in name.lower() for word in wanted)])
        }
        for each, parts in model_types(kind=kind).items()
    }
    if as_json:
        print_json({"sizes": [vars(each) | {"kind": each.kind} for each in found], "model_types": known})
        return
    console().print(types_table(known) if types else sizes_table(found))
    if not types:
        console().print("1 size" if len(found) == 1 else f"{len(found)} sizes")


def sizes_table(found: Sequence[Backbone]) -> RenderableType:
    """One row a size, under its module."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("size", style="cyan", no_wrap=True)
    table.add_column("part", no_wrap=True)
    table.add_column("about", justify="right", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    module = ""
    for each in found:
        if each.module != module:
            module = each.module
            table.add_section()
            table.add_row(Text(f"beholder.parts.{module}", style="bold"))
        table.add_row(each.name, each.part, amount(each.parameters), f"{each.parameters:,}")
    return table


def types_table(known: Mapping[str, Mapping[str, Sequence[str]]]) -> RenderableType:
    """One row a class of part, with the official types that are read as one."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("kind", "part"):
        table.add_column(column, no_wrap=True)
    table.add_column("model_type of config.json", overflow="fold")
    for kind, parts in known.items():
        table.add_section()
        for part, names in parts.items():
            table.add_row(kind, part, ", ".join(names))
    return table
