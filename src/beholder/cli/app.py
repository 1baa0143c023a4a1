"""The commands of `beholder`, by what they are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from beholder.cli import (
    ask,
    bench,
    chat,
    check_data,
    cost,
    doctor,
    facts,
    learn,
    parity,
    parts,
    see,
    vectors,
    weights,
)

HELP = "Vision-language systems from shared parts: ask them, look into them, compare, check and train them."
EPILOG = "Each command takes --help; those that report also take --json."

app = typer.Typer(
    name="beholder",
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Ask": {
        "ask": ask.ask,
        "chat": chat.chat,
        "look": see.look,
        "plan": see.plan,
    },
    "Compare": {"embed": vectors.embed, "search": vectors.search, "classify": vectors.classify},
    "Know": {"list": facts.list_systems, "show": facts.show, "compare": facts.compare, "parts": parts.parts},
    "Weights": {"pull": weights.pull, "convert": weights.convert, "parity": parity.parity},
    "Train and measure": {
        "check-data": check_data.check_data,
        "cost": cost.cost,
        "train": learn.train,
        "eval": learn.evaluate,
        "bench": bench.bench,
    },
    "Help": {"doctor": doctor.doctor},
}
PASSED_ON = {
    "allow_interspersed_args": False,
    "ignore_unknown_options": True,
}  # what follows a recipe is its own
for panel, commands in PANELS.items():
    for name, command in commands.items():
        settings = PASSED_ON if command is learn.train else None
        app.command(name, rich_help_panel=panel, context_settings=settings)(command)


def show_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        from beholder import __version__

        typer.echo(f"beholder {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the whole traceback of an error; also taken after the command."),
    ] = False,
) -> None:
    """Options of every command. `--debug` is taken out of the arguments before they come here."""
