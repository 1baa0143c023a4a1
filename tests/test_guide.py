"""The examples of docs/guide.md, backbones.md and engine.md run, with tiny checkpoints in place of the ones they name."""

from __future__ import annotations

import re
import shutil
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from beholder.pipeline import Pipeline
from tests.test_segments import glamm

__all__ = ["glamm"]

DOCS = Path(__file__).resolve().parent.parent / "docs"
GUIDE, BACKBONES, ENGINE = DOCS / "guide.md", DOCS / "backbones.md", DOCS / "engine.md"


def run_examples(page: Path, stand_ins: dict[str, str]) -> dict[str, object]:
    """The names that all examples of a page leave, one program with other paths in place of those it names."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
    for told, used in stand_ins.items():
        assert told in code, f"{page.name} no longer says {told}"
        code = code.replace(told, used)
    names: dict[str, object] = {}
    exec(compile(code, str(page), "exec"), names)  # noqa: S102 our own pages
    return names


def test_examples_run(
    oracle: Callable[[str], Path],
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    glamm: Pipeline,
) -> None:
    glamm.save(tmp_path / "glamm")
    shutil.copytree(oracle("llava"), tmp_path / "tiny")
    shutil.copytree(oracle("clip"), tmp_path / "clip")
    for folder, family in (("tiny", "llava_padded"), ("clip", "clip")):
        shutil.copy(oracle(family) / "preprocessor_config.json", tmp_path / folder)
    for file in oracle("llava").glob("tokenizer*.json"):
        shutil.copy(file, tmp_path / "clip")
    shutil.copy(samples / "cat.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names = run_examples(
        GUIDE,
        {'load("mini")': 'load("tiny", chat="plain")', "path/to/clip": "clip", "path/to/glamm": "glamm"},
    )
    assert names["reply"].usage.image > 0 and len(names["replies"]) == 2
    assert names["found"].scores.shape == (1, 2)
    assert {"my-model", "official"} <= {path.name for path in tmp_path.iterdir()}


def test_examples_of_the_engine_run(
    oracle: Callable[[str], Path], samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(oracle("llava"), tmp_path / "tiny")
    shutil.copy(oracle("llava_padded") / "preprocessor_config.json", tmp_path / "tiny")
    shutil.copy(samples / "cat.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names = run_examples(ENGINE, {'load("mini"': 'load("tiny", chat="plain"'})
    assert [answer.done for answer in names["answers"]] == [True, True]
    assert names["reply"].usage.new > 0
    assert names["model"].ask("photo.jpg", "What is this?", max_tokens=4).usage.pictures_reused == 0
    assert names["model"].ask("photo.jpg", "And this?", max_tokens=4).usage.pictures_reused == 1


def test_examples_of_backbones_run(
    oracle: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, family in (("writer", "llama"), ("MiniLM", "bert"), ("whisper", "whisper")):
        shutil.copytree(oracle(family), tmp_path / name)
        shutil.copy(oracle("llava") / "tokenizer.json", tmp_path / name)
    (tmp_path / "MiniLM" / "1_Pooling").mkdir()
    (tmp_path / "MiniLM" / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.random.default_rng(0).integers(-9999, 9999, 4000, dtype="<i2").tobytes())
    monkeypatch.chdir(tmp_path)
    paths = {
        "path/to/language-model": "writer",
        "path/to/MiniLM": "MiniLM",
        "path/to/llava": str(oracle("llava")),
        "path/to/whisper": "whisper",
        "path/to/encodec": str(oracle("encodec_plain")),
        "[[50257, 50362]]": "[[300, 301]]",
        "eos_ids=[50256]": "eos_ids=[2]",
        "branches[0].front ": "branches[0].front.but(seconds=0.4) ",
    }
    names = run_examples(BACKBONES, paths)
    assert names["size"].key.startswith("vision.sizes") and sum(1 for _ in names["model"].parameters()) > 200
    assert names["runs"].card.main == names["variant"].tiny().main
    np.testing.assert_allclose(np.linalg.norm(names["vectors"], axis=1), 1, rtol=1e-5)
    assert len(names["features"].tokens_ND) == sum(grid.num_tokens for grid in names["features"].grids)
    assert names["restored"][0].shape == (1, 1, 2400)
