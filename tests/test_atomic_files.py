"""Writing whole or not at all: errors leave the old file or folder and no temporary one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from beholder.errors import BeholderError
from beholder.files import DiskError, atomic_file, atomic_folder, write_bytes_atomic, write_text_atomic


def test_writes_text_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text_atomic(path, "grüß\n")
    assert path.read_bytes() == "grüß\n".encode()
    write_bytes_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]
    assert path.stat().st_mode & 0o044, "readable by others where the umask allows it"


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "no space left; free some"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_a_disk_error_names_the_file_and_leaves_it(tmp_path, monkeypatch, code, remedy):
    path = tmp_path / "b.txt"
    path.write_bytes(b"old")

    def write_bytes(self, data):
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(code, "x")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(DiskError, match=remedy) as error:
        write_bytes_atomic(path, b"new")
    assert str(path) in str(error.value)
    assert ".part" not in str(error.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_the_old_file(tmp_path):
    path = tmp_path / "b.txt"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "a").write_text("x")
    with pytest.raises(BeholderError, match="cannot write"):
        write_text_atomic(tmp_path / "a" / "b.txt", "y")


def test_folder_replaces_only_what_it_may(tmp_path):
    path = tmp_path / "out"
    with atomic_folder(path) as temporary:
        (temporary / "one").write_text("1")
    with pytest.raises(BeholderError, match="may be replaced"), atomic_folder(path):
        pytest.fail("the block must not run")
    with atomic_folder(path, lambda folder: (folder / "one").exists()) as temporary:
        (temporary / "two").write_text("2")
    assert [p.name for p in path.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [path]


def test_folder_comes_back_when_the_rename_fails(tmp_path, monkeypatch):
    path = tmp_path / "out"
    path.mkdir()
    (path / "one").write_text("1")
    rename = Path.replace

    def replace(self, target):
        if self.name.endswith(".part"):
            raise OSError(errno.ENOSPC, "x")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(DiskError, match="no space"), atomic_folder(path, lambda folder: True) as temporary:
        (temporary / "two").write_text("2")
    assert [p.name for p in path.iterdir()] == ["one"]
    assert list(tmp_path.iterdir()) == [path]
