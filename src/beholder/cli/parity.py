"""`parity`: does a checkpoint give what its official implementation gave?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beholder.cli.boundary import FAILED, USER_ERROR, explained, report
from beholder.cli.output import Json, console, print_json, working
from beholder.errors import BeholderError

if TYPE_CHECKING:
    from rich.table import Table

    from beholder.parity import StageResult

TOLERANCE = 1e-4  # of the reference's spread; that of `beholder.parity`, which needs torch to be read


def parity(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...",
            help="Each with config.json, model, inputs and reference.safetensors.",
        ),
    ],
    tolerance: Annotated[
        float, typer.Option(help="Largest difference allowed, over the reference's spread.")
    ] = TOLERANCE,
    as_json: Json = False,
) -> None:
    """Compare checkpoints with recorded outputs of their official implementation, stage by stage.

    Exit code 1 where a stage is beyond the tolerance.
    """
    if not tolerance > 0:
        raise BeholderError(f"--tolerance {tolerance:g} is not above 0; the usual one is {TOLERANCE:g}")
    reports, unusable = [], False
    for folder in folders:
        try:
            reports.append(_compared(folder, tolerance))
        except (BeholderError, OSError) as error:
            if len(folders) == 1:
                raise
            unusable = True
            line = explained(error)[1]
            line = line if folder.name in line else f"{folder}: {line}"
            report(line)
            reports.append({"folder": str(folder), "ok": False, "stages": [], "error": line})
    if as_json:
        print_json({"tolerance": tolerance, "ok": all(each["ok"] for each in reports), "folders": reports})
    else:
        console().print(_table(reports))
    if unusable:
        raise typer.Exit(USER_ERROR)
    if not all(each["ok"] for each in reports):
        raise typer.Exit(FAILED)


def _compared(folder: Path, tolerance: float) -> dict[str, Any]:
    from beholder.parity import compare_folder

    with working(f"comparing {folder}"):
        stages = compare_folder(folder, tolerance=tolerance)
    return {"folder": str(folder), "ok": all(stage.ok for stage in stages), "stages": _rows(stages)}


def _rows(stages: Sequence[StageResult]) -> list[dict[str, Any]]:
    return [
        {
            "stage": stage.stage,
            "reference": stage.reference,
            "shape": list(stage.shape),
            "error": stage.error,
            "tolerance": stage.tolerance,
            "ok": stage.ok,
        }
        for stage in stages
    ]


def _table(reports: Sequence[dict[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("folder", overflow="fold")
    table.add_column("stage", no_wrap=True)
    table.add_column("shape", overflow="fold")
    table.add_column("error", justify="right", no_wrap=True)
    table.add_column("allowed", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for each in reports:
        table.add_section()
        name = Path(each["folder"]).resolve().name
        for row in each["stages"]:
            shape = " x ".join(map(str, row["shape"]))
            verdict = "[green]ok[/]" if row["ok"] else "[bold red]beyond[/]"
            figures = (f"{row['error']:.1e}", f"{row['tolerance']:.0e}" if row["tolerance"] else "equal")
            table.add_row(name, row["stage"], shape, *figures, verdict)
            name = ""
        if "error" in each:
            table.add_row(name, "-", "-", "-", "-", "[bold red]unusable[/]")
    return table
