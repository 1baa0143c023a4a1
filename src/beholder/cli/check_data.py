"""`check-data` tells what is wrong with a data set before it is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beholder.cli.boundary import FAILED
from beholder.cli.output import Json, console, print_json, step_bars, visible
from beholder.errors import BeholderError

if TYPE_CHECKING:
    from beholder.data.check import Report
    from beholder.prompts.tokenizer import Tokenizer
    from beholder.train.collate import Collator


def check_data(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="LLaVA or ShareGPT JSON, messages as JSON lines, CSV, parquet, Arrow, tar shards, a saved data set or a "
            "folder of pictures, clips or sounds with captions; mix:A,B for several.",
        ),
    ],
    card: Annotated[
        str | None, typer.Option(help="Count tokens as this card does: a card, a folder or a hub id.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of the tokenizer, where --card is a card's bare name.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder that paths of pictures, clips and sounds begin at; default: the file's."),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Kind of the data, where looking does not tell.")] = None,
    caption: Annotated[str, typer.Option(help="What is asked about pictures that have only a caption.")] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Read the heads of pictures, clips and sounds alone.")
    ] = False,
    histogram: Annotated[
        Path | None, typer.Option(help="PNG to write: how long rows are in tokens, with --card.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check data sets: each problem with its row, field and remedy, counts, and with a card the lengths in tokens.

    Exit code 1 where there are problems. Duplicates are noted and are no problem.
    """
    from beholder.data.check import check
    from beholder.data.readers.open import Records, mixed_paths, open_rows

    if histogram is not None and (card is None or histogram.suffix.lower() != ".png"):
        raise BeholderError("--histogram draws tokens as a PNG; give --card, and a name that ends in .png")
    collator = None if card is None else open_collator(card, tokenizer)
    reports: dict[str, Report] = {}
    for path in [part for name in data for part in mixed_paths(name)]:
        records = Records(open_rows(path, kind), pictures=pictures, caption=caption)
        with step_bars() as progress:
            reports[path] = check(records, collator=collator, quick=quick, progress=progress)
    if histogram is not None:
        draw(histogram, list(reports.values()), collator)
    if as_json:
        print_json({"card": card, "data": {path: report.data() for path, report in reports.items()}})
    else:
        for path, report in reports.items():
            tell(path, report, collator)
    if any(report.problems for report in reports.values()):
        raise typer.Exit(FAILED)


def open_collator(name: str, tokenizer: Path | None) -> Collator:
    """What counts tokens as a card does, without its weights where its settings are enough."""
    from beholder.cli.names import open_card
    from beholder.train.collate import Collator

    chosen = open_card(name)
    return Collator(chosen, open_tokenizer(name, tokenizer))


def open_tokenizer(name: str, given: Path | None) -> Tokenizer:
    """The tokenizer in a folder that is given, or that belongs to a model's name."""
    from beholder.cli.names import is_place
    from beholder.cli.options import fetch
    from beholder.prompts.tokenizer import Tokenizer
    from beholder.weights import pull
    from beholder.weights.open import open_named
    from beholder.weights.sources import resolve

    if given is not None:
        return Tokenizer.from_folder(given) if given.is_dir() else Tokenizer.from_file(given)
    if not is_place(name) and name not in pull.ASSEMBLIES:
        raise BeholderError(
            f"{name} is a card without files; give the folder of its tokenizer as --tokenizer, or its weights as --card"
        )
    if is_place(name) and (folder := resolve(name, settings_only=True)).is_dir():
        return Tokenizer.from_folder(folder)
    fetch(name)
    _, found = open_named(name)
    if found is None:
        raise BeholderError(f"{name} has no tokenizer; put tokenizer.json beside its weights")
    return found


def draw(path: Path, reports: list[Report], collator: Collator | None) -> None:
    """Write the histogram of all reports together."""
    from PIL import Image

    from beholder.data.histogram import histogram
    from beholder.files import atomic_file

    tokens = [count for report in reports for count in report.tokens]
    if not tokens or collator is None:
        raise BeholderError(f"{path} was not written: no row could be measured")
    title = f"Tokens of {len(tokens):,} rows with {collator.card.name}"
    pixels = histogram(tokens, title, limit=collator.main.context)
    with atomic_file(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def tell(path: str, report: Report, collator: Collator | None) -> None:
    """A report for people."""
    from rich import box
    from rich.table import Table

    from beholder.data.check import NOTES, SHOWN

    print(
        f"{path}: {report.rows:,} rows, {report.text_only:,} of text alone; {report.answers:,} answers; "
        f"{report.pictures:,} pictures, {report.distinct:,} of them distinct"
        + "".join(f"; {len(own):,} {what}s" for what, own in report.seconds.items() if own)
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for heading in ("least", "median", "mean", "p95", "p99", "most", "sum"):
        table.add_column(heading, justify="right", no_wrap=True)
    told = report.data()
    measured = "tokens" if len(report.tokens) == report.rows else f"tokens ({len(report.tokens):,} rows)"
    for name, values in (
        ("longer side, px", told["pictures"]["sides"]),
        ("clips, s", told["clips"]["seconds"]),
        ("sounds, s", told["sounds"]["seconds"]),
        (measured, told["tokens"]["all"]),
        (
            "of them media's" if any(report.seconds.values()) else "of them pictures'",
            told["tokens"]["of_pictures"],
        ),
    ):
        if values:
            digits = 1 if name.endswith(", s") else 0
            table.add_row(name, *(f"{value:,.{digits}f}" for value in values.values()))
    if table.rows:
        console().print(table)
    if collator is not None:
        print(f"{collator.card.name} reads at most {collator.main.context:,} tokens")
    for kind, found in sorted(
        report.shown.items(), key=lambda item: (item[0] in NOTES, -report.counts[item[0]])
    ):
        count = report.counts[kind]
        more = f", the first {SHOWN}" if count > SHOWN else ""
        print(f"\n{kind}{' (a note)' if kind in NOTES else ''}: {count:,}{more}")
        for problem in found:
            print(f"  {visible(str(problem))}")
    print(f"\n{report.problems:,} problems" if report.problems else "\nno problems")


__all__: list[Any] = ["check_data"]
