"""What a run shows while it runs: a live line in a terminal, plain lines elsewhere, and metrics.jsonl in its folder."""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from beholder.cards.schema import Stage
from beholder.files import write_text_atomic
from beholder.train.checkpoints import Progress
from beholder.train.stages import Plan

LINE_SECONDS = 20.0  # between plain lines
WINDOW = 50  # steps that the shown loss and speed are means of


class Reporter:
    """Called by the loop at the start, after each step and at the end."""

    def __init__(self, folder: Path, stage: Stage, progress: Progress) -> None:
        """progress: of the checkpoint that the run goes on from; metrics of later steps are dropped."""
        self.stage = stage
        self.console = Console(soft_wrap=True)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= progress.step]
        write_text_atomic(path, "".join(kept))
        self.metrics = path.open("a", encoding="utf-8")
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.times: deque[float] = deque(maxlen=WINDOW + 1)
        self.live = Live(console=self.console, refresh_per_second=4) if self.console.is_terminal else None
        self.shown = 0.0

    def start(self, plan: Plan, progress: Progress) -> None:
        """Show what trains and where the run goes on."""
        self.console.print(Text(plan.table()))
        if progress.step:
            self.console.print(f"{self.stage.name}: going on after step {progress.step:,}")
        self.times.append(progress.seconds)
        if self.live is not None:
            self.live.start()

    def step(self, progress: Progress, *, loss: float, norm: float, factor: float, share: float) -> None:
        """One more step is done. share: of the schedule."""
        record = {
            "step": progress.step,
            "loss": loss,
            "norm": norm,
            "factor": factor,
            "seconds": progress.seconds,
        }
        self.metrics.write(json.dumps(record) + "\n")
        self.metrics.flush()
        self.losses.append(loss)
        self.times.append(progress.seconds)
        line = self._line(progress, share)
        if self.live is not None:
            self.live.update(Text(line))
        elif time.monotonic() - self.shown > LINE_SECONDS:
            self.shown = time.monotonic()
            self.console.print(Text(line))

    def end(self, progress: Progress) -> None:
        """The stage is over or was stopped."""
        if self.live is not None:
            self.live.stop()
        self.metrics.close()
        done = f"{progress.step:,} steps, {progress.samples:,} samples, {progress.seconds / 60:.1f} min"
        self.console.print(f"{self.stage.name}: {done}")

    def _line(self, progress: Progress, share: float) -> str:
        samples = (len(self.times) - 1) * self.stage.batch * self.stage.accumulate
        rate = samples / max(1e-9, self.times[-1] - self.times[0])
        left = progress.seconds * (1 - share) / max(share, 1e-9)
        return (
            f"{self.stage.name}  step {progress.step:,}  loss {sum(self.losses) / len(self.losses):.3f}  "
            f"{rate:.1f} samples/s  {share:.1%} done, {left / 60:.0f} min left"
        )
