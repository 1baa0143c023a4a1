"""Samples and conversations to batches, in the token layout that answering uses.

The questions about a picture stand as siblings behind one prefix that holds the picture, so that the picture is read once,
and every question sees just what it would see alone; several items may stand side by side in one row in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import numpy as np
import torch

from beholder.cards.schema import Branch, Card
from beholder.data.samples import Conversation, Item, Sample, Turn, turns_of
from beholder.errors import BeholderError
from beholder.hearing import (
    check_dictation,
    decode_sounds,
    dictation,
    hearing,
    sound_plans,
    with_sounds,
    writes_down,
)
from beholder.media.plan import PicturePlan, Size
from beholder.media.recordings import blank
from beholder.media.regions import Region
from beholder.model import Batch
from beholder.planning import (
    branch_plan,
    check_answers,
    check_pictures,
    clip_frames,
    image_branches,
    media_plan,
    place_features,
)
from beholder.prompts.chat import Prompt, render
from beholder.prompts.messages import (
    ROLES,
    Clip,
    Message,
    Picture,
    Sound,
    assistant,
    filled,
    pictures_of,
    regions_of,
    sounds_of,
    user,
)
from beholder.prompts.tokenizer import Tokenizer
from beholder.questions import question_words, reads_questions
from beholder.referring import count_regions
from beholder.seeing import Seen, load_media, seen_in, shown, spoken, with_pixels
from beholder.train.rows import Answers, Piece, Tree, table

__all__ = ["Answers", "Collator", "TrainBatch"]

Messages = tuple[Message, ...]
Looks = tuple[tuple[PicturePlan, ...], ...]
UNANSWERED = "no token of it is an answer, so nothing can be learned; give an assistant message"
KEPT = 4096  # plans of pictures of one size that are kept


@dataclass(frozen=True)
class TrainBatch:
    """A batch, where its answers stand, and the turns of each item. regions: of each row, what its answers point to, in the
    order of the tokens that stand for them; () where nothing is pointed to.
    """

    batch: Batch
    answers: Answers
    turns: tuple[tuple[Turn, ...], ...]
    regions: tuple[tuple[Region, ...], ...] = ()

    @property
    def num_questions(self) -> int:
        return sum(len(turns) for turns in self.turns)


class ItemError(BeholderError):
    """A sample that a card cannot learn from; `kind` groups alike problems, `detail` leaves out which sample."""

    def __init__(self, key: str, kind: str, detail: str) -> None:
        self.kind, self.detail = kind, detail
        super().__init__(f"sample {key}: {detail}")


@dataclass(frozen=True, eq=False)
class _Part:
    """What is learned together: texts with answers that share what is seen and heard, which is the source of their parts."""

    key: str
    texts: tuple[Messages, ...]
    turns: tuple[Turn, ...] = ()

    @property
    def seen(self) -> list[Seen]:
        """Pictures, frames and recordings, in order."""
        return seen_in(self.texts[0])

    @property
    def heard(self) -> list[np.ndarray]:
        """The samples of each sound."""
        return [sound.source for sound in sounds_of(self.texts[0])]


@dataclass(frozen=True, eq=False)
class _Planned:
    """A part with its plans, branch by branch of those that see, those of its sounds, and its tokens. target: what a decoder
    of its own writes.
    """

    part: _Part
    plans: Looks
    sounds: tuple[PicturePlan, ...]
    tree: Tree
    target: tuple[int, ...] = ()

    @property
    def media(self) -> int:
        return sum(plan.num_tokens for plan in (*self.prompted, *self.sounds))

    @property
    def prompted(self) -> tuple[PicturePlan, ...]:
        """The plans of the branch whose features stand in the prompt."""
        return self.plans[0] if self.plans else ()


class Collator:
    """Makes batches for a card that writes text: every branch's views of all pictures, clips and sounds, which are decoded,
    planned and scaled as in answering, and rows of tokens.

    tokens, media: what a row holds of tokens, and of feature tokens among them; the items of a batch are then packed in the
    order in which they come, where the card can read several texts side by side. longest: what becomes of an item that is
    longer than the card's context: an error, or `cut`, which leaves out whole turns from its end. words: the tokenizer of
    a connector that reads questions (see `beholder.questions`).
    """

    def __init__(
        self,
        card: Card,
        tokenizer: Tokenizer,
        *,
        tokens: int | None = None,
        media: int | None = None,
        longest: Literal["error", "cut"] = "error",
        words: Tokenizer | None = None,
    ) -> None:
        chat = dictation(card) if card.prompt is None and writes_down(card) else card.prompt
        if chat is None or card.main is None:
            raise BeholderError(
                f"card {card.name} has no chat format or no language part; it cannot learn to answer"
            )
        check_answers(card)
        if reads_questions(card) and words is None:
            raise BeholderError(
                f"card {card.name} reads each question with the picture, in words of its own; give their tokenizer as words="
            )
        if longest not in ("error", "cut"):
            raise BeholderError(f"longest={longest!r}: choose error or cut")
        self.card, self.tokenizer, self.chat, self.main = card, tokenizer, chat, card.main
        self.room = card.main.context - card.virtual_tokens
        self.tokens, self.media, self.longest, self.words = tokens, media, longest, words
        self.features_all = self.chat.boxes is not None and self.chat.boxes.answers_have_features
        self._kept: dict[tuple[str, int, int], PicturePlan] = {}
        self.branches = image_branches(card)
        connectors = [branch.connector for branch in card.branches if branch.connector is not None]
        self.asked = any(fusion.reads_prompt for fusion in card.fusion) or any(
            connector.reads_text for connector in connectors
        )
        self.beside = (
            card.main.in_segments
            and not self.asked
            and not card.main.reads_apart
            and all(fusion.in_segments for fusion in card.fusion)
        )
        if tokens is not None and not self.beside:
            raise BeholderError(
                f"card {card.name} cannot read several texts side by side in a row; leave tokens out"
            )

    def __call__(self, items: Sequence[Item]) -> TrainBatch:
        planned = [self._planned(part) for part in self._parts(items)]
        if not planned:
            raise BeholderError("a batch without items; give one or more")
        rows = self._rows(planned)
        ids_BT, visibility, answers = table([[one.tree for one in row] for row in rows])
        lengths = tuple(sum(one.tree.width for one in row) for row in rows)
        batch = Batch(
            ids_BT=ids_BT,
            lengths=lengths,
            views={
                branch.name: load_media(
                    branch,
                    [one for each in planned for one in each.part.seen],
                    [plan for one in planned for plan in one.plans[number]],
                )
                for number, branch in enumerate(self.branches)
            },
            plans=tuple(tuple(_by_branch(row)) for row in rows),
            visibility=visibility,
            prompts=tuple(row[0].tree.prompt for row in rows) if self.asked else None,
            regions=_regions(rows, ROLES if self.features_all else ("user",)),
            words=question_words(self.card, self.words, [one.part.texts[0] for one in planned]),
        )
        heard = [[samples for one in row for samples in one.part.heard] for row in rows]
        sounds = [[plan for one in row for plan in one.sounds] for row in rows]
        batch = with_sounds(batch, self.card, heard, sounds, torch.device("cpu"))
        if self.main.reads_apart:
            batch, answers = _with_targets(batch, [one.target for one in planned])
        pointed = _regions(rows, ROLES if self.features_all else ("assistant",))
        return TrainBatch(batch, answers, tuple(one.part.turns for one in planned), pointed)

    def plan(self, sample: Sample) -> PicturePlan:
        """The plan of a sample's picture, as it stands in the prompt."""
        return self._plan(self.branches[0], sample.key, sample.pixels.shape[:2])

    def media_tokens(self, size: Size) -> int:
        """Feature tokens of a picture of (height, width)."""
        return self._plan(self.branches[0], "", size).num_tokens if self.branches else 0

    def measure(self, messages: Sequence[Message], sizes: Sequence[Size], key: str = "") -> tuple[int, int]:
        """Tokens of a conversation, and how many of them are features, from the (height, width) of its pictures and the
        outlines of its clips and sounds; after `cut` where that is chosen.
        """
        pictures = tuple(blank((*size, 3)) for size in sizes)
        return self.measure_item(Conversation(tuple(messages), pictures, key))

    def measure_item(self, item: Item) -> tuple[int, int]:
        """`measure` of a sample or conversation; of one that comes apart, its longest row."""
        planned = [self._planned(part) for part in self._parts([item], outline=True)]
        return max(one.tree.width for one in planned), max(one.media for one in planned)

    def _parts(self, items: Sequence[Item], *, outline: bool = False) -> Iterator[_Part]:
        """What is learned of items, in order. Clips and sounds of all are decoded together, those of outlines to be planned."""
        talks = [item for item in items if isinstance(item, Conversation)]
        opened = iter(self._opened(talks, outline=outline))
        for item in items:
            if isinstance(item, Conversation):
                messages = next(opened)
                yield from self._split(_Part(item.key, (messages,), turns_of(messages)))
            else:
                yield from self._asked(item)

    def _opened(self, talks: Sequence[Conversation], *, outline: bool) -> list[Messages]:
        """Conversations with what is seen and heard as the sources of their parts. Raises `MediaError` for what cannot be
        decoded, by its name.
        """
        for item in talks:
            self._check(item)
        texts = [item.told for item in talks]
        moving = [
            n for n, text in enumerate(texts) if any(isinstance(part, Clip) for part in pictures_of(text))
        ]
        cut = with_pixels(self.card, [texts[n] for n in moving], outline=outline)
        for n, messages in zip(moving, cut, strict=True):
            texts[n] = tuple(messages)
        heard = decode_sounds(self.card, texts, outline=outline)
        return [
            filled(text, Sound, samples) if samples else text
            for text, samples in zip(texts, heard, strict=True)
        ]

    def _check(self, talk: Conversation) -> None:
        """Raises `ItemError` for clips or sounds that the card does not read."""
        sounds = sounds_of(talk.messages)
        try:
            if any(isinstance(part, Clip) for part in pictures_of(talk.messages)):
                clip_frames(self.card)
            if sounds:
                hearing(self.card, len(sounds))
            if writes_down(self.card):
                check_dictation(self.card, talk.messages)
        except BeholderError as error:
            raise ItemError(talk.key, "cannot be read", str(error)) from None

    def _asked(self, item: Sample) -> Iterator[_Part]:
        if not item.turns:
            raise BeholderError(f"sample {item.key} has no question to learn from")
        texts = [(user(Picture(item.pixels), turn.question), assistant(turn.answer)) for turn in item.turns]
        groups = (
            [range(len(texts))] if self.beside and self._alike(texts) else [[i] for i in range(len(texts))]
        )
        for group in groups:
            own = tuple(texts[i] for i in group)
            yield _Part(item.key, own, tuple(item.turns[i] for i in group))

    def _alike(self, texts: Sequence[Messages]) -> bool:
        """Whether the questions of several texts stand behind their picture, which they can then share."""
        return len(texts) == 1 or self.chat.image_place in ("inline", "first", "front")

    def _split(self, part: _Part) -> Iterator[_Part]:
        """A conversation by its answers, where the question is read in a way of its own."""
        (messages,) = part.texts
        ends = [n + 1 for n, message in enumerate(messages) if message.role == "assistant"]
        if not ends or not (self.asked or self.main.reads_apart):
            yield part
            return
        for number, end in enumerate(ends):
            yield _cut(part, end, part.turns[number : number + 1])

    def _plans(self, branch: Branch, part: _Part) -> tuple[PicturePlan, ...]:
        """Pictures' plans may be drawn; those of frames and recordings are the card's own."""
        return tuple(
            self._plan(branch, f"{part.key}/{number}" if number else part.key, (item.shape[0], item.shape[1]))
            if type(place) is Picture
            else media_plan(self.card, branch, place, item)
            for number, (place, item) in enumerate(shown(branch, part.seen))
        )

    def _plan(self, branch: Branch, key: str, size: Size) -> PicturePlan:
        geometry = branch.geometry and branch.geometry.drawn(str(key))
        if geometry is not branch.geometry:
            return branch_plan(self.card, branch.but(geometry=geometry), size)
        if (kept := (branch.name, *size)) not in self._kept:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[kept] = branch_plan(self.card, branch, size)
        return self._kept[kept]

    def _planned(self, part: _Part) -> _Planned:
        """With its tokens, cut to what the card can read. Raises `BeholderError` that names the item."""
        try:
            check_pictures(self.card, len(part.seen))
            plans = tuple(self._plans(branch, part) for branch in self.branches)
            sounds = sound_plans(self.card, part.heard)
            if writes_down(self.card) and any(len(plan.views) > 1 for plan in sounds):
                raise BeholderError("a sound longer than is heard at once; cut it, each piece with its words")
            one = self._written(part, plans, tuple(sounds))
            fits = one.tree.longest <= self.room and (not self.tokens or one.tree.width <= self.tokens)
            return one if fits else self._shortened(one)
        except ItemError:
            raise
        except BeholderError as error:
            raise ItemError(part.key, "cannot be written", str(error)) from None

    def _written(self, part: _Part, plans: Looks, sounds: tuple[PicturePlan, ...]) -> _Planned:
        if self.main.reads_apart:
            return self._apart(part, plans, sounds)
        own = plans[0] if plans else ()
        pieces = []
        for text in part.texts:
            prompt = self._render(part.key, text, own, sounds)
            end = len(prompt.ids) - prompt.answer[::-1].index(True)
            start = prompt.spans[-1].stop if prompt.spans else 0
            pieces.append((Piece(place_features(prompt, self.card)[:end], prompt.answer[:end]), start))
        (first, start), *others = pieces
        if not others:
            return _Planned(part, plans, sounds, Tree(first))
        trunk = Piece(first.ids[:start], first.answer[:start])
        for text, (piece, stop) in zip(part.texts, pieces, strict=True):
            if piece.ids[:stop] != trunk.ids:
                raise BeholderError(
                    f"the tokens before {turns_of(text)[0].question!r} depend on the question"
                )
        branches = tuple(Piece(piece.ids[start:], piece.answer[start:]) for piece, _ in pieces)
        return _Planned(part, plans, sounds, Tree(trunk, branches))

    def _render(
        self, key: str, text: Messages, plans: Sequence[PicturePlan], sounds: Sequence[PicturePlan] = ()
    ) -> Prompt:
        counted = count_regions(self.card, spoken(self.card, text), plans)
        prompt = render(counted, self.chat, self.tokenizer, plans, sounds, generate=False)
        if True not in prompt.answer:
            raise ItemError(key, "no answer", UNANSWERED)
        if not self.asked or text[-1].role != "assistant":
            return prompt
        return replace(prompt, answer=_last_only(prompt.answer))

    def _apart(self, part: _Part, plans: Looks, sounds: tuple[PicturePlan, ...]) -> _Planned:
        """For a card whose encoder reads the question and whose decoder writes the answer."""
        (text,) = part.texts
        own = plans[0] if plans else ()
        if text[-1].role != "assistant":
            raise ItemError(part.key, "no answer", UNANSWERED)
        counted = count_regions(self.card, spoken(self.card, text), own)
        whole = render(counted, self.chat, self.tokenizer, own, sounds, generate=False)
        asked = render(counted[:-1], self.chat, self.tokenizer, own, sounds)
        answer = [i for i, counts in zip(whole.ids, _last_only(whole.answer), strict=True) if counts]
        if not answer or answer[-1] not in asked.stop_ids:
            answer += self.tokenizer.eos_ids[:1]
        ids = place_features(asked, self.card)
        tree = Tree(Piece(ids, [False] * len(ids)))
        return _Planned(part, plans, sounds, tree, (self.main.start_id, *answer))

    def _shortened(self, one: _Planned) -> _Planned:
        """Without its last turns or questions, as many as need be. Nothing else is cut, least of all within a picture."""
        most = min(self.room, self.tokens or self.room)
        part = one.part
        kinds = "pictures and sounds" if one.sounds else "pictures"
        too_long = (
            f"{one.tree.longest:,} tokens, {one.media:,} of them of {kinds}; at most {most:,} can be read: shorten it, or "
            "train with longest='cut', which leaves out turns from the end"
        )
        if self.longest == "error":
            raise ItemError(part.key, "too long", too_long)
        if len(part.texts) > 1:
            shorter = [
                replace(part, texts=part.texts[:n], turns=part.turns[:n])
                for n in range(len(part.texts) - 1, 0, -1)
            ]
        else:
            ends = [n + 1 for n, message in enumerate(part.texts[0]) if message.role == "assistant"]
            shorter = [_cut(part, ends[n], part.turns[: n + 1]) for n in range(len(ends) - 2, -1, -1)]
        for less in shorter:
            plans = tuple(
                own[: len(shown(branch, less.seen))]
                for branch, own in zip(self.branches, one.plans, strict=True)
            )
            cut = self._written(less, plans, one.sounds[: len(less.heard)])
            if cut.tree.longest <= most and (len(cut.part.texts) == 1 or cut.tree.width <= most):
                return cut
        raise ItemError(part.key, "too long", f"{too_long}; even its first turn alone is too long")

    def _rows(self, planned: Sequence[_Planned]) -> list[list[_Planned]]:
        """Items in rows, each row filled before the next one is begun."""
        rows: list[list[_Planned]] = []
        left = seen = 0
        for one in planned:
            fits = one.tree.width <= left and (self.media is None or one.media <= seen)
            if not rows or not fits:
                rows.append([])
                left, seen = self.tokens or 0, self.media or 0
            rows[-1].append(one)
            left, seen = left - one.tree.width, seen - one.media
        return rows


def _cut(part: _Part, end: int, turns: tuple[Turn, ...]) -> _Part:
    """The first `end` messages, with what is seen and heard there."""
    return replace(part, texts=(part.texts[0][:end],), turns=turns)


def _last_only(answer: Sequence[bool]) -> tuple[bool, ...]:
    """Of several answers the last one."""
    end = len(answer) - list(answer)[::-1].index(True) if True in answer else 0
    start = end
    while start and answer[start - 1]:
        start -= 1
    return tuple(start <= place < end for place in range(len(answer)))


def _by_branch(row: Sequence[_Planned]) -> Iterator[PicturePlan]:
    """The plans of a row: those of all its pictures in the first branch, in the second, and so on, and of its sounds."""
    columns = zip(*((*one.plans, one.sounds) for one in row), strict=True)
    return chain.from_iterable(chain.from_iterable(column) for column in columns)


def _regions(rows: Sequence[Sequence[_Planned]], roles: Sequence[str]) -> tuple[tuple[Region, ...], ...]:
    """What messages of these roles speak of in each row, pictures being counted through it; () where nothing is spoken of."""
    out = []
    for row in rows:
        found: list[Region] = []
        before = 0
        for one in row:
            said = [message for message in one.part.texts[0] if message.role in roles]
            found += [replace(region, picture=region.picture + before) for region in regions_of(said)]
            before += len(one.prompted)
        out.append(tuple(found))
    return tuple(out) if any(out) else ()


def _with_targets(batch: Batch, targets: Sequence[Sequence[int]]) -> tuple[Batch, Answers]:
    """A batch whose decoder reads (B, T) targets but their last token, and where it is to write them."""
    lengths = tuple(len(target) - 1 for target in targets)
    target_BT = torch.zeros(len(targets), max(lengths), dtype=torch.long)
    found = []
    for b, target in enumerate(targets):
        target_BT[b, : lengths[b]] = torch.tensor(target[:-1])
        found += [(b, place, token, 1 / lengths[b]) for place, token in enumerate(target[1:])]
    return replace(batch, target_BT=target_BT, target_lengths=lengths), Answers.of(found)
