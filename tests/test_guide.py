"""The examples of docs/guide.md run, with tiny checkpoints in place of the ones they name."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "guide.md"


def test_examples_run(
    oracle: Callable[[str], Path], samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(oracle("llava"), tmp_path / "tiny")
    shutil.copytree(oracle("clip"), tmp_path / "clip")
    for folder, family in (("tiny", "llava_padded"), ("clip", "clip")):
        shutil.copy(oracle(family) / "preprocessor_config.json", tmp_path / folder)
    for file in oracle("llava").glob("tokenizer*.json"):
        shutil.copy(file, tmp_path / "clip")
    shutil.copy(samples / "cat.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    code = (
        "\n".join(blocks)
        .replace('load("mini")', 'load("tiny", chat="plain")')
        .replace("path/to/clip", "clip")
    )
    names: dict[str, object] = {}
    exec(compile(code, str(GUIDE), "exec"), names)  # noqa: S102 our own guide
    assert names["reply"].usage.image > 0 and len(names["replies"]) == 2
    assert names["found"].scores.shape == (1, 2)
    assert {"my-model", "official"} <= {path.name for path in tmp_path.iterdir()}
