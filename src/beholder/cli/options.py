"""Options that several commands share: which model, where it runs, how the next word is chosen."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beholder.cli.names import check_model, complete_model
from beholder.cli.output import step_bars, working
from beholder.errors import BeholderError

if TYPE_CHECKING:
    from beholder.generate.guesses import Guesser
    from beholder.media.plan import Box
    from beholder.pipeline import Pipeline


class Precision(StrEnum):
    """What weights are kept in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A card's name, a folder of weights, or a hub id.",
        autocompletion=complete_model,
    ),
]
Device = Annotated[str, typer.Option(help="Where it runs: cpu, cuda, cuda:1, mps.", rich_help_panel="Model")]
Dtype = Annotated[
    Precision | None,
    typer.Option(help="Precision of the weights; default: as published.", rich_help_panel="Model"),
]
Packing = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="Packed for speed: bf16, int8, int4, or by part: vision=bf16,language=int4,head=int8.",
        rich_help_panel="Model",
    ),
]
Adapter = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Adapters that PEFT or this library saved, put on the model.",
        rich_help_panel="Model",
    ),
]
Guess = Annotated[
    str | None,
    typer.Option(
        "--guess",
        metavar="[MODEL:]N",
        help="Guess N tokens at a time, from what was said before or by a smaller MODEL; the answer stays the same.",
        rich_help_panel="Model",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell tokens and seconds on stderr.")]
Format = Annotated[
    str | None,
    typer.Option(
        "--chat", help="Prompt format, where the published one is not known.", rich_help_panel="Model"
    ),
]


def _sampling(help_text: str) -> Any:
    return typer.Option(help=help_text, rich_help_panel="Choosing words", show_default=False)


def _form(help_text: str) -> Any:
    return typer.Option(help=help_text, rich_help_panel="Form of the answer", show_default=False)


MaxTokens = Annotated[int | None, _sampling("New tokens at most; 256 by default.")]
Temperature = Annotated[float | None, _sampling("0, the default, takes the best word each time.")]
TopK = Annotated[int | None, _sampling("Only so many best words.")]
TopP = Annotated[float | None, _sampling("Only the best words that together reach this probability.")]
MinP = Annotated[float | None, _sampling("Only words at least this likely relative to the best.")]
RepetitionPenalty = Annotated[
    float | None, _sampling("Lower the scores of words seen before by this factor.")
]
Stop = Annotated[list[str] | None, _sampling("A string that ends the answer; may be repeated.")]
Seed = Annotated[int | None, _sampling("The same seed gives the same answer.")]
RegionText = Annotated[
    list[str] | None,
    typer.Option(
        "--region", help="Box in pixels of the first picture: LEFT,TOP,RIGHT,BOTTOM. May be repeated."
    ),
]
PointText = Annotated[
    list[str] | None,
    typer.Option("--point", help="Point in pixels of the first picture: X,Y. May be repeated."),
]
MaskFile = Annotated[
    list[Path] | None,
    typer.Option("--mask", help="Picture of the first one's size, white where it is meant. May be repeated."),
]
Draw = Annotated[
    Path | None,
    typer.Option(
        help="PNG to write: the first picture or clip with the boxes, masks and points of the answer."
    ),
]
System = Annotated[str | None, typer.Option(help="Instructions that come before the conversation.")]


SchemaText = Annotated[
    str | None, _form("The answer is JSON of this schema: a file that holds one, or the schema itself.")
]
Regex = Annotated[str | None, _form("The whole answer matches this regular expression.")]
Choice = Annotated[list[str] | None, _form("The answer is this text, or another that is given so.")]
Beams = Annotated[int | None, _sampling("Follow so many answers and give the likeliest whole one.")]
LogProbs = Annotated[
    int | None, _form("With --json: each token's logarithm of probability, and those of so many likeliest.")
]


def schema(given: str | None) -> str | None:
    """The text of a JSON schema that is given as such or as the name of a file."""
    if given is None or given.lstrip().startswith("{"):
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError):
        raise BeholderError(
            f"--schema {given}: no such file of text; give a file or the schema itself, {{...}}"
        ) from None


def sampling(**given: Any) -> dict[str, Any]:
    """The options that were given; the others keep the defaults of `beholder.Sampling`, which checks all of them before
    anything is loaded.
    """
    from beholder.generate.sampling import Sampling

    options = {name: value for name, value in given.items() if value not in (None, [])}
    Sampling.of(options)
    return options


def busy(threads: int) -> bool:
    """Whether other programs keep half of `threads` cores or more at work, by the last minute's load; `OMP_NUM_THREADS` set
    means that the person has decided. Threads that must wait for a busy core at the end of every product make an answer
    several times slower than one thread does.
    """
    if "OMP_NUM_THREADS" in os.environ or threads < 2 or not hasattr(os, "getloadavg"):
        return False
    return os.getloadavg()[0] >= threads / 2


def open_model(
    name: str,
    device: str = "cpu",
    dtype: Precision | None = None,
    chat: str | None = None,
    precision: str | None = None,
    guess: str | None = None,
    adapter: Path | None = None,
) -> Pipeline:
    """`beholder.load`, with bars where weights must be fetched first and a clear line for a device that is not there."""
    check_model(name)
    if precision is not None and dtype is not None:
        raise BeholderError("--precision packs weights that --dtype would keep; leave one out")
    if adapter is not None and not adapter.is_dir():
        raise BeholderError(f"--adapter {adapter}: no such folder of adapters")
    with working(f"loading {name}"):
        import torch

        from beholder.pipeline import load

        if busy(torch.get_num_threads()):
            torch.set_num_threads(1)
    check_device(device)
    fetch(name)
    with working(f"loading {name}"):
        kept = getattr(torch, dtype) if dtype else None
        pipeline = load(name, device=device, dtype=kept, chat=chat, precision=precision, adapter=adapter)
        if guess is not None:
            pipeline.runtime = replace(pipeline.runtime, guesser=guesser(pipeline, guess, device))
        return pipeline


def guesser(pipeline: Pipeline, guess: str, device: str) -> Guesser:
    """What `--guess [MODEL:]N` means."""
    from beholder.generate.guesses import draft, look_up
    from beholder.pipeline import load

    name, _, count = guess.rpartition(":")
    if not count.isdigit():
        raise BeholderError(f"--guess {guess!r} is not a number of tokens, nor a model and one: 8, or NAME:4")
    if not name:
        return look_up(int(count))
    check_model(name)
    return draft(load(name, device=device).model, pipeline.model, int(count))


def check_device(device: str) -> None:
    """Raises `BeholderError` for a device that is not there."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise BeholderError(f"--device {device} is not available here; see beholder doctor --deep") from None


def fetch(name: str) -> None:
    """The files of a model that is assembled from several, with bars."""
    from beholder.weights import pull

    if name in pull.ASSEMBLIES and not Path(name).is_dir():
        with step_bars() as progress:
            pull.pull(name, progress=progress)


def region(text: str) -> Box:
    """A box from `LEFT,TOP,RIGHT,BOTTOM` in pixels."""
    from beholder.media.plan import Box

    try:
        left, top, right, bottom = (float(edge) for edge in text.split(","))
    except ValueError:
        raise BeholderError(
            f"--region {text!r} is not LEFT,TOP,RIGHT,BOTTOM in pixels: 10,20,200,240"
        ) from None
    if not (left < right and top < bottom):
        raise BeholderError(f"--region {text} is empty; right must be above left, and bottom above top")
    return Box(left, top, right, bottom)


def point(text: str) -> tuple[float, float]:
    """A point from `X,Y` in pixels."""
    try:
        x, y = (float(place) for place in text.split(","))
    except ValueError:
        raise BeholderError(f"--point {text!r} is not X,Y in pixels: 120,80") from None
    return x, y
