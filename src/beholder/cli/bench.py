"""`bench` measures how fast a system answers and what memory it takes."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beholder.cli import options
from beholder.cli.ask import check_pictures
from beholder.cli.boundary import INTERRUPTED
from beholder.cli.names import DEFAULT, check_model, is_place
from beholder.cli.output import Json, console, note, plain, print_json, step_bars, working
from beholder.errors import BeholderError

if TYPE_CHECKING:
    from beholder.bench.own import Contestant, Opening
    from beholder.bench.rounds import Workload

TEMPLATE = 512  # tokens of a prompt that are not the question's, at most


class Sweep(StrEnum):
    """What grows."""

    CONTEXT = "context"
    PICTURES = "pictures"


def _work(help_text: str, *names: str, **bounds: Any) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel="Work", **bounds)


def _beside(help_text: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel="Beside", show_default=False)


def _out(help_text: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel="Results", show_default=False)


Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PICTURE]...",
        help="Pictures, clips or sounds of each request; with --collect saved results.",
    ),
]


Text = Annotated[int, _work("Tokens of the question.", min=1)]
New = Annotated[int, _work("Tokens of the answer.", min=1)]
Concurrency = Annotated[str, _work("Requests at a time: 1,4,16.")]
Rate = Annotated[float | None, _work("Requests a second that come by themselves, at random.")]
Requests = Annotated[int | None, _work("Requests of a round.", min=1)]
Rounds = Annotated[int, _work("Rounds; 5 or more are worth a comparison.", min=1)]
Growing = Annotated[Sweep | None, _work("Let the question or the number of pictures grow.")]
Sizes = Annotated[str | None, _work("Sizes of the sweep, in place of 1k to 16k tokens or 1 to 64 pictures.")]
Random = Annotated[
    bool,
    _work("Random weights of the card's full shape: nothing is fetched, answers mean nothing.", "--random"),
]
Budget = Annotated[int, _work("MiB that the cache of tokens may take.", min=1)]
Precisions = Annotated[
    list[str] | None, _beside("bf16, int8, int4 or by part; may be repeated.", "--precision")
]
Against = Annotated[list[str] | None, _beside("transformers or llama.cpp; may be repeated.")]
Python = Annotated[str | None, _beside("The interpreter that has what --against names.")]
Threads = Annotated[int | None, typer.Option(min=1, help="torch's where not given.", rich_help_panel="Model")]
Plot = Annotated[Path | None, _out("PNG to draw.")]
Save = Annotated[Path | None, _out("JSON to write, for --collect.")]
Collect = Annotated[bool, _out("Make one page of saved results.", "--collect")]
Page = Annotated[Path | None, _out("With --collect: the page, .md or .html.")]


def bench(
    files: Files = None,
    model: options.ModelName = DEFAULT,
    text: Text = 64,
    new: New = 32,
    concurrency: Concurrency = "1",
    rate: Rate = None,
    requests: Requests = None,
    rounds: Rounds = 5,
    sweep: Growing = None,
    sizes: Sizes = None,
    random: Random = False,
    budget: Budget = 2048,
    precision: Precisions = None,
    against: Against = None,
    python: Python = None,
    threads: Threads = None,
    device: options.Device = "cpu",
    chat: options.Format = None,
    plot: Plot = None,
    save: Save = None,
    collect: Collect = False,
    page: Page = None,
    as_json: Json = False,
) -> None:
    """Measure how fast a system answers and what memory it takes, alone, under load, or beside other libraries.

    Rounds take turns, the first one does not count, medians are told. Ctrl-C tells what was measured so far.
    """
    if collect or page is not None:
        collect_pages(files or [], page, wanted=collect)
        return
    from beholder.bench.own import Opening
    from beholder.bench.rounds import Workload

    workloads = work_of(Workload(tuple(files or ()), text, new), concurrency, rate, requests)
    workloads = grown(workloads, sweep, sizes)
    opening = Opening(model, None, device, threads, random, chat, budget)
    check(opening, files or [], against or [], plot)
    beside = (against or [], python or sys.executable)
    measured = run(opening, precision or [], beside, workloads, rounds, sweep)
    write(measured, save, plot)
    show(measured, as_json=as_json)


def check(opening: Opening, files: list[str], against: list[str], plot: Path | None) -> None:
    """Raises `BeholderError` for what can be known to be wrong before anything is loaded."""
    from beholder.bench.report import plotting
    from beholder.bench.rivals import check_rivals

    check_model(opening.model)
    check_rivals(against)
    if opening.random and (is_place(opening.model) or against):
        raise BeholderError(
            "--random makes weights for a card; leave out --against, and name a card with --model"
        )
    options.check_device(opening.device)
    check_pictures(files)
    if plot is not None:
        plotting()


def work_of(base: Workload, concurrency: str, rate: float | None, requests: int | None) -> list[Workload]:
    """One workload for each concurrency, or the one with a rate. A round has as many requests as are there at a time, twice
    that where several are, and 16 with a rate.
    """
    if rate is not None and not rate > 0:
        raise BeholderError(f"--rate {rate:g} brings no requests; give requests a second above 0")
    if rate is not None:
        if concurrency != "1":
            raise BeholderError("--rate lets requests come by themselves; leave --concurrency out")
        return [replace(base, rate=rate, requests=requests or 16)]
    counts = numbers("--concurrency", concurrency)
    return [replace(base, concurrency=n, requests=requests or (n if n == 1 else 2 * n)) for n in counts]


def grown(workloads: list[Workload], sweep: Sweep | None, sizes: str | None) -> list[Workload]:
    """The workloads of a sweep, or those that are given."""
    from beholder.bench import run

    if sweep is None:
        if sizes is not None:
            raise BeholderError("--sizes goes with --sweep context or --sweep pictures")
        return workloads
    if len(workloads) > 1:
        raise BeholderError("--sweep grows one workload; give one --concurrency")
    chosen = run.SIZES[sweep] if sizes is None else numbers("--sizes", sizes)
    return run.sweep(workloads[0], sweep, chosen)


def numbers(option: str, text: str) -> list[int]:
    """Whole numbers above 0 with commas between."""
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        raise BeholderError(f"{option} {text}: give whole numbers with commas between: 1,4,16") from None
    if min(found) < 1:
        raise BeholderError(f"{option} {text}: {min(found)} is too few; give numbers from 1 up")
    return found


def run(
    opening: Opening,
    precisions: list[str],
    beside: tuple[list[str], str],
    workloads: list[Workload],
    rounds: int,
    sweep: Sweep | None,
) -> dict[str, Any]:
    """Open all that is compared, measure and close it; the document. beside: other libraries and their interpreter."""
    import torch

    from beholder.bench import machine
    from beholder.bench.run import close, document, measure

    notes: list[str] = []
    contestants = opened(opening, precisions)
    try:
        for name in beside[0]:
            try:
                contestants.append(rival(name, beside[1], opening, contestants[0], workloads))
            except BeholderError as error:
                notes.append(str(error))
                note(str(error))
        with working("measuring the machine"):
            threads = int(contestants[0].facts["threads"])
            kept = torch.float32 if contestants[0].facts["precision"] == "float32" else torch.bfloat16
            ceilings = machine.ceilings(threads, kept, opening.device)
        with step_bars() as progress:
            measured = measure(contestants, workloads, rounds, progress)
        measured.notes[:0] = notes
        return document(measured, machine.describe(opening.device), ceilings, sweep)
    finally:
        close(contestants)


def opened(opening: Opening, precisions: list[str]) -> list[Contestant]:
    """beholder in each precision: several are processes of their own, so that their memory is told apart."""
    from beholder.bench.own import Own
    from beholder.bench.rivals import apart

    if not opening.random:
        options.fetch(opening.model)
    with working(f"loading {opening.model}"):
        if len(precisions) < 2:
            return [Own.open(replace(opening, precision=precisions[0] if precisions else None))]
        return [apart(replace(opening, precision=each)) for each in precisions]


def rival(
    name: str,
    python: str,
    opening: Opening,
    first: Contestant,
    workloads: list[Workload],
) -> Contestant:
    """Another library on the same weights."""
    from beholder.bench.rivals import rival as start
    from beholder.weights.pull import pull
    from beholder.weights.sources import resolve

    path = Path(resolve(opening.model)) if is_place(opening.model) else Path(pull(opening.model))
    longest = TEMPLATE + max(workload.text + workload.new for workload in workloads)
    with working(f"loading {name}"):
        given = replace(opening, threads=first.facts["threads"])
        return start(name, python, given, path, longest, first)


def show(measured: dict[str, Any], *, as_json: bool) -> None:
    """The document, or the table; exit code 130 where Ctrl-C cut it short."""
    from beholder.bench.report import page_for_terminal

    if as_json:
        print_json(measured)
    else:
        console().print(page_for_terminal(measured))
    if not measured["complete"]:
        raise typer.Exit(INTERRUPTED)


def write(measured: dict[str, Any], save: Path | None, plot: Path | None) -> None:
    """The document and a drawing of it as files."""
    import json

    from beholder.bench import report
    from beholder.files import write_text_atomic

    if save is not None:
        write_text_atomic(save, json.dumps(plain(measured), indent=1) + "\n")
    if plot is not None:
        report.plot(measured, plot)


def collect_pages(files: list[str], page: Path | None, *, wanted: bool) -> None:
    """One page of saved results."""
    from beholder.bench.report import read_document, write_page

    if not files or page is None or not wanted:
        raise BeholderError(
            "--collect takes saved results and a page: beholder bench --collect a.json b.json --page speed.md"
        )
    write_page([read_document(Path(name)) for name in files], page)
    note(f"wrote {page}")
