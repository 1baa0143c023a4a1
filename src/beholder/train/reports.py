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
from beholder.train.checkpoints import Progress
from beholder.train.stages import Plan

LINE_SECONDS = 20.0  # between plain lines


class Reporter:
    """Called by the loop at the start, after each step and at the end."""

    def __init__(self, folder: Path, stage: Stage) -> None:
        self.stage, self.console = stage, Console()
        folder.mkdir(parents=True, exist_ok=True)
        self.metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self.recent: deque[tuple[float, float]] = deque(maxlen=50)  # (seconds so far, loss)
        self.live = Live(console=self.console, refresh_per_second=4) if self.console.is_terminal else None
        self.shown = 0.0

    def start(self, plan: Plan, progress: Progress) -> None:
        self.console.print(Text(plan.table()))
        if progress.step:
            self.console.print(f"{self.stage.name}: going on after step {progress.step:,}")
        self.recent.append((progress.seconds, float("nan")))
        if self.live is not None:
            self.live.start()

    def step(self, progress: Progress, *, loss: float, norm: float, factor: float, share: float) -> None:
        record = {"step": progress.step, "loss": loss, "norm": norm, "lr_factor": factor, "seconds": progress.seconds}
        print(json.dumps(record), file=self.metrics, flush=True)
        first_seconds = self.recent[0][0]
        steps = len(self.recent) - 1 if len(self.recent) < 50 else 49
        self.recent.append((progress.seconds, loss))
        rate = max(1, steps + 1) * self.stage.batch * self.stage.accumulate / max(1e-9, progress.seconds - first_seconds)
        losses = [value for _, value in self.recent if value == value]
        left = progress.seconds * (1 - share) / max(share, 1e-9)
        line = (
            f"{self.stage.name}  step {progress.step:,}  loss {sum(losses) / len(losses):.3f}  "
            f"{rate:.1f} samples/s  {share:.1%} done, {left / 60:.0f} min left"
        )
        if self.live is not None:
            self.live.update(Text(line))
        elif time.monotonic() - self.shown > LINE_SECONDS:
            self.shown = time.monotonic()
            print(line, flush=True)

    def end(self, progress: Progress) -> None:
        if self.live is not None:
            self.live.stop()
        self.metrics.close()
        print(f"{self.stage.name}: stopped after {progress.step:,} steps and {progress.samples:,} samples", flush=True)
