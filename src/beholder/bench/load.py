"""What other programs take of the processor, and what memory this one takes."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
IDLE = (3, 4)  # fields of a processor's line in /proc/stat: idle and waiting for disks
OWN = (13, 14)  # fields of /proc/PID/stat: ticks for the program and for the system on its behalf


class OtherPrograms:
    """`share()`: of all processors' time since this was made, what programs other than `pids` took; None where unknown."""

    def __init__(self, pids: Sequence[int] = ()) -> None:
        self._pids = pids or (os.getpid(),)
        self._start, self._begun = time.perf_counter(), self._ticks()

    def share(self) -> float | None:
        now, seconds = self._ticks(), time.perf_counter() - self._start
        if now is None or self._begun is None or seconds <= 0:
            return None
        taken = (now - self._begun) / os.sysconf("SC_CLK_TCK") / seconds / (os.cpu_count() or 1)
        return min(max(taken, 0.0), 1.0)

    def _ticks(self) -> int | None:
        """Of all programs but ours; a tick is usually a hundredth of a second."""
        try:
            all_ticks = [int(tick) for tick in (PROC / "stat").read_text().split("\n")[0].split()[1:9]]
            lines = [(PROC / str(pid) / "stat").read_text().rpartition(")")[2].split() for pid in self._pids]
        except (OSError, ValueError):
            return None
        busy = sum(tick for place, tick in enumerate(all_ticks) if place not in IDLE)
        return busy - sum(int(line[field - 2]) for line in lines for field in OWN)


@dataclass(frozen=True)
class Memory:
    """Bytes of this program in main memory. now; peak: the most since `forget_peak`, or since the start where the system
    cannot forget.
    """

    now: int
    peak: int

    @classmethod
    def read(cls) -> Memory:
        try:
            lines = (PROC / "self" / "status").read_text().splitlines()
            kib = {
                line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))
            }
            return cls(1024 * int(kib["VmRSS"]), 1024 * int(kib["VmHWM"]))
        except (OSError, KeyError):
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            most *= 1 if sys.platform == "darwin" else 1024
            return cls(most, most)


def forget_peak() -> None:
    """Begin to look for the peak anew."""
    try:
        (PROC / "self" / "clear_refs").write_text("5")
    except OSError:
        return
