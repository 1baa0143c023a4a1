"""Chat formats as data, and messages rendered to ids under a media plan.

Strings of a format are trusted: they may spell control tokens, and `{bos}` and `{eos}` stand for the
tokenizer's own. Text of messages is not. Runs of both are joined before encoding, so that tokens are cut as on the
whole string.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from beholder.config import Config
from beholder.errors import BeholderError
from beholder.media.plan import Features, PicturePlan, Tag
from beholder.prompts.coordinates import Coordinates
from beholder.prompts.messages import (
    Clip,
    Message,
    Picture,
    Regions,
    Sound,
    Still,
    Text,
    pictures_of,
    sounds_of,
)
from beholder.prompts.tokenizer import Control, Tokenizer


@dataclass(frozen=True)
class Turn(Config):
    """What stands around the words of one role. thought: around what it thinks before it answers; shown: around the answer
    behind that.
    """

    prefix: str = ""
    suffix: str = ""
    thought: tuple[str, str] | None = None
    shown: tuple[str, str] | None = None

    @property
    def marks(self) -> tuple[str, ...]:
        """What stands around thoughts and answers."""
        return (*(self.thought or ()), *(self.shown or ()))

    def parted(self, text: str) -> tuple[str, str]:
        """What an answer says that was thought, and the rest; all of it is thought where it broke off before the end."""
        if self.thought is None:
            return "", text
        start, end = self.thought
        before, ended, rest = text.partition(end)
        if not ended:
            before, rest = ("", text) if start not in text else (text, "")
        for mark in self.shown or ():
            rest = rest.replace(mark, "")
        return before.partition(start)[2] if start in before else before, rest


@dataclass(frozen=True)
class ChatFormat(Config):
    """How a conversation is written for one family of models.

    start:          before everything
    wrapped:        the tokenizer's own beginning and end tokens are put around the whole
    system:         what stands around the system message; None: the format has no place for one
    user:           what stands around a user's words
    assistant:      what stands around an answer
    default_system: system message of conversations that have none
    system_place:   `turn`: a turn of its own; `first-user`: inside the first user turn
    generation:     after the last user turn, where the answer begins
    text:           before a message that begins with text, and after each text part
    image_place:    `inline`: where the message has it; `first`: before its text; `last`: behind it; `front`: before all of its
                    turn; `none`: takes no pictures
    image_prefix:   before each picture, {n} in it being the picture's number from 1, {i} from 0
    image_suffix:   after each picture
    video:          around each recording that is read as one; None: as around pictures
    image_token:    its id marks feature positions; any other id serves where the tokenizer lacks it
    strip:          white space at both ends of a message is dropped
    alternate:      roles must alternate, beginning with the user
    stops:          strings that end an answer, besides the tokenizer's end tokens
    boxes:          how boxes are written
    sounds:         what stands around each sound, {n} being its number from 1; None: takes no sounds
    """

    name: str
    start: str = ""
    wrapped: bool = False
    system: Turn | None = Turn()
    user: Turn = Turn()
    assistant: Turn = Turn()
    default_system: str | None = None
    system_place: Literal["turn", "first-user"] = "turn"
    generation: str = ""
    text: tuple[str, str] = ("", "")
    image_place: Literal["inline", "first", "last", "front", "none"] = "inline"
    image_prefix: str = ""
    image_suffix: str = ""
    video: tuple[str, str] | None = None
    image_token: str = "<image>"
    strip: bool = False
    alternate: bool = False
    stops: tuple[str, ...] = ()
    boxes: Coordinates | None = None
    sounds: Turn | None = None


class PromptSpan(NamedTuple):
    """Positions [start, stop) hold feature tokens of picture number `picture`, counted from 0; the first of them
    is the picture's feature number `offset`, counted through all its `Features` pieces.
    """

    start: int
    stop: int
    picture: int
    offset: int


@dataclass(frozen=True)
class Prompt:
    """Ids ready for a model.

    ids:      one per position; those inside spans are markers
    spans:    where the pictures' features go, in order
    sounds:   where those of the sounds go, whose numbers are counted apart
    answer:   per position, whether the assistant is to write it (its words and what ends them): what a loss counts
    stops:    strings that end the answer
    stop_ids: ids that end it
    """

    ids: tuple[int, ...]
    spans: tuple[PromptSpan, ...]
    answer: tuple[bool, ...]
    stops: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    sounds: tuple[PromptSpan, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


def complete(*parts: str | Text | Picture) -> list[Message]:
    """Text and pictures for a base model to go on from; render with `formats.PLAIN`."""
    return [Message("user", tuple(Text(part) if isinstance(part, str) else part for part in parts))]


def render(
    messages: Sequence[Message],
    chat: ChatFormat,
    tokenizer: Tokenizer,
    plans: Sequence[PicturePlan] = (),
    sounds: Sequence[PicturePlan] = (),
    *,
    generate: bool = True,
) -> Prompt:
    """The ids of a conversation. `plans` holds one plan for each picture, in order, `sounds` one for each sound. With
    `generate` the prompt ends where the assistant is to answer; without, the conversation is complete, as in training.

    Raises `BeholderError` for pictures and plans that do not match, and for what the format has no place for.
    """
    _check(messages, chat, plans, sounds, generate=generate)
    draft = _Draft(tokenizer, _marker(chat, tokenizer))
    if chat.wrapped:
        draft.put(tokenizer.prefix_ids)
    draft.trusted(chat.start)
    messages = list(messages)
    opening = messages.pop(0).parts if messages and messages[0].role == "system" else None
    if opening is None and chat.default_system is not None:
        opening = (Text(chat.default_system),)
    if opening is not None and chat.system_place == "turn":
        _system(draft, opening, chat)
        opening = None
    for message in messages:
        if message.role == "assistant":
            _answer(draft, message, chat, plans)
            continue
        if chat.image_place == "front":
            _pictures(draft, message, chat, plans)
            for _ in message.sounds:
                _sound(draft, chat, sounds)
        draft.trusted(chat.user.prefix)
        if opening is not None:
            _system(draft, opening, chat)
        _body(draft, message, chat, plans, sounds, follows=opening is not None)
        draft.trusted(chat.user.suffix)
        opening = None
    if generate:
        draft.trusted(chat.generation)
    if chat.wrapped:
        draft.put(tokenizer.suffix_ids)
    stops, stop_ids = _stops(chat, tokenizer)
    draft.flush()
    return Prompt(
        tuple(draft.ids), tuple(draft.spans), tuple(draft.answer), stops, stop_ids, tuple(draft.heard)
    )


@dataclass
class _Draft:
    """A prompt in the making: ids so far, and a run of text that is not encoded yet."""

    tokenizer: Tokenizer
    marker: int
    ids: list[int] = field(default_factory=list)
    answer: list[bool] = field(default_factory=list)
    spans: list[PromptSpan] = field(default_factory=list)
    heard: list[PromptSpan] = field(default_factory=list)
    run: list[tuple[str, bool]] = field(default_factory=list)
    first: bool = True  # nothing but text stands before the run
    strip_next: bool = False
    pictures: int = 0
    sounds: int = 0

    def text(self, text: str, *, answer: bool = False) -> None:
        self.run.append((text, answer))

    def put(self, ids: Sequence[int], *, answer: bool = False) -> None:
        self.flush()
        self.ids += ids
        self.answer += [answer] * len(ids)

    def control(self, control: Control, *, answer: bool = False) -> None:
        self.flush(strip_end=control.strips_left)
        self.put([control.id], answer=answer)
        self.first, self.strip_next = False, control.strips_right

    def trusted(self, text: str) -> None:
        for piece in self.pieces(text):
            if isinstance(piece, Control):
                self.control(piece)
            else:
                self.text(piece)

    def written(self, text: str) -> None:
        """Trusted text that the assistant writes itself, up to and including the first control token."""
        answer = True
        for piece in self.pieces(text):
            if isinstance(piece, Control):
                self.control(piece, answer=answer)
                answer = False
            else:
                self.text(piece, answer=answer)

    def said(self, text: str) -> None:
        """Trusted text that the assistant writes itself, all its control tokens too."""
        for piece in self.pieces(text):
            if isinstance(piece, Control):
                self.control(piece, answer=True)
            else:
                self.text(piece, answer=True)

    def picture(self, plan: PicturePlan) -> None:
        self.planned(plan, self.spans, self.pictures)
        self.pictures += 1

    def sound(self, plan: PicturePlan) -> None:
        self.planned(plan, self.heard, self.sounds)
        self.sounds += 1

    def planned(self, plan: PicturePlan, spans: list[PromptSpan], number: int) -> None:
        offset = 0
        for piece in plan.pieces:
            if isinstance(piece, Tag):
                self.trusted(piece.text)
            elif piece.num_tokens:
                self.features(piece, spans, number, offset)
                offset += piece.num_tokens

    def features(self, piece: Features, spans: list[PromptSpan], number: int, offset: int) -> None:
        self.put([self.marker] * piece.num_tokens)
        start = len(self.ids) - piece.num_tokens
        last = spans[-1] if spans else None
        if last is not None and (last.stop, last.picture) == (start, number):
            spans[-1] = last._replace(stop=len(self.ids))
        else:
            spans.append(PromptSpan(start, len(self.ids), number, offset))
        self.first, self.strip_next = False, False

    def pieces(self, text: str) -> list[str | Control]:
        for role, ids in (("bos", (self.tokenizer.bos_id,)), ("eos", self.tokenizer.eos_ids)):
            if f"{{{role}}}" in text:
                if not ids or ids[0] is None:
                    raise BeholderError(
                        f"the chat format writes {{{role}}} but the tokenizer names no such token"
                    )
                text = text.replace(f"{{{role}}}", self.tokenizer.name(ids[0]))
        return self.tokenizer.split(text)

    def flush(self, *, strip_end: bool = False) -> None:
        """Encode the run. A token belongs to the answer if all its characters do."""
        text = "".join(part for part, _ in self.run)
        written = [flag for part, flag in self.run for _ in part]
        self.run = []
        if strip_end:
            text = text.rstrip()
        if self.strip_next and text:
            written = written[len(text) - len(text.lstrip()) :]
            text = text.lstrip()
        for token in self.tokenizer.tokens(text, first=self.first):
            self.ids.append(token.id)
            self.answer.append(all(written[token.start : max(token.stop, token.start + 1)]))


def _system(draft: _Draft, parts: Sequence[object], chat: ChatFormat) -> None:
    assert chat.system is not None
    draft.trusted(chat.system.prefix)
    texts = [part.text for part in parts if isinstance(part, Text)]
    for text in _stripped(texts) if chat.strip and chat.system_place == "turn" else texts:
        draft.text(text)
        draft.trusted(chat.text[1])
    draft.trusted(chat.system.suffix)


def _answer(draft: _Draft, message: Message, chat: ChatFormat, plans: Sequence[PicturePlan] = ()) -> None:
    """An assistant's turn: all that follows what `generation` gives is the assistant's to write."""
    prefix = chat.assistant.prefix + (chat.text[0] if message.parts else "")
    given = len(chat.generation) if prefix.startswith(chat.generation) else len(prefix)
    draft.trusted(prefix[:given])
    draft.written(prefix[given:])
    parts = message.parts
    for i, part in enumerate(parts):
        if isinstance(part, Text):
            text = _strip(part.text, i == 0, i == len(parts) - 1) if chat.strip else part.text
            draft.text(text, answer=True)
            draft.written(chat.text[1])
        elif isinstance(part, Regions):
            assert chat.boxes is not None
            draft.said(chat.boxes.write_answer(part.each, plans[part.picture].views[0], part.counts))
    draft.written(chat.assistant.suffix)


def _pictures(draft: _Draft, message: Message, chat: ChatFormat, plans: Sequence[PicturePlan]) -> None:
    """The pictures of a user message by themselves."""
    for part in message.pictures:
        _picture(draft, part, chat, plans)


def _picture(draft: _Draft, part: Picture | Clip, chat: ChatFormat, plans: Sequence[PicturePlan]) -> None:
    before, behind = chat.image_prefix, chat.image_suffix
    if isinstance(part, Clip) and chat.video is not None:
        before, behind = chat.video
    before = before.replace("{n}", str(draft.pictures + 1)).replace("{i}", str(draft.pictures))
    draft.trusted(part.label + before if isinstance(part, Still) else before)
    draft.picture(plans[draft.pictures])
    draft.trusted(behind + part.end if isinstance(part, Still) else behind)


def _sound(draft: _Draft, chat: ChatFormat, plans: Sequence[PicturePlan]) -> None:
    assert chat.sounds is not None
    draft.trusted(chat.sounds.prefix.replace("{n}", str(draft.sounds + 1)))
    draft.sound(plans[draft.sounds])
    draft.trusted(chat.sounds.suffix)


def _body(
    draft: _Draft,
    message: Message,
    chat: ChatFormat,
    plans: Sequence[PicturePlan],
    sounds: Sequence[PicturePlan],
    *,
    follows: bool,
) -> None:
    """The parts of a user message. `follows`: something of the same turn stands before them."""
    parts = list(message.parts)
    if chat.image_place == "last":
        parts.sort(key=lambda part: isinstance(part, (Picture, Clip, Sound)))
    if chat.image_place == "first":
        parts.sort(key=lambda part: not isinstance(part, (Picture, Clip, Sound)))
    if chat.image_place == "front":
        parts = [part for part in parts if not isinstance(part, (Picture, Clip, Sound))]
    if parts and isinstance(parts[0], Text):
        draft.trusted(chat.text[0])
    for i, part in enumerate(parts):
        if isinstance(part, (Picture, Clip)):
            _picture(draft, part, chat, plans)
        elif isinstance(part, Sound):
            _sound(draft, chat, sounds)
        elif isinstance(part, Text):
            ends = (i == 0 and not follows, i == len(parts) - 1)
            draft.text(_strip(part.text, *ends) if chat.strip else part.text)
            draft.trusted(chat.text[1])
        elif isinstance(part, Regions):
            assert chat.boxes is not None
            draft.trusted(chat.boxes.write_regions(part.each, plans[part.picture].views[0], part.counts))


def _stripped(texts: Sequence[str]) -> list[str]:
    """The texts of one message without white space at both ends of it."""
    return [_strip(text, i == 0, i == len(texts) - 1) for i, text in enumerate(texts)]


def _strip(text: str, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    return text.rstrip() if right else text


def _check_regions(part: Regions, where: str, chat: ChatFormat, num_pictures: int, *, answer: bool) -> None:
    if chat.boxes is None or not (chat.boxes.box or chat.boxes.mark or (answer and any(chat.boxes.pointers))):
        raise BeholderError(
            f"{where}: chat format {chat.name} has no words for regions; say in the question where "
            "to look, or give that part of the picture"
        )
    if not 0 <= part.picture < num_pictures:
        raise BeholderError(
            f"{where}: regions of picture number {part.picture}, counted from 0, of {num_pictures}"
        )


def _check_sounds(messages: Sequence[Message], chat: ChatFormat, plans: Sequence[PicturePlan]) -> None:
    count = len(sounds_of(messages))
    if count and chat.sounds is None:
        raise BeholderError(f"chat format {chat.name} takes no sounds; sounds in the messages: {count}")
    if count != len(plans):
        raise BeholderError(
            f"sounds in the messages: {count}, sounds planned: {len(plans)}; give one for each place"
        )


def _check(
    messages: Sequence[Message],
    chat: ChatFormat,
    plans: Sequence[PicturePlan],
    sounds: Sequence[PicturePlan],
    *,
    generate: bool,
) -> None:
    if not messages:
        raise BeholderError("there are no messages to render")
    _check_sounds(messages, chat, sounds)
    num_pictures = len(pictures_of(messages))
    if num_pictures and chat.image_place == "none":
        raise BeholderError(
            f"chat format {chat.name} takes no pictures; pictures in the messages: {num_pictures}"
        )
    if num_pictures != len(plans):
        raise BeholderError(
            f"pictures in the messages: {num_pictures}, pictures planned: {len(plans)}; give one for each place"
        )
    turns = [message.role for message in messages]
    for i, message in enumerate(messages, 1):
        for j, part in enumerate(message.parts, 1):
            if isinstance(part, Regions):
                _check_regions(
                    part, f"message {i}, part {j}", chat, len(plans), answer=message.role == "assistant"
                )
                continue
            if not isinstance(part, (Text, Picture, Clip, Sound)):
                raise BeholderError(
                    f"message {i}, part {j}: chat format {chat.name} cannot write a {type(part).__name__}"
                )
            if isinstance(part, (Picture, Clip, Sound)) and message.role != "user":
                what = "sound" if isinstance(part, Sound) else "picture"
                raise BeholderError(
                    f"message {i}, part {j}: a {what} in a {message.role} message; put it in the user's"
                )
        if message.role == "system" and i > 1:
            raise BeholderError(f"message {i}: a system message can only be the first")
    if turns[0] == "system":
        turns = turns[1:]
        if chat.system is None:
            raise BeholderError(
                f"chat format {chat.name} has no place for a system message; put it in the user's"
            )
        if not turns:
            raise BeholderError("there is only a system message; add a user message")
    if chat.alternate and turns != ["user", "assistant"] * (len(turns) // 2) + ["user"] * (len(turns) % 2):
        raise BeholderError(
            f"chat format {chat.name} needs user, assistant, user, ... in turn; got {', '.join(turns)}"
        )
    if generate and turns[-1] == "assistant":
        raise BeholderError(
            "the last message is the assistant's; add a user message, or render with generate=False"
        )


def _marker(chat: ChatFormat, tokenizer: Tokenizer) -> int:
    """The id put where features go."""
    if chat.image_token in tokenizer.controls:
        return tokenizer.controls[chat.image_token].id
    spare = (tokenizer.pad_id, *tokenizer.eos_ids, 0)
    return next(token_id for token_id in spare if token_id is not None)


def _stops(chat: ChatFormat, tokenizer: Tokenizer) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Stop strings, and the ids of those that are control tokens with the tokenizer's end tokens."""
    ids = [tokenizer.controls[stop].id for stop in chat.stops if stop in tokenizer.controls]
    strings = tuple(stop for stop in chat.stops if stop not in tokenizer.controls)
    return strings, tuple(dict.fromkeys([*tokenizer.eos_ids, *ids]))
