"""`bench`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from beholder.bench import machine
from tests.cli.conftest import Run
from tests.test_pipeline import made
from tests.toys import SEES, VIT

ROW = {
    *(
        "engine",
        "version",
        "system",
        "precision",
        "weights",
        "device",
        "threads",
        "memory",
        "pictures",
        "text",
        "new",
    ),
    *("concurrency", "rate", "requests", "prompt_tokens", "image_tokens", "new_tokens", "ttft", "ttft_p95"),
    *("ttft_of_parts", "parts", "token", "tokens_per_second", "pictures_per_second", "requests_per_second"),
    *(
        "arrived_per_second",
        "peak",
        "rounds",
        "rounds_kept",
        "others",
        "bytes_per_token",
        "operations",
        "shares",
    ),
    "times_as_long",
}
QUICK = ("--text", 8, "--new", 4, "--rounds", 2)


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return made(SEES).save(tmp_path_factory.mktemp("toy") / "sees")


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    monkeypatch.setattr(machine, "READ_BYTES", 2**20)
    monkeypatch.setattr(machine, "SIDE", 64)


def test_the_document(run: Run, toy: Path, cat: Path) -> None:
    shown = run("bench", cat, "-m", toy, *QUICK, "--concurrency", "1,2", "--json")
    assert shown.code == 0, shown.err
    found = shown.json
    assert set(found) == {"format", "machine", "ceilings", "complete", "rows", "fits", "notes"}
    assert found["format"] == "beholder-bench-1" and found["complete"]
    assert [set(row) for row in found["rows"]] == [ROW, ROW]
    assert [(row["concurrency"], row["requests"]) for row in found["rows"]] == [
        (1, row_kept(found, 0)),
        (2, 4 * row_kept(found, 1)),
    ]
    assert all(row["new_tokens"] == 4 and row["image_tokens"] == 4 for row in found["rows"])
    assert sum(found["rows"][0]["parts"].values()) == pytest.approx(found["rows"][0]["ttft_of_parts"])
    assert str(cat.parent) not in shown.out and str(toy) not in shown.out


def row_kept(found: dict, place: int) -> int:
    return found["rows"][place]["rounds_kept"]


def test_the_table(run: Run, toy: Path) -> None:
    shown = run("bench", "-m", toy, *QUICK, "--rate", 100, "--requests", 3)
    assert shown.code == 0, shown.err
    assert "100 a second" in shown.out and "tokens/s" in shown.out and "GB/s" in shown.out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--rate", 0), ("--rate 0", "above 0")),
        (("--rate", -1), ("--rate -1",)),
        (("--concurrency", 0), ("--concurrency 0", "from 1 up")),
        (("--concurrency", "1,x"), ("--concurrency 1,x", "1,4,16")),
        (("--rate", 2, "--concurrency", 4), ("--concurrency",)),
        (("--against", "vlm"), ("unknown library", "llama.cpp")),
        (("--sizes", "1,2"), ("--sweep",)),
        (("--sweep", "pictures"), ("cat.jpg",)),
        (("--sweep", "context", "--concurrency", "1,2"), ("--concurrency",)),
        (("--random", "--against", "transformers"), ("--random",)),
        (("--page", "a.md"), ("--collect",)),
        (("--new", 0), ("new",)),
        (("missing.png",), ("missing.png",)),
        (("--device", "cuda:99"), ("--device",)),
        (("--text", 4000), ("tokens",)),
    ],
)
def test_what_is_wrong_is_told_in_a_line(run: Run, toy: Path, given: tuple, words: tuple) -> None:
    run("bench", *given, "-m", toy).assert_refused(*words)


def test_a_system_that_needs_a_picture(run: Run, tmp_path: Path) -> None:
    from beholder.cards.schema import Card

    folder = made(Card(name="toy-encoder", vision=VIT, images=SEES.branches[0].geometry)).save(
        tmp_path / "encoder"
    )
    run("bench", "-m", folder).assert_refused("toy-encoder", "needs a picture")


def test_a_rival_beside(run: Run, toy: Path, tmp_path: Path, monkeypatch) -> None:
    from beholder.bench import rivals
    from tests.bench.test_rivals import ECHO

    runner = tmp_path / "runner.py"
    runner.write_text(ECHO)
    monkeypatch.setattr(rivals, "RUNNER", runner)
    shown = run("bench", "-m", toy, *QUICK, "--against", "transformers", "--json")
    ours, theirs = shown.json["rows"]
    assert set(theirs) == ROW | {"given"}
    assert theirs["engine"] == "transformers" and theirs["times_as_long"]["ttft"] > 0
    assert ours["times_as_long"] is None


def test_a_rival_that_is_not_installed_stops_nobody(run: Run, toy: Path) -> None:
    shown = run("bench", "-m", toy, *QUICK, "--against", "llama.cpp", "--python", sys.executable, "--json")
    assert shown.code == 0 and len(shown.json["rows"]) == 1
    assert "pip install llama-cpp-python" in shown.json["notes"][0]
    assert "pip install llama-cpp-python" in shown.err


def test_sweeps_have_a_line_and_a_plot(run: Run, toy: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "grown.png"
    shown = run(
        "bench", "-m", toy, *QUICK, "--sweep", "context", "--sizes", "8,16,4000", "--plot", drawn, "--json"
    )
    assert shown.code == 0, shown.err
    (fit,) = shown.json["fits"]
    assert fit["over"] == "context" and {"slope", "start", "fit"} == set(fit["ttft"])
    assert len(shown.json["rows"]) == 2 and "fewer than 256" in shown.json["notes"][0]  # the context is 256
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_a_plot_without_matplotlib(run: Run, toy: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run("bench", "-m", toy, "--plot", tmp_path / "a.png").assert_refused("matplotlib", "beholder[bench]")


@pytest.mark.parametrize("ending", ["md", "html"])
def test_a_page_of_two_results(run: Run, toy: Path, tmp_path: Path, ending: str) -> None:
    one, two, page = tmp_path / "one.json", tmp_path / "two.json", tmp_path / f"page.{ending}"
    assert run("bench", "-m", toy, *QUICK, "--save", one, "--plot", tmp_path / "bars.png").code == 0
    data = json.loads(one.read_text())
    data["machine"]["processor"] = "Other CPU <2>"
    data["rows"][0]["system"] = "toy-other"
    two.write_text(json.dumps(data))
    assert run("bench", "--collect", one, two, "--page", page).code == 0
    text = page.read_text()
    assert "toy-sees" in text and "toy-other" in text
    assert ("Other CPU &lt;2&gt;" if ending == "html" else "## Other CPU <2>") in text
    assert str(tmp_path) not in text


def test_files_that_are_no_results(run: Run, tmp_path: Path) -> None:
    wrong, page = tmp_path / "wrong.json", tmp_path / "page.md"
    run("bench", "--collect", wrong, "--page", page).assert_refused("wrong.json", "cannot be read")
    wrong.write_text("{")
    run("bench", "--collect", wrong, "--page", page).assert_refused("no JSON")
    wrong.write_text("{}")
    run("bench", "--collect", wrong, "--page", page).assert_refused("beholder-bench-1")
    run("bench", "--collect", "--page", page).assert_refused("--collect")
    run("bench", "--collect", wrong, "--page", tmp_path / "page.pdf").assert_refused("wrong.json")


def test_ctrl_c_tells_what_is_there(run: Run, toy: Path, monkeypatch) -> None:
    from beholder.bench.own import Own

    whole, count = Own.round, 0

    def cut(self, workload):
        nonlocal count
        count += 1
        if count > 2:
            raise KeyboardInterrupt
        return whole(self, workload)

    monkeypatch.setattr(Own, "round", cut)
    shown = run("bench", "-m", toy, *QUICK, "--json")
    assert shown.code == 130 and not shown.json["complete"]
    assert shown.json["rows"][0]["rounds"] == 1
