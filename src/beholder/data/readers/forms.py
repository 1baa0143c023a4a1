"""What a row says, in the forms people write it: LLaVA's and ShareGPT's `conversations`, OpenAI's `messages`, a question with
its answer, a picture with its caption, a text alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from beholder.data.readers.rows import Place, Record, RowError, source_of
from beholder.prompts.messages import Message, Part, Picture, Text

MARK = "<image>"
AT_MARK = re.compile(r"\n?<image>\n?")
ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
}
PICTURES = ("image", "images", "picture", "pictures", "image_path", "file_name", "image_file")
ANSWERS = ("text", "caption")
TURNS = ("conversations", "messages", "conversation")
OTHER_MEDIA = ("video", "videos", "audio", "audios")
KEYS = ("id", "key", "question_id", "image_id")
FORMS = "conversations, messages, question and answer, or a picture with text or caption"


def record_of(row: Mapping[str, Any], place: Place, root: Path, *, caption: str = "") -> Record:
    """The conversation that a row holds. root: where paths of pictures begin; caption: what is asked where a row has a caption
    and no question.

    Raises `RowError` for a row of no known form, fields of wrong types, unknown roles, and marks `<image>` that are more or
    fewer than the pictures.
    """
    row = {name: value for name, value in row.items() if value is not None}
    for name in OTHER_MEDIA:
        if row.get(name):
            raise RowError(
                place, name, "other media", "recordings are not trained on yet", "leave the row out"
            )
    given = _pictures(row, place, root)
    turns = next((name for name in TURNS if name in row), None)
    if turns is not None:
        drafts = list(_turns(row, turns, place))
    elif "question" in row and "answer" in row:
        question = [Picture()] * len(given) + _parts(_words(row, "question", place))
        drafts = [("question", "user", question), ("answer", "assistant", [_text(row, "answer", place)])]
        if MARK in row["question"]:
            drafts[0] = ("question", "user", _parts(row["question"]))
    elif answer := next((name for name in ANSWERS if name in row), None):
        asked: list[Part] = [*[Picture()] * len(given), *_parts(caption)]
        drafts = [(answer, "user", asked), (answer, "assistant", [_text(row, answer, place)])]
    else:
        found = ", ".join(map(str, row)) or "nothing"
        raise RowError(
            place, "", "unknown form", f"has {found}", f"write {FORMS}, or say which columns these are"
        )
    messages, sources, fields = _placed(drafts, given, place, root)
    key = next((str(row[name]) for name in KEYS if isinstance(row.get(name), (str, int))), str(place.number))
    return Record(messages, sources, f"{Path(place.file).name}/{key}", place, fields)


def _pictures(row: Mapping[str, Any], place: Place, root: Path) -> list[tuple[str, Any]]:
    """The pictures of a row with their fields, in order."""
    names = [name for name in PICTURES if name in row]
    if len(names) > 1:
        raise RowError(
            place,
            names[1],
            "wrong type",
            f"has both {names[0]} and {names[1]}",
            "keep the one that names the pictures",
        )
    out = []
    for name in names:
        value = row[name]
        several = isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))
        for number, item in enumerate(value if several else [value]):
            field = f"{name}[{number}]" if several else name
            out.append((field, source_of(item, place, field, root)))
    return out


Draft = tuple[str, str, list[Part]]  # field, role, parts


def _turns(row: Mapping[str, Any], name: str, place: Place) -> Iterator[Draft]:
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
        yield f"{field}.{says}", ROLES[turn[who]], _content(turn[says], place, f"{field}.{says}")


def _content(content: Any, place: Place, field: str) -> list[Part]:
    if isinstance(content, str):
        return _parts(_checked(content, place, field))
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
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text":
            parts.append(Text(_checked(part.get("text"), place, at)))
        elif kind in ("image", "image_url"):
            source = next(
                (part[name] for name in ("image", "image_url", "path", "url") if part.get(name) is not None),
                None,
            )
            parts.append(Picture(source))
        else:
            raise RowError(
                place, at, "wrong type", f"a part of type {kind!r}", "use text, image or image_url"
            )
    return parts


def _placed(
    drafts: Sequence[Draft], given: Sequence[tuple[str, Any]], place: Place, root: Path
) -> tuple[tuple[Message, ...], tuple[Any, ...], tuple[str, ...]]:
    """The messages, and the picture for each of their places: the one that stands there, else the row's next one."""
    waiting, messages, sources, fields, marks = list(given), [], [], [], 0
    for field, role, parts in drafts:
        if role == "assistant" and any(isinstance(part, Picture) for part in parts):
            raise RowError(
                place, field, "marks", f"{MARK} in an answer", "put pictures into what the user says"
            )
        for part in parts:
            if isinstance(part, Picture) and part.source is not None:
                sources.append(source_of(part.source, place, field, root))
                fields.append(field)
            elif isinstance(part, Picture):
                marks += 1
                if waiting:
                    at, source = waiting.pop(0)
                    sources.append(source)
                    fields.append(at)
        kept = (Picture() if isinstance(part, Picture) else part for part in parts)
        messages.append(Message(role, tuple(kept)))
    if marks != len(given):
        one = "1 mark" if marks == 1 else f"{marks} marks"
        raise RowError(
            place,
            given[0][0] if given else drafts[0][0],
            "marks",
            f"{one} {MARK} for {len(given)} picture{'s' * (len(given) != 1)}",
            f"write {MARK} once where each picture stands",
        )
    return tuple(messages), tuple(sources), tuple(fields)


def _parts(text: str) -> list[Part]:
    """Words and places of pictures; a line break beside a mark belongs to the mark."""
    words = AT_MARK.split(text)
    parts: list[Part] = []
    for number, word in enumerate(words):
        parts += [Picture()] if number else []
        parts += [Text(word)] if word else []
    return parts


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
