"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from beholder.cli.options import busy
from beholder.parts.adapters.apply import adapters, put_on
from beholder.parts.adapters.low_rank import Lora
from beholder.pipeline import load
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


def test_an_adapter_is_put_on(run: Run, oracle: Callable[[str], Path], tmp_path: Path) -> None:
    folder = oracle("llava")
    pipeline = load(folder)
    put_on(pipeline.model, Lora(pattern="languages.main.blocks.*"))
    for layer in adapters(pipeline.model).values():
        torch.nn.init.normal_(layer.lora_b, generator=torch.Generator().manual_seed(0))
    adapter = pipeline.save_adapter(tmp_path / "adapter")
    asked = ("ask", "Say something", "-m", folder, "--chat", "llava-hf", "--max-tokens", 6, "--json")
    plain, changed = run(*asked), run(*asked, "--adapter", adapter)
    assert plain.code == changed.code == 0 and plain.json["answer"] != changed.json["answer"]
    packed = run(*asked, "--adapter", adapter, "--precision", "float32")
    assert packed.json["answer"] == changed.json["answer"]
    run(*asked, "--adapter", tmp_path / "none").assert_refused("none", "no such folder of adapters")
    run(*asked, "--adapter", folder).assert_refused("no adapter_config.json")
