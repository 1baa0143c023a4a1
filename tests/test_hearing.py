"""Sounds in conversations: their places and tokens in prompts, what the encoder is given, and speech that is written down."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError, MediaError
from beholder.media.plan import Grid
from beholder.media.sound import Fbank, LogMel, Waveform
from beholder.media.stretches import Stretches, load_sound, plan_sound
from beholder.model import build
from beholder.parts.audio.positions import SignalTable
from beholder.parts.audio.stems import FrameConvs
from beholder.parts.audio.transformer import SignalTransformer
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.connectors.adjacent import Adjacent
from beholder.parts.connectors.projections import Linear
from beholder.parts.contracts import Packed
from beholder.parts.fusion.memory import Memory
from beholder.parts.fusion.splice import Splice
from beholder.pipeline import Pipeline
from beholder.prompts.chat import Turn
from beholder.prompts.messages import Picture, Sound, system, user
from beholder.prompts.tokenizer import Tokenizer
from beholder.seeing import part_of
from tests.toys import CHAT, DECODER, SEES, TEXT, byte_tokenizer

FRONT = LogMel(bins=16, seconds=0.32)  # 32 columns, 5120 samples
EARS = SignalTransformer(
    stem=FrameConvs(),
    size=(16, 32),
    dim=32,
    num_layers=2,
    attention=Attention(num_heads=4, qkv_bias=True, k_bias=False, out_bias=True),
    mlp=FeedForward(48),
    positions=SignalTable(),
    shrink=2,
)
SOUNDS = Branch((EARS,), connector=Linear(), name="audio", modality="audio", front=FRONT)
HEARS = Card(
    name="toy-hears",
    branches=(SOUNDS,),
    fusion=(Splice(token_id=998, at="<audio>", branch="audio"),),
    language=DECODER,
    heads=TEXT.heads,
    prompt=CHAT.but(sounds=Turn("Audio {n}: ", "\n")),
)
BOTH = HEARS.but(
    name="toy-both",
    branches=(SOUNDS, *SEES.branches),
    fusion=(Splice(token_id=998, at="<audio>", branch="audio"), *SEES.fusion),
)
RNG = np.random.default_rng(0)
SHORT, LONG = ((RNG.standard_normal(count) * 0.1).astype(np.float32) for count in (1600, 12000))


def pipeline_of(card: Card) -> Pipeline:
    return Pipeline(build(card, seed=3), byte_tokenizer())


def of(stretches: Stretches) -> Card:
    return HEARS.but(branches=(SOUNDS.but(stretches=stretches),))


def test_sounds_stand_where_the_message_has_them() -> None:
    pipeline = pipeline_of(HEARS)
    prepared = pipeline.prepare([[user("First ", Sound(SHORT), "then ", Sound(SHORT), "what?")]])
    ids = prepared.batch.ids_BT[0].tolist()
    assert ids.count(998) == 2 * 8
    text = byte_tokenizer().decode([i for i in ids if i < 256], skip_special=False)
    assert text == "U:First Audio 1: \nthen Audio 2: \nwhat?A:"
    (plan,) = prepared.plans
    assert [sound.num_tokens for sound in plan.sounds] == [8, 8] and not plan.pictures
    assert [(span.picture, span.stop - span.start) for span in plan.prompt.sounds] == [(0, 8), (1, 8)]


def test_padding_is_silence_or_is_told() -> None:
    padded = pipeline_of(of(Stretches())).prepare([[user(Sound(SHORT))]])
    told = pipeline_of(of(Stretches(padded=False))).prepare([[user(Sound(SHORT))]])
    assert not padded.batch.columns and padded.plans[0].sounds[0].num_tokens == 8
    assert told.batch.columns == {"audio": [10]} and told.plans[0].sounds[0].num_tokens == 2
    assert torch.equal(padded.batch.views["audio"][0], FRONT.view(SHORT))
    assert torch.equal(told.batch.views["audio"][0], FRONT.view(SHORT))


def test_long_sounds_are_cut_into_stretches() -> None:
    prepared = pipeline_of(of(Stretches(padded=False))).prepare([[user(Sound(LONG))]])
    views = prepared.batch.views["audio"]
    assert len(views) == 3 and prepared.batch.columns == {"audio": [32, 32, 11]}
    assert torch.equal(views[1], FRONT.view(LONG[5120:10240]))
    assert [grid.num_tokens for grid in prepared.plans[0].sounds[0].grids] == [8, 8, 3]
    with pytest.raises(MediaError, match=r"sound 1: 0\.8 seconds are more than the 0 that are heard"):
        pipeline_of(of(Stretches(most=1))).prepare([[user(Sound(LONG))]])


def test_one_spectrogram_of_all_stretches_knows_no_seam() -> None:
    stretches = Stretches(together=True)
    plan = plan_sound(len(LONG), FRONT, stretches, EARS.view_grid, lambda _, grids: grids)
    joined = torch.cat(load_sound(LONG, plan, FRONT, stretches), -1)
    assert torch.equal(joined, LogMel(bins=16, seconds=0.96).view(LONG))
    apart = torch.cat(load_sound(LONG, plan, FRONT, Stretches()), -1)
    assert not torch.equal(joined, apart)


@pytest.mark.parametrize("front", [LogMel(seconds=None), Waveform(), Fbank()])
def test_fronts_of_any_length_give_one_view(front: LogMel | Waveform | Fbank) -> None:
    plan = plan_sound(len(LONG), front, Stretches(), lambda view: Grid(1, *view.size), lambda _, grids: grids)
    (view,) = load_sound(LONG, plan, front, Stretches())
    assert plan.grids == (Grid(*view.shape),)


def test_an_answer_depends_on_what_is_heard_and_on_nothing_beside_it() -> None:
    pipeline = pipeline_of(of(Stretches(padded=False)))
    alone = [pipeline.ask(Sound(samples), "What?", max_tokens=6) for samples in (SHORT, LONG)]
    together = pipeline.answer([[user(Sound(samples), "What?")] for samples in (SHORT, LONG)], max_tokens=6)
    assert [reply.ids for reply in together] == [reply.ids for reply in alone]
    logits = [
        pipeline.forward_planned(pipeline.prepare([[user(Sound(x), "What?")]]).batch).heads["text"][0, -1]
        for x in (SHORT, SHORT[::-1].copy())
    ]
    assert not torch.allclose(*logits, atol=1e-4)
    assert alone[0].usage.image == 2


def test_sounds_and_pictures_keep_their_own_places() -> None:
    pipeline = pipeline_of(BOTH)
    picture = np.full((30, 20, 3), 90, np.uint8)
    prepared = pipeline.prepare([[user(Sound(SHORT), Picture(picture), "What?")]])
    ids = prepared.batch.ids_BT[0].tolist()
    assert (ids.count(998), ids.count(999)) == (8, 4)
    assert ids.index(998) < ids.index(999)
    output = pipeline.forward_planned(prepared.batch)
    for name, count in (("audio", 8), ("image", 4)):
        assert len(output.branches[name].packed.tokens_ND) == count
    spans = pipeline.plan([Sound(SHORT), picture], "What?").prompt
    assert spans is not None and len(spans.sounds) == len(spans.spans) == 1


def test_a_file_of_a_sound_is_recognised() -> None:
    soundfile = pytest.importorskip("soundfile")
    buffer = io.BytesIO()
    soundfile.write(buffer, SHORT, 16000, format="WAV", subtype="FLOAT")
    assert isinstance(part_of(buffer.getvalue()), Sound)
    pipeline = pipeline_of(HEARS)
    file = pipeline.ask(buffer.getvalue(), "What?", max_tokens=4)
    assert file.ids == pipeline.ask(Sound(SHORT), "What?", max_tokens=4).ids
    assert pipeline.plan(buffer.getvalue()).sounds[0].num_tokens == 8


@pytest.mark.parametrize(
    ("card", "messages", "said"),
    [
        (SEES, [user(Sound(SHORT), "What?")], "toy-sees hears nothing but 1 sound came with it"),
        (HEARS, [user(Sound(), "What?")], "sound 1 of the messages has no source"),
        (HEARS, [user(Sound(SHORT[:0]), "What?")], "sound 1: samples of shape (0,)"),
        (HEARS, [system(Sound(SHORT)), user("What?")], "a sound in a system message"),
        (
            HEARS.but(prompt=CHAT),
            [user(Sound(SHORT))],
            "chat format toy takes no sounds; sounds in the messages: 1",
        ),
        (
            HEARS.but(branches=(SOUNDS.but(front=None),)),
            [user(Sound(SHORT))],
            "does not say how sounds are heard",
        ),
    ],
)
def test_what_cannot_be_heard_is_told_in_one_line(card: Card, messages: list, said: str) -> None:
    with pytest.raises(BeholderError) as caught:
        pipeline_of(card).chat(messages)
    assert said in str(caught.value)


def test_frames_beyond_the_last_whole_run_are_left_out() -> None:
    connector = Adjacent(3, Linear(), drop=True)
    card = HEARS.but(branches=(SOUNDS.but(connector=connector),))
    prepared = pipeline_of(card).prepare([[user(Sound(LONG))]])
    assert prepared.plans[0].sounds[0].num_tokens == 3 * (8 // 3)
    pipeline_of(card).ask(Sound(LONG), "What?", max_tokens=1)
    module = connector.build(4, 5)
    views = [torch.randn(count, 4) for count in (7, 3)]
    ours = module(Packed(torch.cat(views), tuple(Grid(1, 1, len(view)) for view in views)))
    joined = torch.stack(
        [
            torch.cat([view[i], view[i + 1], view[i + 2]])
            for view, i in ((views[0], 0), (views[0], 3), (views[1], 0))
        ]
    )
    linear = module.then.linear
    torch.testing.assert_close(ours.tokens_ND, joined @ linear.weight.T + linear.bias)
    assert ours.grids == (Grid(1, 1, 2), Grid(1, 1, 1))


WORDS = ("<|startoftranscript|>", "<|en|>", "<|fr|>", "<|translate|>", "<|transcribe|>", "<|notimestamps|>")


def speech_tokenizer() -> Tokenizer:
    """Bytes and Whisper's control tokens, from 256 on."""
    return byte_tokenizer(("<|endoftext|>", *WORDS))


def writer(vocab: int) -> Pipeline:
    decoder = DECODER.but(
        vocab_size=vocab, cross=CrossAttention(4, qkv_bias=True, k_bias=True, out_bias=True), context=64
    )
    branch = SOUNDS.but(connector=None)
    card = Card(
        name="toy-writes", branches=(branch,), fusion=(Memory("audio"),), language=decoder, heads=TEXT.heads
    )
    return Pipeline(build(card, seed=5), speech_tokenizer())


def test_speech_is_written_down_stretch_by_stretch() -> None:
    pipeline = writer(300)
    reply = pipeline.ask(Sound(LONG), max_tokens=5)
    parts = [pipeline.ask(Sound(LONG[start : start + 5120]), max_tokens=5) for start in (0, 5120, 10240)]
    assert reply.ids == sum((part.ids for part in parts), ())
    assert len(reply.ids) == 15 and reply.usage.new == 15 and reply.usage.prompt == 3 * 2
    assert len(reply.plan.sounds[0].views) == 3 and reply.plan.sounds[0].num_tokens == 0
    stream = pipeline.stream([user(Sound(LONG))], max_tokens=5)
    assert "".join(stream) == stream.reply.result.text
    rows = pipeline.answer([[user(Sound(LONG))], [user(Sound(SHORT))]], max_tokens=5)
    assert rows[0].ids == reply.ids and rows[1].ids == pipeline.ask(Sound(SHORT), max_tokens=5).ids


def test_the_language_is_heard_first_and_the_task_is_asked_for() -> None:
    from beholder import hearing

    model, tokenizer = writer(300).model, speech_tokenizer()
    batch = hearing.with_sounds(
        hearing.Batch(plans=((hearing.sound_plans(model.card, [SHORT])[0],),)),
        model.card,
        [[SHORT]],
        [hearing.sound_plans(model.card, [SHORT])],
        model.device,
    )
    assert hearing._language(model, tokenizer, batch) == hearing.ENGLISH
    large = writer(51865)
    language = hearing._language(large.model, tokenizer, batch)
    assert language in ("<|en|>", "<|fr|>")
    scores = large.model(hearing.replace(batch, ids_BT=torch.tensor([[257]]))).heads["text"][0, -1]
    assert (scores[258] > scores[259]) == (language == "<|en|>")
    assert hearing._beginning("<|fr|>", "translate") == (
        "<|startoftranscript|><|fr|><|translate|><|notimestamps|>"
    )
    assert large.ask(Sound(SHORT), "translate", max_tokens=2).usage.prompt == 4
    with pytest.raises(BeholderError, match="English alone"):
        writer(300).ask(Sound(SHORT), "translate")


def test_what_writes_down_sounds_answers_no_words() -> None:
    for sounds, words in (([], "What?"), ([Sound(SHORT)], "What?"), ([Sound(SHORT)] * 2, "")):
        with pytest.raises(BeholderError, match="toy-writes writes down sounds, one at a time"):
            writer(300).ask(sounds, words)
    with pytest.raises(BeholderError, match=r"the tokenizer of toy-writes has no <\|startoftranscript\|>"):
        Pipeline(writer(300).model, byte_tokenizer()).ask(Sound(SHORT))
