"""Messages made of typed parts. A picture is a part of its own, so no text can stand for one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Box
from beholder.media.regions import Point, Region

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Text:
    """Words. Whatever they spell, they stay words."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise BeholderError(f"text is a {type(self.text).__name__}; give a str")
        try:
            self.text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BeholderError(
                f"text holds half a surrogate pair at character {error.start}, which is no text; remove it"
            ) from None


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture: a path, bytes, array or PIL image; None where the pictures are given apart, in order."""

    source: Any = None


@dataclass(frozen=True, eq=False)
class Still(Picture):
    """One frame of a recording among pictures; label and end, which the card says, stand before and behind it. seconds: when it
    is shown; only: branches that look at it, all where ().
    """

    label: str = ""
    end: str = ""
    seconds: float = 0.0
    only: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording with pictures: a path, bytes, an array (T, H, W, 3) or a list of pictures; None where it is given apart.
    name: what errors call it.
    """

    source: Any = None
    name: str = ""


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound: a path, bytes, samples (S,) at the rate that is heard, or (samples, rate); None where it is given apart. name:
    what errors call it.
    """

    source: Any = None
    name: str = ""


@dataclass(frozen=True)
class Regions:
    """Boxes, points and masks (H, W), each a region, in original pixels of the conversation's picture number `picture`, counted
    from 0. counts: tokens of each region's features in the prompt, 1 each where (); a pipeline fills them in.
    """

    boxes: tuple[Box, ...] = ()
    picture: int = 0
    points: tuple[Point, ...] = ()
    masks: tuple[np.ndarray, ...] = field(default=(), compare=False)
    counts: tuple[int, ...] = ()

    @property
    def each(self) -> tuple[Region, ...]:
        """The regions, in the order of their kinds."""
        return (
            *(Region(box=box, picture=self.picture) for box in self.boxes),
            *(Region(points=(point,), picture=self.picture) for point in self.points),
            *(Region(mask=mask, picture=self.picture) for mask in self.masks),
        )


Part = Text | Picture | Clip | Sound | Regions


@dataclass(frozen=True)
class Message:
    """What one role (system, user or assistant) says."""

    role: str
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise UnknownName("role", str(self.role), ROLES)
        for i, part in enumerate(self.parts, 1):
            if not isinstance(part, Part):
                raise BeholderError(
                    f"{self.role} message, part {i}: a {type(part).__name__} is no part of a message; "
                    "give Text, Picture, Clip, Sound or Regions"
                )

    @property
    def sounds(self) -> tuple[Sound, ...]:
        """The sounds of this message, in order."""
        return tuple(part for part in self.parts if isinstance(part, Sound))

    @property
    def pictures(self) -> tuple[Picture | Clip, ...]:
        """The pictures and recordings of this message, in order."""
        return tuple(part for part in self.parts if isinstance(part, (Picture, Clip)))


def system(*parts: str | Part) -> Message:
    """A system message; strings become `Text`."""
    return Message("system", _typed(parts))


def user(*parts: str | Part) -> Message:
    """A user message; strings become `Text`: `user(Picture("cat.jpg"), "What is this?")`."""
    return Message("user", _typed(parts))


def assistant(*parts: str | Part) -> Message:
    """An assistant message; strings become `Text`."""
    return Message("assistant", _typed(parts))


def pictures_of(messages: Iterable[Message]) -> list[Picture | Clip]:
    """The pictures and recordings of a conversation, in order."""
    return [picture for message in messages for picture in message.pictures]


def sounds_of(messages: Iterable[Message]) -> list[Sound]:
    """The sounds of a conversation, in order."""
    return [sound for message in messages for sound in message.sounds]


def filled(
    messages: Iterable[Message], kind: type[Picture | Clip | Sound], sources: Iterable[Any]
) -> tuple[Message, ...]:
    """The messages with one source for each part of a kind, in order."""
    left = iter(sources)
    return tuple(
        replace(
            message,
            parts=tuple(
                replace(part, source=next(left)) if isinstance(part, kind) else part for part in message.parts
            ),
        )
        for message in messages
    )


def regions_of(messages: Iterable[Message]) -> tuple[Region, ...]:
    """The regions that a conversation speaks of, in order."""
    parts = (part for message in messages for part in message.parts if isinstance(part, Regions))
    return tuple(region for part in parts for region in part.each)


def parse(messages: Sequence[Message | Mapping[str, Any]]) -> list[Message]:
    """Messages from the common form: `{"role": "user", "content": "..."}`, where content may also be a list
    of strings and of parts such as `{"type": "text", "text": ...}`, `{"type": "image", "image": source}` and
    `{"type": "image_url", "image_url": {"url": ...}}`. `Message` objects pass through.

    Raises `BeholderError` that names the message and the part, both counted from 1.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise BeholderError(f"messages: expected a list, got a {type(messages).__name__}")
    return [_message(message, f"message {i}") for i, message in enumerate(messages, 1)]


def _typed(parts: Iterable[str | Part]) -> tuple[Part, ...]:
    return tuple(Text(part) if isinstance(part, str) else part for part in parts)


def _message(data: Message | Mapping[str, Any], at: str) -> Message:
    if isinstance(data, Message):
        return data
    if not isinstance(data, Mapping):
        raise BeholderError(f"{at}: expected an object with role and content, got a {type(data).__name__}")
    for key in ("role", "content"):
        if key not in data:
            raise BeholderError(f"{at}: has no {key!r}")
    for key in data:
        if key not in ("role", "content"):
            raise UnknownName(f"field of {at}", str(key), ("role", "content"))
    if data["role"] not in ROLES:
        raise UnknownName(f"role of {at}", str(data["role"]), ROLES)
    content = data["content"]
    if isinstance(content, str):
        content = [content]
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise BeholderError(f"{at}: content is a {type(content).__name__}; give a str or a list of parts")
    return Message(data["role"], tuple(_part(part, f"{at}, part {i}") for i, part in enumerate(content, 1)))


def _part(data: Any, at: str) -> Part:
    if isinstance(data, Part):
        return data
    if isinstance(data, str):
        return _text(data, at)
    if not isinstance(data, Mapping) or not isinstance(data.get("type"), str):
        raise BeholderError(f"{at}: expected a str or an object with a 'type', got {type(data).__name__}")
    if data["type"] not in _READERS:
        raise UnknownName(f"type of {at}", data["type"], _READERS)
    return _READERS[data["type"]](data, at)


def _text(value: Any, at: str) -> Text:
    try:
        return Text(value)
    except BeholderError as error:
        raise BeholderError(f"{at}: {error}") from None


def _text_part(data: Mapping[str, Any], at: str) -> Text:
    _check_keys(data, ("text",), at)
    return _text(data.get("text"), at)


def _url_part(data: Mapping[str, Any], at: str) -> Picture:
    _check_keys(data, ("image_url",), at)
    url = data.get("image_url")
    if isinstance(url, Mapping):
        url = url.get("url")
    if not isinstance(url, str):
        raise BeholderError(f"{at}: an image_url part needs image_url.url")
    return Picture(url)


def _media_part(part: type[Picture | Clip | Sound], key: str) -> Callable[[Mapping[str, Any], str], Part]:
    """A reader of parts whose source stands under `key`, "path" or "url", or is given apart."""
    keys = (key, "path", "url")

    def read(data: Mapping[str, Any], at: str) -> Part:
        _check_keys(data, keys, at)
        given = [key for key in keys if key in data]
        if len(given) > 1:
            raise BeholderError(f"{at}: has both {given[0]!r} and {given[1]!r}; give one")
        return part(data[given[0]] if given else None)

    return read


_READERS: dict[str, Callable[[Mapping[str, Any], str], Part]] = {
    "text": _text_part,
    "image_url": _url_part,
    "image": _media_part(Picture, "image"),
    "video": _media_part(Clip, "video"),
    "audio": _media_part(Sound, "audio"),
}


def _check_keys(data: Mapping[str, Any], keys: Sequence[str], at: str) -> None:
    for key in data:
        if key not in ("type", *keys):
            raise UnknownName(f"field of {at}", str(key), keys)
