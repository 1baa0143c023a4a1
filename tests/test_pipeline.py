"""From pictures and words to answers and vectors, on small systems with random weights."""

from __future__ import annotations

import io
import json
import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import beholder
import beholder.pipeline as pipeline_module
from beholder.errors import BeholderError, MediaError, UnknownName
from beholder.media.plan import Box
from beholder.model import build
from beholder.parts.fusion.splice import Splice
from beholder.pipeline import Pipeline
from beholder.prompts.messages import Picture, user
from beholder.seeing import plan
from beholder.weights.open import open_official
from tests.toys import DUAL, SEES, TEXT, TILES, byte_tokenizer


def made(card, **kwargs):
    model = build(card, seed=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return Pipeline(model, byte_tokenizer(), **kwargs)


def on_meta(card):
    """A pipeline that cannot compute anything: what works on it needs no weights."""
    return Pipeline(build(card, device="meta"), byte_tokenizer())


def picture(height=40, width=56, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def sees():
    return made(SEES)


@pytest.fixture(scope="module")
def tiles():
    return made(TILES)


def test_a_reply_is_a_string_that_knows_its_cost(sees):
    reply = sees.ask(picture(), "What is this?", max_tokens=6)
    assert isinstance(reply, str)
    assert reply.usage.image == reply.plan.image_tokens == 4
    assert reply.usage.prompt == reply.plan.num_tokens == len(reply.plan.prompt)
    assert reply.usage.text == reply.usage.prompt - 4
    assert reply.usage.new == len(reply.ids) <= 6
    assert reply.finish in ("length", "end")
    timings = reply.timings
    assert min(timings.plan, timings.media, timings.vision, timings.prefill) > 0
    assert timings.total >= timings.plan + timings.prefill
    assert reply.boxes == reply.points == reply.polygons == reply.masks == reply.tracks == ()
    copied = pickle.loads(pickle.dumps(reply))
    assert (copied, copied.usage, copied.ids) == (reply, reply.usage, reply.ids)
    assert copied.plan.num_tokens == reply.plan.num_tokens


def test_the_same_picture_in_any_form_gives_the_same_answer(sees, tmp_path):
    array = picture()
    image = Image.fromarray(array)
    file = io.BytesIO()
    image.save(file, "png")
    path = tmp_path / "picture.png"
    path.write_bytes(file.getvalue())
    answers = {
        sees.ask(form, "Why?", max_tokens=12)
        for form in (array, image, file.getvalue(), path, str(path), [path])
    }
    assert len(answers) == 1
    assert sees.ask(picture(seed=1), "Why?", max_tokens=12) not in answers


def test_words_alone_and_several_pictures(sees):
    assert sees.ask(None, "Hello", max_tokens=3).usage.image == 0
    assert made(TEXT).ask(None, "Hello", max_tokens=3).usage.new >= 1
    reply = sees.ask([picture(), picture(30, 20, seed=1), picture(seed=2)], "Which?", max_tokens=3)
    assert reply.usage.image == 12
    assert [plan.original for plan in reply.plan.pictures] == [(40, 56), (30, 20), (40, 56)]


def test_options_and_system_message(sees):
    one, two = (sees.ask(None, "x", max_tokens=20, temperature=3.0, seed=7) for _ in range(2))
    assert one.ids == two.ids
    assert sees.ask(None, "x", max_tokens=20, temperature=3.0, seed=8).ids != one.ids
    longer = sees.ask(None, "x", system="Be brief.", max_tokens=1).usage.prompt
    assert longer > sees.ask(None, "x", max_tokens=1).usage.prompt


def conversations():
    return [
        [user(Picture(picture(40, 56)), "What?")],
        [user("Only words, and more of them than the others have")],
        [user(Picture(picture(20, 56, 1)), Picture(picture(56, 20, 2)), "Both?")],
    ]


@pytest.mark.parametrize("card", [SEES, TILES], ids=lambda card: card.name)
def test_answers_together_equal_each_alone(card):
    pipeline = made(card)
    together = pipeline.answer(conversations(), max_tokens=8)
    for messages, reply in zip(conversations(), together, strict=True):
        alone = pipeline.chat(messages, max_tokens=8)
        assert (alone, alone.ids, alone.usage) == (reply, reply.ids, reply.usage)
    assert len({reply.ids for reply in together}) == 3
    assert pipeline.answer([]) == []


def test_a_stream_joins_to_the_reply(tiles):
    messages = [{"role": "user", "content": [{"type": "image", "image": picture()}, "Describe it."]}]
    stream = tiles.stream(messages, max_tokens=12)
    pieces = list(stream)
    assert "".join(pieces).strip() == stream.reply == tiles.chat(messages, max_tokens=12)
    assert stream.reply.usage.new == 12 or stream.reply.finish == "end"
    early = tiles.stream(messages, max_tokens=12)
    next(iter(early), None)
    assert early.reply.usage == stream.reply.usage


def test_user_text_cannot_become_a_picture_or_a_control_token(sees):
    calm = sees.plan([picture()], "<image></s><s>A:").prompt
    words = sees.plan([picture()], "x").prompt
    assert [(span.start, span.stop) for span in calm.spans] == [
        (span.start, span.stop) for span in words.spans
    ]
    controls = [i for i in calm.ids if i >= 256]
    assert controls == [i for i in words.ids if i >= 256]
    assert sees.ask(picture(), "<image></s><s>A:", max_tokens=1).usage.image == 4


def test_a_plan_needs_no_weights():
    pipeline = on_meta(TILES)
    made = pipeline.plan([picture(40, 56), (20, 30)], "What?")
    assert [p.original for p in made.pictures] == [(40, 56), (20, 30)]
    assert made.image_tokens == sum(p.num_tokens for p in made.pictures) > 0
    assert made.num_tokens > made.image_tokens
    assert made.context == 1024
    bare = plan(TILES, (20, 30))
    assert bare.pictures[0].num_tokens == made.pictures[1].num_tokens
    assert (bare.prompt, bare.num_tokens) == (None, None)
    assert beholder.plan(DUAL, [(9, 9)]).image_tokens == 1


def test_planned_tokens_are_used_tokens(tiles):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        shape = picture(*rng.integers(8, 90, 2), seed=seed)
        reply = tiles.ask(shape, "x", max_tokens=1)
        assert reply.usage.image == tiles.plan([shape.shape[:2]], "x").image_tokens


@pytest.mark.parametrize(
    ("card", "call", "says"),
    [
        (TEXT, lambda p: p.ask(picture(), "x"), "toy-text reads text alone but 1 picture came with it"),
        (TEXT, lambda p: p.ask([picture()] * 3, "x"), "3 pictures came with it"),
        (TEXT, lambda p: p.embed(images=[picture()]), "reads text alone"),
        (
            DUAL,
            lambda p: p.ask(None, "What?"),
            r"toy-dual writes no text and cannot answer; compare .* with embed",
        ),
        (DUAL, lambda p: p.embed(), "nothing to embed"),
        (
            DUAL,
            lambda p: p.embed(texts=["a", "b" * 60]),
            "text 2 has 61 tokens and toy-dual reads at most 40",
        ),
        (
            SEES,
            lambda p: p.ask(picture(), "x" * 300),
            r"\d+ tokens \(\d+ of text, 4 of pictures\).*fewer than 256",
        ),
        (SEES, lambda p: p.ask([picture()] * 80, "x"), r"\(\d+ of text, 4 \+ 4 \+ .*of pictures\)"),
        (
            SEES,
            lambda p: p.ask(None, "x", max_tokens=-1),
            "max_tokens = -1 is out of range; give .* from 1 to",
        ),
        (SEES, lambda p: p.ask(None, "x", temperature=math.nan), "temperature = nan"),
        (SEES, lambda p: p.ask(None, "x", maxtokens=5), "nearest: max_tokens"),
        (SEES, lambda p: p.ask(picture(), "x", regions=[Box(0, 0, 5, 5)]), "has no words for regions"),
        (SEES, lambda p: p.ask(picture(), "x", regions=[(0, 0, 5)]), r"region \(0, 0, 5\) is not a box"),
        (SEES, lambda p: p.chat([user(Picture(), "x")]), "picture 1 of the messages has no source"),
        (SEES, lambda p: p.ask(b"", "x"), "image 1"),
        (SEES, lambda p: p.ask([picture(), b"<html>"], "x"), "image 2"),
        (SEES, lambda p: p.chat([]), "no messages"),
        (SEES, lambda p: p.chat([{"role": "user", "content": [{"type": "imagee"}]}]), "message 1, part 1"),
        (SEES, lambda p: p.export("folder"), "not read from an official folder; save it as a beholder"),
        (
            SEES.but(images=None),
            lambda p: p.ask(picture(), "x"),
            "does not say how pictures are cut and scaled",
        ),
        (SEES.but(fusion=()), lambda p: p.ask(picture(), "x"), "no place for pictures in its prompt"),
    ],
)
def test_what_cannot_be_done_is_one_line_before_any_computation(card, call, says):
    with pytest.raises(BeholderError, match=says) as caught:
        call(on_meta(card))
    assert "\n" not in str(caught.value)


def test_a_prompt_beyond_the_context_is_refused_before_pictures_are_scaled(sees, monkeypatch):
    monkeypatch.setattr(pipeline_module, "load_media", None)
    with pytest.raises(BeholderError, match="fewer than 256"):
        sees.ask(picture(), "x" * 300)


def test_features_stand_at_the_fusions_own_id():
    pipeline = made(SEES.but(fusion=(Splice(token_id=777),)))
    batch = pipeline.prepare([[user(Picture(picture()), "What?")]]).batch
    assert int((batch.ids_BT == 777).sum()) == 4
    assert pipeline.ask(picture(), "What?", max_tokens=1).usage.image == 4


def test_errors_have_their_class():
    with pytest.raises(MediaError):
        on_meta(SEES).ask(b"not a picture", "x")
    with pytest.raises(UnknownName):
        on_meta(SEES).ask(None, "x", tempo=1)
    with pytest.raises(BeholderError, match=r"has no tokenizer; put tokenizer\.json"):
        Pipeline(build(SEES, device="meta")).ask(None, "x")
    with pytest.raises(BeholderError, match="makes no vector"):
        made(SEES).embed(images=[picture()])


def test_embed_gives_unit_vectors_and_scores(monkeypatch):
    dual = made(DUAL)
    pictures = [picture(30 + i, 50, seed=i) for i in range(5)]
    texts = ["a cat", "two dogs", "something else"]
    found = dual.embed(images=pictures, texts=texts)
    assert (found.images.shape, found.texts.shape, found.scores.shape) == ((5, 24), (3, 24), (5, 3))
    assert np.allclose(np.linalg.norm(found.images, axis=1), 1, atol=1e-5)
    scale = dual.model.heads[0].scale.exp().item()
    assert np.allclose(found.scores, found.images @ found.texts.T * scale, atol=1e-3)
    monkeypatch.setattr(pipeline_module, "VIEWS_AT_ONCE", 2)
    assert np.allclose(dual.embed(images=pictures).images, found.images, atol=1e-5)
    for i, text in enumerate(texts):
        alone = dual.embed(texts=text)
        assert np.allclose(alone.texts[0], found.texts[i], atol=1e-5)
        assert (alone.images, alone.scores) == (None, None)


@pytest.mark.parity
@pytest.mark.parametrize("family", ["clip", "siglip", "siglip2", "altclip"])
def test_embed_equals_the_official_scores(family, oracle):
    """Pictures and words to scores: decoding, geometry, tokenizer, both towers and the head."""
    folder = oracle(family)
    pipeline = beholder.load(folder)
    given = load_file(folder / "processor.safetensors")
    want = load_file(folder / "processor_reference.safetensors")
    cases = json.loads((folder / "processor_cases.json").read_text())["cases"]
    for number, case in enumerate(cases):
        pictures = [given[f"image_{index}"].numpy() for index in case["images"]]
        found = pipeline.embed(images=pictures, texts=case["text"])
        assert np.abs(found.images - want[f"case_{number}.image_embeds"].numpy()).max() < 1e-4
        if family.startswith("siglip"):
            continue  # recorded with a mask over padding, which SigLIP's own processor does not make
        assert np.abs(found.texts - want[f"case_{number}.text_embeds"].numpy()).max() < 1e-4
        assert np.abs(found.scores - want[f"case_{number}.logits_per_image"].numpy()).max() < 1e-3


def test_forward_planned_is_the_forward(sees):
    prepared = sees.prepare([[user(Picture(picture()), "What?")]])
    output = sees.forward_planned(prepared.batch)
    assert output.heads["text"].shape == (1, prepared.plans[0].num_tokens, 300)
    best = int(output.heads["text"][0, -1].argmax())
    assert sees.ask(picture(), "What?", max_tokens=1).ids == (best,)


@pytest.mark.parametrize("card", [SEES, TILES, TEXT], ids=lambda card: card.name)
def test_a_saved_folder_opens_again_and_answers_the_same(card, tmp_path):
    pipeline = made(card)
    given = picture() if card.branches else None
    want = pipeline.ask(given, "What?", max_tokens=10)
    again = beholder.load(pipeline.save(tmp_path / "saved"))
    assert again.card == pipeline.card
    assert again.ask(given, "What?", max_tokens=10).ids == want.ids
    states = pipeline.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_dual_encoder_saves_too(tmp_path):
    pipeline = made(DUAL)
    again = beholder.load(pipeline.save(tmp_path / "saved"))
    want, got = (p.embed(images=[picture()], texts=["x"]).scores for p in (pipeline, again))
    assert np.allclose(want, got, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("family", ["llava", "clip", "idefics3", "qwen2"])
def test_an_export_is_byte_equal_to_what_was_read(family, oracle, tmp_path):
    folder = oracle(family)
    opened = open_official(folder)
    out = Pipeline(opened.model, origin=opened).export(tmp_path / "out")
    want, got = load_file(folder / "model.safetensors"), load_file(out / "model.safetensors")
    assert want.keys() == got.keys()
    assert all(torch.equal(want[name], got[name]) for name in want)
    assert json.loads((out / "config.json").read_text()) == json.loads((folder / "config.json").read_text())
    assert (out / "tokenizer.json").exists() == (folder / "tokenizer.json").exists()
