"""What a run shows while it runs: a live panel in a terminal, plain lines elsewhere, metrics.jsonl in its folder, and curves,
answers and pictures for TensorBoard.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from beholder.cards.schema import Stage
from beholder.errors import BeholderError
from beholder.files import write_text_atomic
from beholder.train.checkpoints import Progress
from beholder.train.stages import Plan

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LINE_SECONDS = 20.0  # between plain lines
WINDOW = 50  # steps that the shown loss and speed are means of
BOARD = "board"  # folder of TensorBoard's files


@dataclass(frozen=True)
class Reading:
    """Of one step: its loss, the gradient's norm before clipping, what learning rates were multiplied by, and the share of the
    schedule that is behind.
    """

    loss: float
    norm: float
    factor: float
    share: float


@dataclass(frozen=True)
class Answered:
    """A held-out question: its picture, (height, width, 3) uint8, or None; what was asked, what is right, what the model
    said.
    """

    picture: np.ndarray | None
    question: str
    expected: str
    answer: str


Look = Sequence[Answered]


class Reporter:
    """Called by the loop at the start, after each step and at the end; a context that closes its files."""

    def __init__(
        self, folder: Path, stage: Stage, progress: Progress, *, board: bool = False, quiet: bool = False
    ) -> None:
        """progress: of the checkpoint that the run goes on from; metrics of later steps are dropped. quiet: show and write
        nothing, as another process does.
        """
        self.stage, self.quiet = stage, quiet
        self.console = Console(soft_wrap=True, quiet=quiet)
        self.metrics = None if quiet else _metrics(folder, progress)
        self.board = _board(folder / BOARD, progress) if board and not quiet else None
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.times: deque[float] = deque(maxlen=WINDOW + 1)
        live = self.console.is_terminal and not quiet
        self.live = Live(console=self.console, refresh_per_second=4) if live else None
        self.shown = 0.0
        self.held_out: float | None = progress.best

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live is not None:
            self.live.stop()
        if self.metrics is not None:
            self.metrics.close()
        if self.board is not None:
            self.board.close()

    def start(self, plan: Plan, progress: Progress) -> None:
        """Show what trains and where the run goes on."""
        self.console.print(plan if self.console.is_terminal else Text(plan.table()), soft_wrap=True)
        if progress.step:
            self.console.print(f"{self.stage.name}: going on after step {progress.step:,}")
        self.times.append(progress.seconds)
        if self.live is not None:
            self.live.start()

    def step(self, progress: Progress, reading: Reading) -> None:
        """One more step is done."""
        self._write(
            step=progress.step,
            loss=reading.loss,
            norm=reading.norm,
            factor=reading.factor,
            seconds=progress.seconds,
            waited=progress.waited,
        )
        if self.board is not None:
            for name in ("loss", "norm", "factor"):
                self.board.add_scalar(f"train/{name}", getattr(reading, name), progress.step)
            self.board.add_scalar("train/samples", progress.samples, progress.step)
        self.losses.append(reading.loss)
        self.times.append(progress.seconds)
        line = self._line(progress, reading)
        if self.live is not None:
            self.live.update(Text(line))
        elif time.monotonic() - self.shown > LINE_SECONDS:
            self.shown = time.monotonic()
            self.console.print(Text(line))

    def look(self, progress: Progress, loss: float, look: Look | None) -> None:
        """The held-out loss after a step, and what the model answers."""
        self.held_out = loss
        self._write(step=progress.step, held_out=loss)
        self.console.print(Text(f"{self.stage.name}  step {progress.step:,}  held-out loss {loss:.3f}"))
        for one in look or ():
            mark = "+" if one.answer.strip().lower() == one.expected.strip().lower() else "-"
            self.console.print(
                Text(f"  {mark} {one.question}  ->  {one.answer!r}, expected {one.expected!r}")
            )
        if self.board is not None:
            self.board.add_scalar("held-out/loss", loss, progress.step)
            for number, one in enumerate(look or ()):
                text = f"**{one.question}**\n\n{one.answer}\n\n*expected: {one.expected}*"
                self.board.add_text(f"answers/{number}", text, progress.step)
                if one.picture is not None:
                    self.board.add_image(f"pictures/{number}", one.picture, progress.step, dataformats="HWC")

    def end(self, progress: Progress) -> None:
        """The stage is over or was stopped."""
        if self.live is not None:
            self.live.stop()
        left_out = f", {progress.skipped} steps left out" if progress.skipped else ""
        spent = f"{progress.seconds / 60:.1f} min, {self._waiting(progress)}"
        self.console.print(
            f"{self.stage.name}: {progress.step:,} steps, {progress.samples:,} samples, {spent}{left_out}"
        )

    def _write(self, **record: object) -> None:
        if self.metrics is not None:
            self.metrics.write(json.dumps(record) + "\n")
            self.metrics.flush()

    def _line(self, progress: Progress, reading: Reading) -> str:
        samples = (len(self.times) - 1) * self.stage.batch * self.stage.accumulate
        rate = samples / max(1e-9, self.times[-1] - self.times[0])
        left = progress.seconds * (1 - reading.share) / max(reading.share, 1e-9)
        held_out = "" if self.held_out is None else f"  held-out {self.held_out:.3f}"
        return (
            f"{self.stage.name}  step {progress.step:,}  loss {sum(self.losses) / len(self.losses):.3f}{held_out}  "
            f"{rate:.1f} samples/s  {self._waiting(progress)}  {reading.share:.1%} done, {left / 60:.0f} min left"
        )

    @staticmethod
    def _waiting(progress: Progress) -> str:
        return f"{progress.waited / max(progress.seconds, 1e-9):.1%} waiting for data"


def _metrics(folder: Path, progress: Progress) -> Any:
    """The metrics file, opened for the next line, without the lines of later steps."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= progress.step]
    write_text_atomic(path, "".join(kept))
    return path.open("a", encoding="utf-8")


def _board(folder: Path, progress: Progress) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BeholderError(
            "curves need TensorBoard; pip install 'beholder[train]', or run without a board"
        ) from None
    return SummaryWriter(str(folder), purge_step=progress.step + 1)
