"""Losses over pictures themselves, against their formulas."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from beholder.cards import card
from beholder.cards.schema import Card
from beholder.data.samples import Sample, Turn
from beholder.errors import BeholderError, UnknownName
from beholder.media.geometry import Fixed
from beholder.parts.codecs.sizes import EMU3
from beholder.parts.fusion.code_words import CodeWords
from beholder.parts.heads.next_feature import NextFeature
from beholder.parts.heads.next_patch import normed_patches
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision.coded import Coded
from beholder.train.collate import Collator
from beholder.train.objectives import labelled, named, next_token, pixels_and_text
from beholder.train.pairs import PairCollator
from tests.toys import CHAT, DECODER, SEES, TEXT, byte_tokenizer
from tests.train.learning import learn, pictures, stirred, titled, untouched

TOKENIZER = byte_tokenizer()
PROBE = card("aimv2-l-14-probe").tiny()
FORETELLS = SEES.but(name="toy-foretells", heads=(NextToken(), NextFeature()))
WORDS, END = tuple(range(100, 116)), 99
CODED = Card(
    name="toy-coded",
    vision=Coded(EMU3.tiny(), 32),
    images=Fixed(size=(16, 16)),
    fusion=(CodeWords(7, WORDS, row_end=END),),
    language=DECODER,
    heads=(NextToken(),),
    prompt=CHAT,
)


def seen(chosen: Card):
    samples = [
        Sample(pixels, (Turn("What?", answer, "x"),), answer)
        for pixels, answer in zip(pictures(2), ("a cat", "3"), strict=True)
    ]
    return Collator(chosen, TOKENIZER)(samples)


@torch.no_grad()
def test_a_label_is_one_of_all() -> None:
    words = PROBE.heads[0].words
    model, item = stirred(PROBE), PairCollator(PROBE, TOKENIZER)(titled((words[2], words[5]), (40, 50)))
    assert item.batch.ids_BT is None and len(item.batch.views["image"]) == 2
    scores = model(item.batch).heads["labels"]
    want = sum(scores[i].logsumexp(0) - scores[i, own] for i, own in enumerate((2, 5))) / 2
    assert torch.allclose(labelled(model, item), want, atol=1e-5)
    with pytest.raises(UnknownName, match="label of aimv2-l-14-probe 'unicorn'"):
        labelled(model, PairCollator(PROBE, TOKENIZER)(titled(("unicorn",), (40, 50))))
    with pytest.raises(BeholderError, match="no head Labels"):
        labelled(stirred(SEES), item)


@torch.no_grad()
def test_several_labels_hold_at_once() -> None:
    """Each label by itself: log(1 + exp(-z)) where it holds, log(1 + exp(z)) elsewhere."""
    several = PROBE.but(heads=(PROBE.heads[0].but(several=True, names=tuple("abcdefgh")),))
    model, item = stirred(several), PairCollator(several, TOKENIZER)(titled(("a|c", "h"), (40, 50)))
    scores = model(item.batch).heads["labels"]
    signs = -torch.ones(2, 8)
    signs[0, [0, 2]] = signs[1, 7] = 1.0
    assert torch.allclose(labelled(model, item), torch.log1p(torch.exp(-signs * scores)).mean(), atol=1e-5)


def test_a_probe_is_learned() -> None:
    words = PROBE.heads[0].words
    model = stirred(PROBE)
    learn(model, labelled, PairCollator(PROBE, TOKENIZER)(titled(words[:3], (40, 50))))
    assert not untouched(model)


@torch.no_grad()
def test_pixels_of_the_next_patch_beside_the_next_token() -> None:
    """0.4 of the squared error of patches of mean 0 and variance 1, beside the answers' cross-entropy."""
    chosen = card("aimv2-l-14-pretraining").tiny().but(prompt=CHAT)
    model, item = stirred(chosen).eval(), seen(chosen)
    given = model(item.batch).heads["patches"]
    errors, at = [], 0
    for view in item.batch.views["image"]:
        wanted = normed_patches(view, 14)
        errors.append((given[at : at + len(wanted) - 1] - wanted[1:]).square().flatten())
        at += len(wanted)
    want = next_token(model, item) + 0.4 * torch.cat(errors).mean()
    assert torch.allclose(pixels_and_text(model, item), want, atol=1e-5)


@torch.no_grad()
def test_the_next_feature_is_regressed() -> None:
    """From each token in front of a feature, the first included; what is foretold is what the language model reads."""
    model, item = stirred(FORETELLS), seen(FORETELLS)
    output = model(item.batch)
    features = torch.stack(output.branches["image"].packed.split())
    errors = []
    for row in range(2):
        places = (item.batch.ids_BT[row] == 999).nonzero().flatten().tolist()
        for number, place in enumerate(places):
            foretold = output.language.hidden_BTD[row, place - 1] @ model.heads[1].linear.weight.T
            errors.append((foretold - features[row, number]).square().mean())
    want = next_token(model, item) + torch.stack(errors).mean()
    assert torch.allclose(named("next-token, features")(model, item), want, atol=1e-5)


def test_features_are_learned_and_held_still() -> None:
    model, item = stirred(FORETELLS), seen(FORETELLS)
    objective = named("next-token, features")
    learn(model, objective, item)
    assert not untouched(model)
    words = replace(
        item,
        batch=replace(
            item.batch, ids_BT=item.batch.ids_BT.masked_fill(item.batch.ids_BT == 999, 5), views={}, plans=()
        ),
    )
    with pytest.raises(BeholderError, match="no picture whose features"):
        objective(model, words)
    with pytest.raises(BeholderError, match="no head NextFeature"):
        objective(stirred(SEES), seen(SEES))
    with pytest.raises(BeholderError, match="needs a language part"):
        NextFeature().build(None)


@torch.no_grad()
def test_codes_of_pictures_are_foretold() -> None:
    """Half of the cross-entropy of a picture's words and ends of rows, each from the place before, beside the answers'."""
    model, item = stirred(CODED), seen(CODED)
    branches = model.encode(item.batch)
    ids = model.fusion[0].read(item.batch.ids_BT, branches)
    scores = model(item.batch).heads["text"]
    losses = [
        F.cross_entropy(scores[row, place - 1], ids[row, place])
        for row, place in (item.batch.ids_BT == 7).nonzero().tolist()
    ]
    assert len(losses) == 2 * 8 * (8 + 1) and {int(i) for i in ids[item.batch.ids_BT == 7]} & {END}
    want = next_token(model, item) + 0.5 * torch.stack(losses).mean()
    assert torch.allclose(named("next-token, codes")(model, item), want, atol=1e-5)


def test_codes_are_learned() -> None:
    model, item = stirred(CODED), seen(CODED)
    objective = named("next-token, codes")
    learn(model, objective, item)
    assert not untouched(model)
    with pytest.raises(BeholderError, match="no codes of pictures among its words"):
        objective(stirred(SEES), seen(SEES))
    silent = stirred(CODED.but(language=DECODER.but(silent=(100, 116))))
    with pytest.raises(BeholderError, match="never writes codes"):
        objective(silent, item)
    with pytest.raises(BeholderError, match="no codes of pictures"):
        objective(stirred(TEXT), Collator(TEXT, TOKENIZER)([replace_text()]))


def replace_text():
    from beholder.data.samples import Conversation
    from beholder.prompts.messages import assistant, user

    return Conversation((user("hi"), assistant("ho")), (), "text")
