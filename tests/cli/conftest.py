"""Running the command line inside the test's process, and broken things to give it."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image


class Ran(NamedTuple):
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    def assert_refused(self, *words: str) -> None:
        """Exit code 2, nothing on stdout, and one line on stderr with the words."""
        assert (self.code, self.out) == (2, ""), self
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), self.err
        assert "Traceback" not in self.err
        for word in words:
            assert word in lines[0], f"{word!r} is not in {lines[0]!r}"


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("list", "--json")` is the command's `Ran`."""
    from beholder.cli import main

    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*words: object) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def cat(samples: Path) -> Path:
    """A real picture."""
    return samples / "cat.jpg"


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Length, kind, data and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.fixture
def bad_pictures(tmp_path: Path, cat: Path) -> dict[str, Path]:
    """Pictures that cannot be used, by what is wrong with them."""
    folder = tmp_path / "bad"
    folder.mkdir()
    text = folder / "text.png"
    text.write_text("no picture")
    whole, half = folder / "whole.png", folder / "half.png"
    Image.open(cat).save(whole)
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    bomb = folder / "bomb.png"
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 100)))
    empty = folder / "empty.jpg"
    empty.touch()
    return {
        "text": text,
        "half": half,
        "bomb": bomb,
        "empty": empty,
        "missing": folder / "missing.png",
        "folder": folder,
    }
