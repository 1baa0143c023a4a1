"""What many rounds say, and the document that tells of them."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from beholder.bench.load import PROC, Memory, OtherPrograms, forget_peak
from beholder.bench.rounds import Round, Sample, Workload, middle, summary, undisturbed
from beholder.bench.run import document, fits, line, measure, sweep
from beholder.errors import BeholderError

CEILINGS = {"read": 1e9, "read_how": "a guess", "products": 1e12, "products_how": "a guess"}
MACHINE = {
    "processor": "Test CPU",
    "cores": 2,
    "instructions": ["avx2"],
    "memory": 2**34,
    "accelerator": None,
    "system": "Linux",
    "python": "3.11",
    "torch": "2.13",
}


def made_round(first: float, *, others: float | None = 0.0, new: int = 5, step: float = 0.1) -> Round:
    sample = Sample(first, first + step * (new - 1), 10, 4, new, {"queue": 0.0, "prefill": first})
    return Round(sample.last, (sample,), 1000, others)


class Fake:
    """A contestant whose rounds are known beforehand."""

    def __init__(self, engine: str, *rounds: Round | Exception) -> None:
        told = {"start": 1, "loaded": 2, "weights": 100}
        self.facts = {"engine": engine, "version": "1", "system": "toy", "precision": "float32"}
        self.facts |= {"weights": "given", "device": "cpu", "threads": 1, "memory": told}
        self.left = [rounds[0], *rounds]  # the first one warms up
        self.asked: list[Workload] = []

    def round(self, workload: Workload) -> Round:
        self.asked.append(workload)
        found = self.left.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found

    def work(self, workload: Workload) -> dict:
        return {
            "bytes_per_token": {"weights": 10**6, "cache": 100},
            "operations": {"vision": 0, "prefill": 10**9},
        }

    def prompt(self, workload: Workload) -> dict:
        return {"question": "", "ids": [1]}

    def close(self) -> None: ...


def silent(what: str, done: int, total: int) -> None: ...


def test_disturbed_rounds_do_not_count() -> None:
    quiet = [made_round(i, others=0.01) for i in range(5)]
    assert undisturbed([*quiet, made_round(9, others=0.5)]) == quiet
    busy = [made_round(i, others=0.2 + 0.1 * i) for i in range(4)]
    assert undisturbed(busy) == busy[:2]
    unknown = [made_round(1, others=None)] * 3
    assert undisturbed(unknown) == unknown


def test_a_row_is_of_the_round_in_the_middle() -> None:
    rounds = [made_round(first) for first in (0.4, 0.2, 0.3)]
    row = summary(rounds, Workload(pictures=("a.png",)))
    assert middle(rounds) is rounds[2] and row["ttft"] == {"median": 0.3, "least": 0.2, "most": 0.4}
    assert sum(row["parts"].values()) == pytest.approx(row["ttft_of_parts"]) == 0.3
    assert row["token"]["median"] == pytest.approx(0.1)
    assert row["tokens_per_second"]["median"] == pytest.approx(5 / 0.7)
    assert row["pictures_per_second"]["median"] == pytest.approx(1 / 0.7)


def test_contestants_take_turns_and_are_compared_round_by_round() -> None:
    one = Fake("beholder", *(made_round(each) for each in (0.1, 0.2, 0.3)))
    other = Fake("other", *(made_round(2 * each, step=0.3) for each in (0.1, 0.2, 0.3)))
    found = document(measure([one, other], [Workload(new=5)], 3, silent), MACHINE, CEILINGS)
    assert found["complete"] and found["notes"] == []
    first, second = found["rows"]
    assert first["times_as_long"] is None
    assert second["times_as_long"]["ttft"] == pytest.approx(2)
    assert second["times_as_long"]["token"] == pytest.approx(3)
    needed = (10**6 + 12.5 * 100) / 1e9
    assert first["shares"]["decode"] == pytest.approx(needed / 0.1)
    assert first["shares"]["prefill"] == pytest.approx(1e9 / 1e12 / 0.2)


def test_ctrl_c_leaves_what_was_measured() -> None:
    stopped = measure([Fake("beholder", made_round(1), KeyboardInterrupt())], [Workload()], 5, silent)
    found = document(stopped, MACHINE, CEILINGS)
    assert not found["complete"] and found["rows"][0]["rounds"] == 1
    assert "stopped" in found["notes"][0]
    with pytest.raises(KeyboardInterrupt):
        measure([Fake("beholder", KeyboardInterrupt())], [Workload()], 5, silent)


def test_what_one_cannot_do_the_others_do() -> None:
    able = Fake("beholder", made_round(1), made_round(1))
    measured = measure([able, Fake("other", BeholderError("other: no pictures"))], [Workload()], 2, silent)
    assert [row["engine"] for row in document(measured, MACHINE, CEILINGS)["rows"]] == ["beholder"]
    assert measured.notes == ["other: no pictures"]
    late = Fake("other", made_round(1), BeholderError("other: gone"))
    measured = measure([Fake("beholder", *[made_round(1)] * 3), late], [Workload()], 3, silent)
    assert measured.notes == ["other: gone"] and len(measured.rounds[0, 0]) == 3
    with pytest.raises(BeholderError, match="no pictures"):
        measure([Fake("other", BeholderError("other: no pictures"))], [Workload()], 2, silent)


def test_lines_of_sweeps() -> None:
    assert line([1, 2, 3], [3, 5, 7]) == pytest.approx({"slope": 2, "start": 1, "fit": 1})
    assert line([1, 1], [3, 5]) is None and line([1, 2], [3, math.nan]) is None
    rows = [
        summary([replace(made_round(0.1 * n), peak=100 * n)], Workload())
        | {"engine": "beholder", "precision": "bf16"}
        for n in (1, 2, 4)
    ]
    for n, row in zip((1, 2, 4), rows, strict=True):
        row["prompt_tokens"] = 10 * n
    (fit,) = fits(rows, "context")
    assert fit["ttft"] == pytest.approx({"slope": 0.01, "start": 0, "fit": 1})
    assert fit["peak"]["slope"] == pytest.approx(10)


def test_sweeps_grow_one_thing() -> None:
    base = Workload(pictures=("a", "b"))
    assert [w.text for w in sweep(base, "context", (8, 16))] == [8, 16]
    assert [w.pictures for w in sweep(base, "pictures", (1, 3))] == [("a",), ("a", "b", "a")]
    with pytest.raises(BeholderError, match="cat.jpg"):
        sweep(Workload(), "pictures", (1, 2))


def test_peak_memory_is_of_the_round() -> None:
    if not (PROC / "self" / "clear_refs").exists():
        pytest.skip("the system does not tell memory in /proc")
    held = bytearray(80 * 2**20)
    held[::4096] = b"1" * len(held[::4096])
    before = Memory.read()
    del held
    forget_peak()
    assert Memory.read().peak < before.peak - 40 * 2**20


def test_time_of_others_is_all_time_but_ours(tmp_path, monkeypatch) -> None:
    from beholder.bench import load

    def write(busy: int, idle: int, own: int) -> None:
        (tmp_path / "7").mkdir(exist_ok=True)
        (tmp_path / "stat").write_text(f"cpu {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1\n")
        (tmp_path / "7" / "stat").write_text("7 (a b) c) S " + "0 " * 10 + f"{own} 0 0\n")

    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(load, "PROC", tmp_path)
    monkeypatch.setattr(load.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(load.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(load.os, "sysconf", lambda name: 100)
    write(1000, 5000, 50)
    others = OtherPrograms([7])
    clock.now = 1.0
    write(1150, 5050, 150)
    assert others.share() == pytest.approx(0.25)  # half of one of two processors
    (tmp_path / "stat").unlink()
    assert others.share() is None
