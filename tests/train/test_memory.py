"""What the C library does with freed blocks."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import sys, torch
from beholder.train.memory import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    print("other library"); sys.exit()
def size():
    return int(open("/proc/self/statm").read().split()[0])
blocks = [torch.empty(2**24).fill_(1.0) for _ in range(3)]  # 64 MiB each
full = size()
del blocks
print(full - size())
"""


def test_freed_blocks_stay() -> None:
    given = {
        way: subprocess.run(
            [sys.executable, "-c", COUNT, way], capture_output=True, text=True, check=True
        ).stdout.strip()
        for way in ("plain", "kept")
    }
    if given["kept"] == "other library":
        pytest.skip("not glibc")
    assert int(given["kept"]) == 0
    assert int(given["plain"]) >= 3 * 2**14  # pages of 4 KiB
