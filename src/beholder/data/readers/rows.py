"""What all readers give: rows by number, each at a place that errors name."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from beholder.data.order import Near
from beholder.errors import BeholderError
from beholder.prompts.messages import Clip, Message, Sound


class Place(NamedTuple):
    """A row of a file, counted from 1; `unit` is what the file counts (row, line, sample)."""

    file: str
    number: int
    unit: str = "row"

    def __str__(self) -> str:
        return f"{self.file} {self.unit} {self.number}"


class RowError(BeholderError):
    """A row that cannot be used: what is wrong with which field, and what to do. `kind` groups alike problems."""

    def __init__(self, place: Place, field: str, kind: str, what: str, remedy: str) -> None:
        self.place, self.field, self.kind, self.what, self.remedy = place, field, kind, what, remedy
        super().__init__(f"{place}{', ' + field if field else ''}: {what}; {remedy}")


class Rows(Protocol):
    """Rows of a file, by number. root: the folder that paths of pictures begin at."""

    root: Path

    def __len__(self) -> int: ...

    def place(self, index: int) -> Place: ...

    def row(self, index: int) -> Mapping[str, Any]:
        """The fields of a row. Raises `RowError` where it cannot be read."""
        ...

    def sizes(self) -> Any:
        """Bytes of each row as an array, as a guess of its length; None where only reading would tell."""
        ...

    @property
    def near(self) -> Near | None:
        """The shuffle that the file can be read in; None where any row is as near as the next."""
        ...


class Slice(NamedTuple):
    """`size` bytes of a file from `offset` on: a picture within a shard."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(frozen=True, eq=False)
class Record:
    """A row as a conversation whose pictures are not decoded yet. sources: paths, bytes, slices of files, arrays or Pillow
    pictures, one for each place `Picture()`, in order; fields: the field that names each. Clips and sounds have their sources
    in the messages, and names that say file, row and field.
    """

    messages: tuple[Message, ...]
    sources: tuple[Any, ...]
    key: str
    place: Place
    fields: tuple[str, ...] = ()

    @property
    def moving(self) -> list[Clip | Sound]:
        """Its clips and sounds, in order."""
        parts = (part for message in self.messages for part in message.parts)
        return [part for part in parts if isinstance(part, (Clip, Sound))]

    def field_of(self, part: Clip | Sound) -> str:
        """The field that names a clip or sound."""
        return part.name.removeprefix(f"{self.place}, ")


def source_of(value: Any, place: Place, field: str, root: Path, what: str = "picture") -> Any:
    """What stands in a row for a picture, clip or sound (`what`) as something that decoders read: a path below `root`, bytes,
    an array, samples with their rate, frames, ...

    Raises `RowError` for what is none.
    """
    if isinstance(
        value, Mapping
    ):  # a feature of Hugging Face's datasets, {"url": ...}, or OpenAI's input_audio
        if value.get("array") is not None and what == "sound":
            return _samples(value, place, field)
        if isinstance(value.get("data"), str):
            return _from_base64(value["data"], place, field, what)
        value = next((value[name] for name in ("bytes", "path", "url") if value.get(name) is not None), None)
    if isinstance(value, str):
        return _path(value, place, field, root, what)
    if isinstance(value, (list, tuple)) and not isinstance(value, Slice) and value and what == "clip":
        return [source_of(frame, place, f"{field}[{n}]", root) for n, frame in enumerate(value)]
    if isinstance(value, tuple) and len(value) == 2 and what == "sound":
        return value
    if isinstance(value, (bytes, bytearray, memoryview, Slice, Path)) or hasattr(
        value, "__array_interface__"
    ):
        return value
    got = "nothing" if value is None else f"a {type(value).__name__}"
    raise RowError(
        place, field, "wrong type", f"{got} where a {what} belongs", "give a path or the bytes of a file"
    )


def _path(text: str, place: Place, field: str, root: Path, what: str) -> Any:
    if text.startswith("data:"):
        head, _, body = text.partition(",")
        if not head.endswith(";base64"):
            raise RowError(
                place, field, "wrong type", "a data: address that is not base64", "encode it as base64"
            )
        return _from_base64(body, place, field, what)
    if "://" in text[:12]:
        raise RowError(
            place,
            field,
            "wrong type",
            f"an address ({text[:60]}), which is not fetched",
            f"save the {what} and name its file",
        )
    if not text or "\0" in text:
        raise RowError(
            place, field, "wrong type", "an empty path", f"name the {what}'s file, or leave the field out"
        )
    return root / text


def _samples(value: Mapping[str, Any], place: Place, field: str) -> tuple[np.ndarray, int]:
    """A decoded sound, as Hugging Face's Audio feature has it."""
    rate = value.get("sampling_rate")
    try:
        samples = np.asarray(value["array"], np.float32)
    except (ValueError, TypeError):
        samples = np.zeros(0, np.float32)
    if not samples.size or type(rate) is not int:
        raise RowError(
            place, field, "wrong type", "no samples, or no sampling_rate", "give numbers and a whole rate"
        )
    return samples, rate


def _from_base64(text: str, place: Place, field: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RowError(
            place, field, f"broken {what}", "base64 that cannot be decoded", "encode it again"
        ) from None


def loaded(source: Any) -> Any:
    """A source as decoders take it."""
    if isinstance(source, list):
        return [loaded(frame) for frame in source]
    return source.read() if isinstance(source, Slice) else source


def check_there(source: Any, place: Place, field: str, what: str) -> None:
    """Raises `RowError` for a path of a picture, clip or sound (`what`) where there is no file."""
    for path in source if isinstance(source, list) else [source]:
        if isinstance(path, Path) and not path.exists():
            raise RowError(
                place,
                field,
                f"missing {what}",
                f"{path} does not exist",
                f"add it, or name the {what}s' folder",
            )


def named(reader: Callable[[], Any], what: str) -> Any:
    """What `reader` gives; system errors become one line that says what could not be read."""
    try:
        return reader()
    except FileNotFoundError:
        raise BeholderError(f"{what}: no such file; check the path") from None
    except IsADirectoryError:
        raise BeholderError(f"{what}: is a folder where a file belongs; name a file in it") from None
    except PermissionError:
        raise BeholderError(f"{what}: may not be read; check its permissions") from None
    except OSError as error:
        raise BeholderError(
            f"{what}: cannot be read ({error.strerror or first_line(error)}); check the file"
        ) from None


def first_line(error: BaseException) -> str:
    """The first line of what another library says."""
    return (str(error).split("\n")[0] or type(error).__name__)[:120]
