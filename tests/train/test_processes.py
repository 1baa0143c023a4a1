"""Two processes train as one does: copies of the weights, or shares of them; runs go on with another number of processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from beholder.errors import BeholderError
from beholder.train.processes import ALONE, World, joined
from tests.train.together import LASTING, train_some

ROOT = Path(__file__).resolve().parents[2]


def in_two(folder: Path, ways: str, steps: int) -> None:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*run, "-m", "tests.train.together", str(folder), ways, str(steps)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=2e-5, rtol=1e-4, msg=name)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty steps of two processes, both ways."""
    folder = tmp_path_factory.mktemp("two")
    in_two(folder, "copied,sharded", 50)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """The same fifty steps of one process."""
    folder = tmp_path_factory.mktemp("one")
    return folder, train_some(folder, 50, ALONE).model.state_dict()


@pytest.mark.parametrize("way", ["copied", "sharded"])
def test_two_processes_take_the_steps_of_one(
    two: Path, one: tuple[Path, dict[str, torch.Tensor]], way: str
) -> None:
    folder, weights = one
    assert len(losses(folder)) == 50 and losses(folder)[-1] < 0.9 * losses(folder)[0]
    assert losses(two / way) == pytest.approx(losses(folder), abs=1e-5)
    close(weights, torch.load(two / f"{way}.pt", weights_only=True))


def test_a_run_goes_on_with_another_number_of_processes(
    one: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    """Ten steps of two processes that share weights, ten of one, ten of two: the first thirty of one."""
    in_two(tmp_path, "sharded", 10)
    assert (tmp_path / "sharded" / "checkpoint-00000010" / "shares").is_dir()
    train_some(tmp_path / "sharded", 20, ALONE)
    in_two(tmp_path, "sharded", 30)
    assert losses(tmp_path / "sharded") == pytest.approx(losses(one[0])[:30], abs=1e-5)


def test_steps_that_cannot_be_dealt_out_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BeholderError, match="2 batches a step cannot be dealt out to 3 processes"):
        train_some(tmp_path, 1, World(0, 3))
    assert LASTING.accumulate == 2
    with pytest.raises(BeholderError, match="start it with torchrun"):
        joined(shard=True)
