"""Other libraries in processes of their own, stood in for by small fakes."""

from __future__ import annotations

import sys
import types

import pytest

from beholder.bench import others, rivals
from beholder.bench.own import Opening
from beholder.bench.rounds import Workload
from beholder.errors import BeholderError
from tests.bench.test_rounds import Fake, made_round

FIRST = Fake("beholder", made_round(1))
ECHO = """
import json, sys
for line in sys.stdin:
    given = json.loads(line)
    if given["do"] == "open":
        told = {k: given[k] for k in ("context", "dtype", "threads")}
        answer = {"engine": sys.argv[1], "version": "7", "precision": "x", "threads": 1, "given": told}
        answer["memory"] = {"start": 1, "loaded": 2, "weights": 3}
    elif given["new"] == 13:
        answer = {"error": "has no luck"}
    elif given["new"] == 14:
        sys.exit("Traceback\\nboom")
    else:
        sample = {"first": 0.5, "last": 1.0, "prompt": len(given["ids"]), "new": given["new"], "parts": {"prefill": 0.5}}
        answer = {"seconds": 2.0, "peak": 10, "samples": [sample] * given["requests"]}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def echo(tmp_path, monkeypatch):
    runner = tmp_path / "runner.py"
    runner.write_text(ECHO)
    monkeypatch.setattr(rivals, "RUNNER", runner)
    return rivals.rival("llama.cpp", sys.executable, Opening("toy", threads=3), tmp_path, 99, FIRST)


def test_a_rival_is_asked_the_same(echo) -> None:
    assert echo.facts["given"] == {"context": 99, "dtype": "float32", "threads": 3}
    assert (echo.facts["engine"], echo.facts["system"]) == ("llama.cpp", "toy")
    found = echo.round(Workload(new=4, requests=3))
    assert len(found.samples) == 3 and found.samples[0].new == 4 and found.samples[0].prompt == 1
    assert found.first == 0.5 and found.peak == 10
    assert echo.work(Workload()) == {}
    echo.close()
    assert echo._process.poll() is not None


def test_what_a_rival_says_and_its_last_words_are_one_line(echo) -> None:
    with pytest.raises(BeholderError, match=r"^llama\.cpp: has no luck$"):
        echo.round(Workload(new=13))
    with pytest.raises(BeholderError, match=r"^llama\.cpp ended: boom$"):
        echo.round(Workload(new=14))
    echo.close()


def test_what_is_not_there_is_told(tmp_path) -> None:
    with pytest.raises(BeholderError, match="pip install llama-cpp-python"):
        rivals.rival("llama.cpp", sys.executable, Opening("toy"), tmp_path, 9, FIRST)
    with pytest.raises(BeholderError, match="--python"):
        rivals.rival("llama.cpp", str(tmp_path / "no-python"), Opening("toy"), tmp_path, 9, FIRST)


class Llama:
    """What of llama-cpp-python is used."""

    def __init__(self, path, **options) -> None:
        self.options, self.evaluated = options, []

    def reset(self) -> None:
        self.evaluated = []

    def eval(self, tokens) -> None:
        self.evaluated += tokens

    def sample(self, temp) -> int:
        return len(self.evaluated)


def test_llama_reads_the_prompt_and_then_each_token(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", types.SimpleNamespace(Llama=Llama, __version__="0"))
    path = tmp_path / "a.gguf"
    path.write_bytes(b"1234")
    rival = others.Rival(others.LlamaCpp)
    assert rival.open({"path": str(path), "context": 64})["memory"]["weights"] == 4
    given = {"ids": [5, 6], "new": 3, "pictures": [], "concurrency": 2, "requests": 3}
    found = rival.round(given)
    assert len(found["samples"]) == 4  # whole groups of what comes together
    assert rival.model.model.evaluated == [5, 6, 2, 3]
    assert found["samples"][0]["new"] == 3 and found["samples"][0]["first"] <= found["samples"][0]["last"]
    with pytest.raises(others.Problem, match="pictures"):
        rival.round(given | {"pictures": ["a.png"]})
    with pytest.raises(others.Problem, match="gguf"):
        others.LlamaCpp({"path": "folder", "context": 1})
