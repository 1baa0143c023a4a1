"""Writing files so that a reader sees the old content or the new, never a half."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from beholder.errors import BeholderError

REMEDIES = {
    errno.ENOSPC: "no space left; free some or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EACCES: "permission denied; choose a folder you may write to",
    errno.EPERM: "permission denied; choose a folder you may write to",
    errno.EFBIG: "larger than a file may be here; choose another folder, or raise the limit (ulimit -f)",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
}


class DiskError(BeholderError):
    """A file or folder that the system would not let us write; `remedy` is the second half of the message."""

    def __init__(self, path: Path, remedy: str) -> None:
        self.remedy = remedy
        super().__init__(f"cannot write {path}: {remedy}; nothing was changed")


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it raises.

    The old file stays as it was until the rename. Raises `DiskError` naming `path` for disk errors (no
    space, no permission); missing folders are made.
    """
    path = Path(path)
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            _sync(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Write a whole file or leave the old one as it was. Raises `DiskError` for disk errors."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_text_atomic(path: str | Path, text: str) -> None:
    """`write_bytes_atomic` of the text as UTF-8, line ends as given."""
    write_bytes_atomic(path, text.encode("utf-8"))


@contextmanager
def atomic_folder(path: str | Path, may_replace: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it when the block ends well and removed when it raises.

    An existing non-empty `path` is replaced only where `may_replace(path)` says so; else `BeholderError`
    before anything is written.
    """
    path = Path(path)
    occupied = path.exists() and (not path.is_dir() or any(path.iterdir()))
    if occupied and not (may_replace is not None and path.is_dir() and may_replace(path)):
        raise BeholderError(f"{path} exists and is not a folder that may be replaced; choose another one")
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            _swap(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _swap(new: Path, path: Path) -> None:
    """Put the folder `new` where `path` is; `path` comes back if that fails."""
    if not path.exists():
        new.replace(path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".old"))
    path.replace(old)
    try:
        new.replace(path)
    except BaseException:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Name `path`, which the user knows, rather than a temporary name within it."""
    try:
        yield
    except DiskError as error:
        raise DiskError(path, error.remedy) from error
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        raise DiskError(path, remedy) from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
