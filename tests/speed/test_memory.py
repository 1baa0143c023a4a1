"""What packing gives back to the system, and what stays right meanwhile."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from beholder.speed.memory import Files, trim

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems keep it")


def resident(tensor: torch.Tensor) -> int:
    """Bytes of the mapping that holds a tensor that are in memory."""
    address, here = tensor.data_ptr(), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head and ":" not in head:
            start, end = (int(part, 16) for part in head.split("-"))
            here = start <= address < end
        elif here and head == "Rss:":
            return 1024 * int(line.split()[1])
    raise AssertionError("not mapped")


def test_pages_of_a_file_are_forgotten_and_read_again(tmp_path: Path) -> None:
    save_file({"a": torch.randn(2**20), "b": torch.randn(2**20)}, tmp_path / "x.safetensors")
    held = load_file(tmp_path / "x.safetensors")
    sums = [float(held[name].sum()) for name in "ab"]
    before = resident(held["a"])
    given = Files().forget(held["a"])
    assert 2**22 - 2**13 <= given <= 2**22
    assert before - resident(held["a"]) >= given
    assert [float(held[name].sum()) for name in "ab"] == sums


def test_what_is_no_file_stays() -> None:
    own = torch.randn(2**20)
    total = float(own.sum())
    assert Files().forget(own) == 0 and Files().forget(own[5:]) == 0
    trim()
    assert float(own.sum()) == total
