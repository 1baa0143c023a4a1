"""Clips and sounds train: the loss is that of what answering computes of the same conversation, it falls, and rows of all kinds
stand in one batch.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from beholder import hearing
from beholder.cards import card
from beholder.cards.schema import Card, Stage, Trains
from beholder.data.samples import Conversation, Item
from beholder.errors import BeholderError
from beholder.model import Batch, Model, build
from beholder.parts.adapters.prompts import PrefixTuning
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.fusion.memory import Memory
from beholder.pipeline import Pipeline
from beholder.prompts.messages import Clip, Message, Picture, Sound, assistant, user
from beholder.train.collate import Collator, ItemError, TrainBatch
from beholder.train.loop import train_stage
from beholder.train.objectives import next_token
from beholder.train.pairs import PairCollator
from tests.media.test_recordings import made
from tests.media.test_waves import encoded
from tests.test_hearing import SOUNDS, speech_tokenizer
from tests.toys import DECODER, DUAL, TEXT, byte_tokenizer
from tests.train.learning import learn, pictures, stirred
from tests.train.test_loop import metrics, settings
from tests.train.toys_of_media import ALL_KINDS, WATCHES

CLIP, WAV = made("mp4", 20), encoded("WAV", "PCM_16")
QUESTION, ANSWER = "What happens?", "It turns red."
TOKENIZER = byte_tokenizer()


def tiny(name: str) -> Card:
    """A published card at tiny size, with room for a conversation in bytes."""
    small = card(name).tiny()
    both = "encoder" in small.main.__dataclass_fields__
    return small.but(**{"language.encoder.context" if both else "language.context": 2048})


def talk(*asked: object, answer: str = ANSWER, key: str = "talk") -> Conversation:
    return Conversation((user(*asked), assistant(answer)), (), key)


def as_answered(model: Model, asked: list[Message], item: TrainBatch) -> Tensor:
    """The answer's loss by a forward of what a request is prepared to, with the answer behind the prompt."""
    batch, targets_A = Pipeline(model, TOKENIZER).prepare([asked]).batch, item.answers.targets_A
    (ids_T,) = batch.ids_BT
    if model.card.main.reads_apart:
        start = torch.tensor([model.card.main.start_id])
        target_BT = torch.cat((start, targets_A[:-1]))[None]
        whole = replace(batch, target_BT=target_BT, target_lengths=(len(targets_A),))
        logits_AV = model(whole).heads["text"][0]
    else:
        ids_BT = torch.cat((ids_T, targets_A))[None]
        whole = replace(batch, ids_BT=ids_BT, lengths=(ids_BT.shape[1],))
        logits_AV = model(whole).heads["text"][0, len(ids_T) - 1 : -1]
    return F.cross_entropy(logits_AV.float(), targets_A)


@pytest.mark.parametrize(
    ("system", "asked"),
    [
        (WATCHES, (Clip(CLIP), QUESTION)),
        ("llava-onevision-7b", (Clip(CLIP), QUESTION)),
        ("pllava-7b", (Clip(CLIP), QUESTION)),
        ("qwen2-vl-2b", (Clip(CLIP), QUESTION)),
        ("qwen2-vl-2b", ("First ", Picture(pictures(1, (60, 40))[0]), Clip(CLIP), QUESTION)),
        ("qwen2-audio-7b", (Sound(WAV), QUESTION)),
        ("pali-3", (Clip(CLIP), QUESTION)),
        (ALL_KINDS, (Sound(WAV), "and ", Clip(CLIP), Picture(pictures(1)[0]), QUESTION)),
    ],
)
def test_the_loss_is_that_of_answering(system: str | Card, asked: tuple[object, ...]) -> None:
    model = stirred(tiny(system) if isinstance(system, str) else system)
    shown = tuple(part.source for part in asked if isinstance(part, Picture))
    bare = [Picture() if isinstance(part, Picture) else part for part in asked]
    one = Conversation((user(*bare), assistant(ANSWER)), shown, "talk")
    item = Collator(model.card, TOKENIZER)([one])
    assert TOKENIZER.decode(item.answers.targets_A.tolist(), skip_special=False).startswith(ANSWER)
    with torch.no_grad():
        torch.testing.assert_close(
            next_token(model, item), as_answered(model, [user(*asked)], item), atol=1e-5, rtol=1e-5
        )
    learn(model, next_token, item)


def test_rows_of_all_kinds_stand_in_one_batch() -> None:
    """The loss is the mean over them; packed into rows as well, where no span of a clip or sound is cut."""
    items: list[Item] = [
        talk("Hm?", answer="No.", key="words"),
        Conversation((user(Picture(), "What?"), assistant("Dots.")), tuple(pictures(1)), "picture"),
        talk(Clip(CLIP), QUESTION, key="clip"),
        talk(Sound(WAV), "Loud?", answer="Yes.", key="sound"),
        talk(Clip(CLIP), Sound(WAV), QUESTION, key="both"),
    ]
    model, collate = stirred(ALL_KINDS), Collator(ALL_KINDS, TOKENIZER)
    together = collate(items)
    packed = Collator(ALL_KINDS, TOKENIZER, tokens=200, media=40)(items)
    assert len(together.batch.lengths) == 5 > len(packed.batch.lengths)
    assert max(packed.batch.lengths) <= 200
    with torch.no_grad():
        alone = torch.stack([next_token(model, collate([one])) for one in items]).mean()
        for item in (together, packed):
            torch.testing.assert_close(next_token(model, item), alone, atol=1e-5, rtol=1e-5)
    assert [collate.measure_item(one)[0] for one in items] == list(together.batch.lengths)
    learn(model, next_token, together)


def test_long_conversations_lose_whole_turns_with_their_media() -> None:
    long = Conversation(
        (user(Clip(CLIP), "One?"), assistant("a"), user(Clip(CLIP), Sound(WAV), "Two?"), assistant("b")),
        (),
        "long",
    )
    whole = Collator(ALL_KINDS, TOKENIZER)([long])
    room = whole.batch.lengths[0] - 1
    short = ALL_KINDS.but(language=DECODER.but(context=room))
    cut = Collator(short, TOKENIZER, longest="cut")([long])
    assert len(cut.batch.views["image"]) == 3 and not cut.batch.views.get("audio")
    assert len(whole.batch.views["image"]) == 6 and len(whole.batch.views["audio"]) == 2
    with pytest.raises(ItemError, match=rf"of them of pictures and sounds; at most {room} can be read"):
        Collator(short, TOKENIZER)([long])


def test_pairs_are_of_pictures() -> None:
    with pytest.raises(
        BeholderError, match="has 0 pictures and 1 clips or sounds; toy-dual compares one with its"
    ):
        PairCollator(DUAL, TOKENIZER)([talk(Clip(CLIP))])


def test_tokens_of_adapters_count() -> None:
    words = talk("x" * 40)
    (length,) = Collator(TEXT, TOKENIZER)([words]).batch.lengths
    fits = TEXT.but(language=DECODER.but(context=length + 3))
    Collator(fits, TOKENIZER)([words])
    adapted = fits.but(adapters=(PrefixTuning(count=4),))
    with pytest.raises(ItemError, match=f"at most {length - 1} can be read"):
        Collator(adapted, TOKENIZER)([words])


def writer() -> Card:
    decoder = DECODER.but(cross=CrossAttention(4, qkv_bias=True, k_bias=True, out_bias=True), context=64)
    return Card(
        name="toy-writes",
        branches=(SOUNDS.but(connector=None),),
        fusion=(Memory("audio"),),
        language=decoder,
        heads=TEXT.heads,
    )


def test_what_writes_down_speech_learns_the_words() -> None:
    """Whisper's kind: its first tokens, which are not learned, the words and the last token, behind the sound as memory."""
    model, tokenizer = stirred(writer()), speech_tokenizer()
    samples = np.random.default_rng(0).standard_normal(1600).astype(np.float32)
    said = talk(Sound(samples), answer="hello")
    item = Collator(model.card, tokenizer)([said])
    assert item.batch.ids_BT.tolist() == [[257, 262, *b"hello", 256]]
    assert item.answers.targets_A.tolist() == [*b"hello", 256]
    plans = hearing.sound_plans(model.card, [samples])
    given = Batch(plans=(tuple(plans),), ids_BT=item.batch.ids_BT)
    given = hearing.with_sounds(given, model.card, [[samples]], [plans], model.device)
    with torch.no_grad():
        logits_TV = model(given).heads["text"][0]
        expected = F.cross_entropy(logits_TV[1:-1], item.answers.targets_A)
        torch.testing.assert_close(next_token(model, item), expected, atol=1e-5, rtol=1e-5)
    learn(model, next_token, item)
    with pytest.raises(
        BeholderError, match=r"toy-writes writes down sounds, .* leave out the words of users \(bare=true\)"
    ):
        Collator(model.card, tokenizer)([talk(Sound(samples), "What?")])
    with pytest.raises(ItemError, match="sample talk: a sound longer than is heard at once; cut it"):
        Collator(model.card, tokenizer)([talk(Sound(np.tile(samples, 5)))])


class Films:
    """Clips of one colour, of which the colour is asked."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Conversation:
        colour = 255 * (index % 2)
        frames = np.full((4, 28, 28, 3), colour, np.uint8)
        return talk(Clip(frames), "c?", answer="white" if colour else "black", key=str(index))


class Stops(Films):
    """Asks the process to end while the second step's clips are made."""

    def __getitem__(self, index: int) -> Conversation:
        if self.seen == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        self.seen += 1
        return super().__getitem__(index)

    seen = 0


def test_a_run_on_clips_resumes_bit_for_bit(tmp_path: Path) -> None:
    stage = Stage("watch", rules=(Trains("*", lr=3e-3),), steps=4, batch=4, warmup=1)
    collate = Collator(WATCHES, TOKENIZER)

    def run(films: Films, folder: str, **changes: object) -> tuple[Model, bool]:
        torch.manual_seed(0)
        model = build(WATCHES)
        return model, train_stage(
            model, stage, films, collate, settings(tmp_path / folder, **changes)
        ).finished

    whole, _ = run(Films(), "whole")
    assert not run(Stops(), "parted", ahead=1)[1]
    resumed, finished = run(Films(), "parted")
    assert finished
    losses = [[record["loss"] for record in metrics(tmp_path / folder)] for folder in ("whole", "parted")]
    assert losses[0] == losses[1] and len(losses[0]) == 4
    for (name, one), other in zip(whole.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(one, other[1]), name
