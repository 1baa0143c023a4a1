"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from beholder.cli.options import busy
from tests.cli.conftest import Run


def test_one_thread_where_other_programs_keep_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.getloadavg", lambda: (1.2, 0.0, 0.0), raising=False)
    assert busy(2) and not busy(4) and not busy(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert not busy(2)


def test_what_may_be_guessed(run: Run, oracle: Callable[[str], Path]) -> None:
    folder = oracle("llava")
    asked = ("ask", "Say a b a b a b", "-m", folder, "--chat", "llava-hf", "--max-tokens", 12, "--json")
    plain = run(*asked)
    assert plain.code == 0, plain
    for guess in ("4", f"{folder}:3"):
        guessed = run(*asked, "--guess", guess)
        assert guessed.json["answer"] == plain.json["answer"]
    run(*asked, "--guess", "many").assert_refused("--guess 'many'", "8, or NAME:4")
    run(*asked, "--guess", "0").assert_refused("0 tokens are no guess")
