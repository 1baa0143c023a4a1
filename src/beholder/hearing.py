"""What is heard: sounds of conversations, decoded and planned, and the writing down of speech by systems that do nothing else.

S samples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import chain, islice

import numpy as np
import torch
from torch import Tensor

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError
from beholder.generate.loop import generate
from beholder.generate.results import Piece, Result, Timings, Usage
from beholder.generate.sampling import Sampling
from beholder.media.at_once import every
from beholder.media.plan import PicturePlan
from beholder.media.sound import SoundFront
from beholder.media.stretches import cut_sound, load_sound, plan_sound
from beholder.media.waves import decode_sound, sound_length
from beholder.model import Batch, Model
from beholder.planning import Plan, placed
from beholder.prompts.chat import ChatFormat, Turn, render
from beholder.prompts.messages import Message, Sound, Text, sounds_of, user
from beholder.prompts.tokenizer import Tokenizer

# openai/whisper: whisper/tokenizer.py, and whisper/model.py for the vocabulary that has languages
WHISPER = ChatFormat("whisper", system=None, sounds=Turn(), image_place="none", stops=("<|endoftext|>",))
START, PLAIN, ENGLISH_ONLY = "<|startoftranscript|>", "<|notimestamps|>", 51864
TASKS = ("transcribe", "translate")


def sound_branch(card: Card) -> Branch | None:
    """The branch of a card that writes text about sounds; None where it hears none."""
    if not any(head.output == "text" for head in card.heads):
        return None
    return next((branch for branch in card.branches if branch.modality == "audio"), None)


def writes_down(card: Card) -> bool:
    """Whether a card writes down what is said and answers nothing else: its decoder reads sounds as memory (Whisper)."""
    modalities = {branch.modality for branch in card.branches}
    return modalities == {"audio"} and getattr(card.main, "cross", None) is not None


def hearing(card: Card, count: int) -> tuple[Branch, SoundFront]:
    """The branch that hears `count` sounds and its front end. Raises `BeholderError` where a card has none."""
    branch = sound_branch(card)
    if branch is None:
        sounds = "1 sound" if count == 1 else f"{count} sounds"
        raise BeholderError(
            f"{card.name} hears nothing but {sounds} came with it; choose a model that hears: beholder list --input audio"
        )
    if branch.front is None:
        raise BeholderError(
            f"{card.name} does not say how sounds are heard; its folder lacks preprocessor_config.json"
        )
    return branch, branch.front


def decode_sounds(
    card: Card, conversations: Sequence[Sequence[Message]], *, outline: bool = False
) -> list[list[np.ndarray]]:
    """The samples (S,) of each conversation's sounds, at the rate that the card hears; outline: for plans, silence of their
    length. Raises `BeholderError` where it hears none and `MediaError` for what cannot be decoded.
    """
    sounds = [sounds_of(messages) for messages in conversations]
    count = sum(map(len, sounds))
    if not count:
        return [[] for _ in sounds]
    rate = hearing(card, count)[1].rate
    decode = partial(_decoded, rate=rate, outline=outline)
    decoded = iter(every(decode, chain.from_iterable(sounds), range(1, count + 1)))
    return [list(islice(decoded, len(row))) for row in sounds]


def _decoded(sound: Sound, number: int, *, rate: int, outline: bool) -> np.ndarray:
    if sound.source is None:
        raise BeholderError(f"sound {number} of the messages has no source; give a path, bytes or samples")
    name = sound.name or f"sound {number}"
    if outline:
        return np.broadcast_to(np.float32(0), (sound_length(sound.source, rate, name=name),))
    return decode_sound(sound.source, rate, name=name)


def sound_plans(card: Card, sounds: Sequence[np.ndarray]) -> list[PicturePlan]:
    """What sounds become in the branch that hears them."""
    plans = []
    for number, samples_S in enumerate(sounds, start=1):
        branch, front = hearing(card, len(sounds))
        plan = plan_sound(
            len(samples_S),
            front,
            branch.stretches,
            branch.view_grid,
            branch.grids,
            branch.name,
            name=f"sound {number}",
        )
        plans.append(placed(card, plan))
    return plans


def with_sounds(
    batch: Batch,
    card: Card,
    sounds: Sequence[Sequence[np.ndarray]],
    plans: Sequence[Sequence[PicturePlan]],
    device: torch.device,
) -> Batch:
    """The batch with the views of each row's sounds, planned by `plans`."""
    pairs = [pair for row in zip(sounds, plans, strict=True) for pair in zip(*row, strict=True)]
    if not pairs:
        return batch
    branch, front = hearing(card, len(pairs))
    views = [
        view.to(device)
        for samples_S, plan in pairs
        for view in load_sound(samples_S, plan, front, branch.stretches)
    ]
    filled = [view.filled for _, plan in pairs for view in plan.views]
    columns = {} if branch.stretches.padded else {branch.name: filled}
    return replace(batch, views={**batch.views, branch.name: views}, columns=columns)


def write_down(
    model: Model,
    tokenizer: Callable[[], Tokenizer],
    chat: ChatFormat | None,
    conversations: Sequence[Sequence[Message]],
    sampling: Sampling,
) -> tuple[tuple[Plan, ...], Iterator[Piece]]:
    """What is said in each conversation's one sound, stretch by stretch; chat: in place of Whisper's own format. The words may
    be `translate`, which Whisper writes in English.
    """
    tasks = [_task(model.card, messages) for messages in conversations]
    heard = decode_sounds(model.card, conversations)
    plans = tuple(Plan(model.card.name, (), None, None, tuple(sound_plans(model.card, row))) for row in heard)
    return plans, _write(model, tokenizer(), chat, [row[0] for row in heard], tasks, sampling)


def _task(card: Card, messages: Sequence[Message]) -> str:
    texts = [part.text for message in messages for part in message.parts if isinstance(part, Text)]
    words = "".join(texts).strip()
    if len(sounds_of(messages)) != 1 or (words and words not in TASKS):
        raise BeholderError(
            f"{card.name} writes down sounds, one at a time, and has no answer to words; give a sound alone, or with the word "
            "translate"
        )
    return words or TASKS[0]


def _write(
    model: Model,
    tokenizer: Tokenizer,
    chat: ChatFormat | None,
    sounds: Sequence[np.ndarray],
    tasks: Sequence[str],
    sampling: Sampling,
) -> Iterator[Piece]:
    _, front = hearing(model.card, len(sounds))
    for row, (samples_S, task) in enumerate(zip(sounds, tasks, strict=True)):
        results: list[Result] = []
        language = ""
        for part_S in cut_sound(samples_S, front):
            plans = sound_plans(model.card, [part_S])
            batch = with_sounds(Batch(plans=(tuple(plans),)), model.card, [[part_S]], [plans], model.device)
            if chat is None and not language:
                language = _language(model, tokenizer, batch)
            own = chat or WHISPER.but(generation=_beginning(language, task))
            prompt = render([user(Sound())], own, tokenizer, (), plans)
            batch = replace(batch, ids_BT=torch.tensor([prompt.ids], device=model.device))
            chosen = replace(sampling, stops=(*sampling.stops, *prompt.stops))
            for piece in generate(model, batch, [chosen], eos_ids=prompt.stop_ids, decode=tokenizer.stream):
                if piece.result is not None:
                    results.append(piece.result)
                if piece.text:
                    yield Piece(row, piece.text)
        yield Piece(row, "", _joined(results))


def dictation(card: Card, language: str = "<|en|>") -> ChatFormat:
    """What a card that writes down speech learns to write: the words behind Whisper's first tokens, and the last one.
    language: the token of the one that is spoken.
    """
    english = card.main is not None and card.main.vocab_size <= ENGLISH_ONLY
    start = _beginning(ENGLISH if english else language, TASKS[0])
    return WHISPER.but(generation=start, assistant=Turn(start, WHISPER.stops[0]))


def check_dictation(card: Card, messages: Sequence[Message]) -> None:
    """Raises `BeholderError` for a conversation that is not one sound and what is said in it."""
    asked = [part for message in messages if message.role != "assistant" for part in message.parts]
    if [type(part) for part in asked] != [Sound]:
        raise BeholderError(
            f"{card.name} writes down sounds, one at a time, and has no answer to words; give a sound alone with what is said "
            "in it, or leave out the words of users (bare=true)"
        )


def _beginning(language: str, task: str) -> str:
    """What stands before what is written; vocabularies of English alone have no languages and no tasks."""
    if language == ENGLISH and task != TASKS[0]:
        raise BeholderError("this vocabulary has English alone, so there is nothing to translate")
    return START + ("" if language == ENGLISH else f"{language}<|{task}|>") + PLAIN


ENGLISH = "english alone"


@torch.inference_mode()
def _language(model: Model, tokenizer: Tokenizer, batch: Batch) -> str:
    """The likeliest token of a language behind the first one."""
    controls = tokenizer.controls
    if START not in controls or PLAIN not in controls:
        raise BeholderError(
            f"the tokenizer of {model.card.name} has no {START}; give a chat format that says how answers begin"
        )
    if model.card.main is not None and model.card.main.vocab_size <= ENGLISH_ONLY:
        return ENGLISH
    names = {controls[name].id: name for name in controls if re.fullmatch(r"<\|[a-z]{2,3}\|>", name)}
    ids_BT = torch.tensor([[controls[START].id]], device=model.device)
    scores_V: Tensor = model(replace(batch, ids_BT=ids_BT)).heads["text"][0, -1]
    return names[max(names, key=lambda number: float(scores_V[number]))] if names else ENGLISH


def _joined(results: Sequence[Result]) -> Result:
    """Of stretches that follow each other."""
    timings = {
        field.name: sum(getattr(result.timings, field.name) for result in results)
        for field in fields(Timings)
    }
    usage = Usage(
        *(sum(getattr(each.usage, name) for each in results) for name in ("prompt", "image", "new"))
    )
    ids = tuple(number for result in results for number in result.ids)
    text = "".join(result.text for result in results)
    return Result(text, ids, results[-1].finish, usage, Timings(**timings))
