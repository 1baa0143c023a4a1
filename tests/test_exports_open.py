"""What `export` writes, the official library opens, and it computes the recorded outputs from it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from beholder.pipeline import load

from .test_parity import FAMILIES

VERIFY = Path(__file__).parent / "oracle" / "verify.py"
NO_PLAIN_CALL = {
    "vilt",
    "vilt_vqa",
    "blip_2_itm",
}  # transformers draws their patches at random, or names two forwards
RECORDED = ("inputs.safetensors", "reference.safetensors", "meta.json")


def test_transformers_reproduces_its_outputs_from_our_exports(
    oracle: Callable[[str], Path], oracle_python: Path, tmp_path: Path
) -> None:
    """Every family is loaded and exported by us, then opened and run by the official library."""
    for family in FAMILIES:
        source = oracle(family)
        load(source).export(tmp_path / "exports" / family)
        for name in RECORDED:
            shutil.copy(source / name, tmp_path / "exports" / family / name)
    command = [oracle_python, "-B", VERIFY, tmp_path / "exports"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    skipped = {line.split()[1].rstrip(":") for line in done.stdout.splitlines() if line.startswith("SKIP")}
    assert skipped == NO_PLAIN_CALL & set(FAMILIES)
    checked = len(FAMILIES) - len(skipped)
    assert f"{checked}/{checked} families" in done.stdout
