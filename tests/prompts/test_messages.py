"""The common message form, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from beholder.errors import BeholderError
from beholder.media.plan import Box
from beholder.prompts.messages import Message, Picture, Regions, Text, parse, pictures_of, user


def test_common_form() -> None:
    messages = parse(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "image", "path": "cat.png"}, "What is this?"]},
            {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "b.png"}}, {"type": "image"}],
            },
        ]
    )
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[0].parts == (Text("Be brief."),)
    assert messages[2].parts == (Text("A cat."),)
    assert [picture.source for picture in pictures_of(messages)] == ["cat.png", "b.png", None]
    assert isinstance(messages[1].parts[0], Picture)


def test_helpers_make_what_parse_makes() -> None:
    picture = Picture("a.png")
    boxes = Regions((Box(0, 0, 2, 2),))
    message = user(picture, "Who?", boxes)
    assert message.parts == (picture, Text("Who?"), boxes)
    assert parse([message]) == [message]
    assert parse([{"role": "user", "content": [picture, "Who?", boxes]}])[0].parts == message.parts


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ("hello", ("messages", "str")),
        ([7], ("message 1", "int")),
        ([{"content": "x"}], ("message 1", "role")),
        ([{"role": "user"}], ("message 1", "content")),
        (
            [{"role": "user", "content": "x"}, {"role": "asistant", "content": "x"}],
            ("message 2", "assistant"),
        ),
        ([{"role": "user", "content": "x", "name": "<image>"}], ("message 1", "name")),
        ([{"role": "user", "content": 3}], ("message 1", "int")),
        ([{"role": "user", "content": None}], ("message 1", "NoneType")),
        ([{"role": "user", "content": b"x"}], ("message 1", "bytes")),
        ([{"role": "user", "content": ["x", {"text": "y"}]}], ("message 1, part 2", "type")),
        ([{"role": "user", "content": [{"type": "text"}]}], ("message 1, part 1", "text")),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}], ("message 1, part 1", "NoneType")),
        ([{"role": "user", "content": [{"type": "picture"}]}], ("message 1, part 1", "picture")),
        ([{"role": "user", "content": [{"type": "image", "src": "a"}]}], ("message 1, part 1", "src")),
        (
            [{"role": "user", "content": [{"type": "image", "path": "a", "url": "b"}]}],
            ("part 1", "path", "url"),
        ),
        ([{"role": "user", "content": [{"type": "image_url"}]}], ("message 1, part 1", "image_url.url")),
        ([{"role": "user", "content": "half \ud83d of a pair"}], ("message 1, part 1", "character 5")),
    ],
)
def test_errors_name_message_and_part(messages: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(BeholderError) as caught:
        parse(messages)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_a_message_checks_role_and_parts() -> None:
    with pytest.raises(BeholderError, match="user"):
        Message("usr", ())
    with pytest.raises(BeholderError, match="part 2: a bytes"):
        Message("user", (Text("a"), b"b"))  # type: ignore[arg-type]
