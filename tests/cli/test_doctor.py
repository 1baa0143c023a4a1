"""`doctor`: its lists are those of pyproject.toml, and what it says is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from beholder.cli import doctor, gpus
from tests.cli.conftest import Run

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in requirements}


def test_lists_are_those_of_the_project() -> None:
    assert set(doctor.CORE) == names(PROJECT["dependencies"])
    extras = {name: names(packages) for name, packages in PROJECT["optional-dependencies"].items()}
    assert {name: set(packages) for name, (_, packages) in doctor.EXTRAS.items()} == extras


def test_report(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEHOLDER_CACHE", str(tmp_path / "cache"))
    document = run("doctor", "--json").json
    assert document["ok"] and document["core"]["torch"]["version"] and "torch" not in document
    assert document["extras"]["dev"]["packages"]["pytest"] and document["processor"]["processors"] > 0
    assert document["cache"] == {"folder": str(tmp_path / "cache"), "bytes": 0} | {
        "free": document["cache"]["free"]
    }
    assert document["models"]["mini"]["pulled"] is False and not (tmp_path / "cache").exists()
    shown = run("doctor").out
    assert "beholder pull mini" in shown and 'pip install "beholder[ocr]"' in shown


def test_pulled_model_and_cache_size(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEHOLDER_CACHE", str(tmp_path))
    folder = tmp_path / "models" / "mini-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "beholder.json").write_bytes(b"x" * 1000)
    document = run("doctor", "--json").json
    assert document["models"]["mini"] == document["models"]["mini"] | {"pulled": True, "folder": str(folder)}
    assert document["cache"]["bytes"] == 1000


def test_compiled_kernels(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEHOLDER_NATIVE", "0")
    kernels = run("doctor", "--json").json["processor"]["kernels"]
    assert kernels == {"set": None, "line": "no: compiled kernels are turned off by BEHOLDER_NATIVE=0"}
    assert "turned off by BEHOLDER_NATIVE=0" in run("doctor").out


def test_missing_core_package_is_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda package: None if package == "gguf" else "1")
    shown = run("doctor")
    assert shown.code == 1 and re.search(r"gguf +MISSING \(reads quantised weights\)", shown.out)


def test_deep_asks_torch(run: Run) -> None:
    document = run("doctor", "--deep", "--json").json
    assert document["torch"]["threads"] >= 1 and document["torch"]["tflops"]["float32"] > 0


def test_a_gpu_is_told_of(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the driver alone, and by torch: name, memory, capability, and whether steps are recorded."""
    import torch

    monkeypatch.setattr(gpus, "DRIVER", tmp_path)
    assert run("doctor", "--json").json["gpus"] == [] and "none that NVIDIA's driver" in run("doctor").out
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text(
        "Model: \t NVIDIA H200\nIRQ: 7\n", encoding="utf-8"
    )
    assert run("doctor", "--json").json["gpus"] == ["NVIDIA H200"] and "NVIDIA H200" in run("doctor").out
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "built for CUDA" in run("doctor", "--deep").out
    told = SimpleNamespace(name="NVIDIA H200", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: told)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3 * 2**30, 4 * 2**30))
    wanted = {
        "name": "NVIDIA H200",
        "memory": 4 * 2**30,
        "free": 3 * 2**30,
        "capability": "9.0",
        "graphs": True,
    }
    assert run("doctor", "--deep", "--json").json["torch"]["gpus"] == [wanted]
    shown = " ".join(run("doctor", "--deep").out.split())
    assert "capability 9.0" in shown and "as CUDA graphs" in shown
    monkeypatch.setenv("BEHOLDER_GRAPHS", "0")
    assert "BEHOLDER_GRAPHS=0" in run("doctor", "--deep").out
