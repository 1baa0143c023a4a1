"""The library belongs to its sources, and nothing breaks where there is none."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest

from beholder.errors import BeholderError
from beholder.native import build, library
from beholder.native.decoder import NativeDecoder, why_not
from tests.native.toys import PLAIN, made


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sources in a folder of their own."""
    for path in build.sources():
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    return tmp_path


def test_name_follows_the_sources(copy: Path) -> None:
    before = build.library()
    (copy / "step.cpp").write_text((copy / "step.cpp").read_text() + "// changed\n")
    assert build.library() != before and build.library().parent == copy


def test_without_compiler(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(build.BuildError, match="none of no-such-compiler is installed"):
        build.build()
    assert build.main() == 1


def test_sources_that_do_not_compile(copy: Path) -> None:
    try:
        build.compiler()
    except build.BuildError as error:
        pytest.skip(str(error))
    (copy / "step.cpp").write_text("this is no C++\n")
    with pytest.raises(build.BuildError, match="failed: .*error"):
        build.build()
    assert not list(copy.glob("*.so"))


def test_library_that_is_missing_or_off(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(PLAIN)
    assert why_not(model) == "compiled kernels are not built; run python -m beholder.native.build"
    with pytest.raises(BeholderError, match=r"toy-native: compiled kernels are not built"):
        NativeDecoder.of(model)
    build.library().write_bytes(b"no library")
    assert (why_not(model) or "").startswith("compiled kernels do not load: ")
    monkeypatch.setenv(library.OFF, "0")
    assert library.describe() == (None, "no: compiled kernels are turned off by BEHOLDER_NATIVE=0")


def test_structures_are_as_large_as_in_c() -> None:
    """Pointers and integers as `abi.h` has them, without gaps."""
    matrix, layer = 3 * 8 + 4 * 4, 4 * 40 + 5 * 8
    assert ctypes.sizeof(library.Matrix) == matrix and ctypes.sizeof(library.Layer) == layer
    assert ctypes.sizeof(library.Decoder) == 5 * 8 + matrix + 13 * 4 + 4
    assert ctypes.sizeof(library.Step) == 11 * 8
