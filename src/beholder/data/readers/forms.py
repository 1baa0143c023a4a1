"""What a row says, in the forms people write it: LLaVA's and ShareGPT's `conversations`, OpenAI's `messages`, a question with
its answer, a picture, clip or sound with its caption, a text alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from beholder.data.readers.rows import Place, Record, RowError, source_of
from beholder.prompts.messages import Clip, Message, Part, Picture, Sound, Text

Kind = type[Picture | Clip | Sound]


class Medium(NamedTuple):
    """How rows speak of pictures, clips or sounds: the mark where one stands, what errors call it, the fields of a row that
    name them, and the types and fields of a content's parts.
    """

    mark: str
    what: str
    fields: tuple[str, ...]
    types: tuple[str, ...]


PICTURE = ("image", "images", "picture", "pictures", "image_path", "file_name", "image_file")
MEDIA: dict[Kind, Medium] = {
    Picture: Medium("<image>", "picture", PICTURE, ("image", "image_url")),
    Clip: Medium("<video>", "clip", ("video", "videos", "video_path"), ("video", "video_url")),
    Sound: Medium(
        "<audio>", "sound", ("audio", "audios", "audio_path"), ("audio", "audio_url", "input_audio")
    ),
}
MARKS: dict[str, Kind] = {medium.mark: kind for kind, medium in MEDIA.items()}
IMAGE = "<image>"
AT_MARK = re.compile(rf"\n?({'|'.join(MARKS)})\n?")
ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
}
ANSWERS = ("text", "caption")
TURNS = ("conversations", "messages", "conversation")
KEYS = ("id", "key", "question_id", "image_id")
FORMS = "conversations, messages, question and answer, or a picture, clip or sound with text or caption"
Given = dict[Kind, list[tuple[str, Any]]]  # of each kind (field, source)


def record_of(row: Mapping[str, Any], place: Place, root: Path, *, caption: str = "") -> Record:
    """The conversation that a row holds. root: where paths of pictures, clips and sounds begin; caption: what is asked where a
    row has a caption and no question.

    Raises `RowError` for a row of no known form, fields of wrong types, unknown roles, and marks `<image>`, `<video>` and
    `<audio>` that are more or fewer than what they stand for. In a row that has clips and no pictures `<image>` stands for a
    clip, as in LLaVA-Video's files.
    """
    row = {name: value for name, value in row.items() if value is not None}
    given: Given = {kind: _given(row, medium, place, root) for kind, medium in MEDIA.items()}
    marks = MARKS | ({IMAGE: Clip} if given[Clip] and not given[Picture] else {})
    turns = next((name for name in TURNS if name in row), None)
    if turns is not None:
        drafts = list(_turns(row, turns, place, marks))
    elif "question" in row and "answer" in row:
        asked = _led(_parts(_words(row, "question", place), marks), given)
        drafts = [("question", "user", asked), ("answer", "assistant", [_text(row, "answer", place)])]
    elif answer := next((name for name in ANSWERS if name in row), None):
        asked = _led(_parts(caption, marks), given)
        drafts = [(answer, "user", asked), (answer, "assistant", [_text(row, answer, place)])]
    else:
        found = ", ".join(map(str, row)) or "nothing"
        raise RowError(
            place, "", "unknown form", f"has {found}", f"write {FORMS}, or say which columns these are"
        )
    messages, sources, fields = _placed(drafts, given, place, root)
    key = next((str(row[name]) for name in KEYS if isinstance(row.get(name), (str, int))), str(place.number))
    return Record(messages, sources, f"{Path(place.file).name}/{key}", place, fields)


def _given(row: Mapping[str, Any], medium: Medium, place: Place, root: Path) -> list[tuple[str, Any]]:
    """The pictures, clips or sounds of a row with their fields, in order."""
    moving = medium.mark != IMAGE
    names = [
        name
        for name in medium.fields
        if name in row and not (moving and isinstance(row[name], (str, bool, list)) and not row[name])
    ]
    if len(names) > 1:
        raise RowError(
            place,
            names[1],
            "wrong type",
            f"has both {names[0]} and {names[1]}",
            f"keep the one that names the {medium.what}s",
        )
    out = []
    for name in names:
        value = row[name]
        several = isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, tuple))
        for number, item in enumerate(value if several else [value]):
            field = f"{name}[{number}]" if several else name
            out.append((field, source_of(item, place, field, root, medium.what)))
    return out


def _led(parts: list[Part], given: Given) -> list[Part]:
    """A question with places in front for what it has no marks for."""
    return [
        *(kind() for kind, own in given.items() if not any(isinstance(p, kind) for p in parts) for _ in own),
        *parts,
    ]


Draft = tuple[str, str, list[Part]]  # field, role, parts


def _turns(row: Mapping[str, Any], name: str, place: Place, marks: Mapping[str, Kind]) -> Iterator[Draft]:
    turns = row[name]
    if not isinstance(turns, Sequence) or isinstance(turns, (str, bytes)):
        raise RowError(
            place, name, "wrong type", f"a {type(turns).__name__}, not a list of turns", "write [...]"
        )
    if not turns:
        raise RowError(
            place, name, "no answer", "has no turns", "write a question and an answer, or leave the row out"
        )
    if isinstance(row.get("system"), str) and row["system"]:
        yield "system", "system", [_text(row, "system", place)]
    for number, turn in enumerate(turns):
        field = f"{name}[{number}]"
        if not isinstance(turn, Mapping):
            raise RowError(
                place, field, "wrong type", f"a {type(turn).__name__}, not an object", "write {...}"
            )
        who, says = ("from", "value") if "from" in turn else ("role", "content")
        for part in (who, says):
            if part not in turn:
                raise RowError(
                    place,
                    field,
                    "wrong type",
                    f"has no {part!r}",
                    "write from and value, or role and content",
                )
        if not isinstance(turn[who], str) or turn[who] not in ROLES:
            known = ", ".join(ROLES)
            raise RowError(
                place, f"{field}.{who}", "unknown role", f"{turn[who]!r} is no role", f"use one of {known}"
            )
        role, at = ROLES[turn[who]], f"{field}.{says}"
        own = marks if role == "user" else {IMAGE: Picture}  # elsewhere tags of HTML are words
        yield at, role, _content(turn[says], place, at, own)


def _content(content: Any, place: Place, field: str, marks: Mapping[str, Kind]) -> list[Part]:
    if isinstance(content, str):
        return _parts(_checked(content, place, field), marks)
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise RowError(
            place,
            field,
            "wrong type",
            f"a {type(content).__name__}, not a text",
            "write a text or a list of parts",
        )
    parts: list[Part] = []
    for number, part in enumerate(content):
        at = f"{field}[{number}]"
        if isinstance(part, str):
            part = {"type": "text", "text": part}
        named = part.get("type") if isinstance(part, Mapping) else None
        kind = next((kind for kind, medium in MEDIA.items() if named in medium.types), None)
        if named == "text":
            parts.append(Text(_checked(part.get("text"), place, at)))
        elif kind is not None:
            keys = (*MEDIA[kind].types, "path", "url")
            parts.append(kind(next((part[key] for key in keys if part.get(key) is not None), None)))
        else:
            known = ", ".join(name for medium in MEDIA.values() for name in medium.types)
            raise RowError(place, at, "wrong type", f"a part of type {named!r}", f"use text, {known}")
    return parts


def _placed(
    drafts: Sequence[Draft], given: Given, place: Place, root: Path
) -> tuple[tuple[Message, ...], tuple[Any, ...], tuple[str, ...]]:
    """The messages, and what stands at each of their places, which is the source of clips and sounds and given apart of
    pictures: the one that is written there, else the row's next one.
    """
    places, messages, sources, fields = _Places(given, place, root), [], [], []
    for field, role, parts in drafts:
        kept: list[Part] = []
        for part in parts:
            kind = next((kind for kind in MEDIA if isinstance(part, kind)), None)
            if kind is None or not isinstance(part, (Picture, Clip, Sound)):
                kept.append(part)
                continue
            if role == "assistant":
                medium = MEDIA[kind]
                what = f"{medium.mark} in an answer"
                raise RowError(place, field, "marks", what, f"put {medium.what}s into what the user says")
            at, source = places.next(kind, part.source, field)
            if isinstance(part, Picture):
                sources.append(source)
                fields.append(at)
                kept.append(Picture())
            else:
                kept.append(replace(part, source=source, name=f"{place}, {at}"))
        messages.append(Message(role, tuple(kept)))
    places.check(drafts[0][0])
    return tuple(messages), tuple(sources), tuple(fields)


class _Places:
    """What a row's places hold. Marks beyond what is given are counted, and told by `check`."""

    def __init__(self, given: Given, place: Place, root: Path) -> None:
        self.given, self.place, self.root = given, place, root
        self.marks = dict.fromkeys(given, 0)

    def next(self, kind: Kind, source: Any, field: str) -> tuple[str, Any]:
        """The field and source of a place, where a source may be written."""
        if source is not None:
            return field, source_of(source, self.place, field, self.root, MEDIA[kind].what)
        self.marks[kind] += 1
        own = self.given[kind]
        return own[self.marks[kind] - 1] if self.marks[kind] <= len(own) else (field, None)

    def check(self, first: str) -> None:
        """Raises `RowError` where marks are more or fewer than what is given. first: the field of the first message."""
        for kind, own in self.given.items():
            marks, medium = self.marks[kind], MEDIA[kind]
            if marks == len(own):
                continue
            one = "1 mark" if marks == 1 else f"{marks} marks"
            word = "" if own else ", and a tag that is a word in a part of type text"
            raise RowError(
                self.place,
                own[0][0] if own else first,
                "marks",
                f"{one} {medium.mark} for {len(own)} {medium.what}{'s' * (len(own) != 1)}",
                f"write {medium.mark} once where each {medium.what} stands{word}",
            )


def _parts(text: str, marks: Mapping[str, Kind]) -> list[Part]:
    """Words and places; a line break beside a mark belongs to the mark."""
    parts: list[Part] = []
    at = 0
    for match in AT_MARK.finditer(text):
        if match[1] in marks:
            parts += [Text(text[at : match.start()])] if match.start() > at else []
            parts.append(marks[match[1]]())
            at = match.end()
    return [*parts, Text(text[at:])] if text[at:] else parts


def _words(row: Mapping[str, Any], field: str, place: Place) -> str:
    return _checked(row[field], place, field)


def _text(row: Mapping[str, Any], field: str, place: Place) -> Text:
    return Text(_words(row, field, place))


def _checked(text: Any, place: Place, field: str) -> str:
    if not isinstance(text, str):
        raise RowError(
            place, field, "wrong type", f"a {type(text).__name__}, not a text", "write it in quotes"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowError(
            place, field, "not UTF-8", "holds half a surrogate pair, which is no text", "remove it"
        ) from None
    return text
