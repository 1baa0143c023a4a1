"""ImageBind as a whole: six senses in one space, its published names, and what of recordings it looks at."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from beholder.cards import card
from beholder.errors import BeholderError, MediaError
from beholder.media.clips import EvenClips
from beholder.model import Batch, Model, build
from beholder.pipeline import Pipeline
from beholder.weights.layout import to_published
from beholder.weights.layouts.dual import imagebind_names
from beholder.weights.load import load_state, state_tensors
from tests.toys import byte_tokenizer

SENSES = ("image", "audio", "depth", "thermal", "imu")
SCALES = {"audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}


@pytest.fixture(scope="module")
def tiny() -> Model:
    model = build(card("imagebind-huge").tiny())
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def views_of(model: Model, count: int = 2) -> dict[str, list[torch.Tensor]]:
    encoders = {name: model.card.branch(name).encoders[0] for name in SENSES}
    return {
        name: [torch.randn(encoder.channels, *encoder.size) for _ in range(count)]
        for name, encoder in encoders.items()
    }


@torch.no_grad()
def test_every_sense_has_its_own_length_and_meets_pictures(tiny: Model) -> None:
    views = views_of(tiny)
    output = tiny(Batch(torch.tensor([[1, 7, 300, 0]]), views=views))
    vectors = {name: output.branches[name].packed.tokens_ND for name in SENSES}
    assert all(vector.shape == (2, 32) for vector in vectors.values())
    for name, scale in {"image": 1.0, **SCALES}.items():
        assert torch.allclose(vectors[name].norm(dim=-1), torch.full((2,), scale), rtol=1e-5)
    for scores, name in zip(output.heads["bound"], SCALES, strict=True):
        cosines = F.cosine_similarity(vectors[name][:, None], vectors["image"][None], dim=-1)
        assert torch.allclose(scores, SCALES[name] * cosines, atol=1e-4)
    alone = tiny(Batch(views={"audio": views["audio"]}))
    assert alone.heads["bound"] == (None,) * 4
    assert torch.equal(alone.branches["audio"].packed.tokens_ND, vectors["audio"])
    assert output.heads["similarity"].scores_VB.shape == (2, 1)


def test_the_published_names_come_back(tiny: Model) -> None:
    published = to_published(state_tensors(tiny), imagebind_names(tiny.card))
    names = {
        "modality_preprocessors.vision.rgbt_stem.proj.1.weight",
        "modality_preprocessors.imu.pos_embed",
        "modality_trunks.audio.blocks.1.attn.bias_k",
        "modality_heads.imu.3.weight",
        "modality_postprocessors.thermal.1.log_logit_scale",
        "modality_postprocessors.text.1.log_logit_scale",
    }
    assert names <= published.keys() and all(name.startswith("modality_") for name in published)
    again = build(tiny.card, seed=1)
    load_state(again, published, imagebind_names(tiny.card))
    assert all(torch.equal(value, tiny.state_dict()[name]) for name, value in again.state_dict().items())


def test_counts_of_the_full_size() -> None:
    """Trunks by the numbers of `imagebind_huge`: layers of 12 D^2 + 13 D, the rest by hand."""
    model = build(card("imagebind-huge"), device="meta")

    def layers(dim: int, count: int, extra: int = 0) -> int:
        return count * (12 * dim * dim + 13 * dim + extra)

    want = {
        "image": layers(1280, 32) + 3 * 2 * 14 * 14 * 1280 + 258 * 1280 + 4 * 1280 + 1280 * 1024,
        "audio": layers(768, 12, 2 * 768) + 256 * 768 + 2 * 768 + 230 * 768 + 2 * 768 + 768 * 1024,
        "depth": layers(384, 12, 2 * 384) + 256 * 384 + 2 * 384 + 198 * 384 + 2 * 384 + 384 * 1024,
        "thermal": layers(768, 12, 2 * 768) + 256 * 768 + 2 * 768 + 198 * 768 + 2 * 768 + 768 * 1024,
        "imu": layers(512, 6, 2 * 512) + 48 * 512 + 2 * 512 + 252 * 512 + 2 * 512 + 512 * 1024,
    }
    for name, count in want.items():
        assert sum(p.numel() for p in model.branches[name].parameters()) == count, name


def test_frames_are_evenly_spread_from_first_to_last() -> None:
    clips = EvenClips(seconds=2.0, count=5, frames=2)
    assert clips.spans(10.0) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    assert clips.frame_numbers(100, 10.0) == [[0, 19], [20, 39], [40, 59], [60, 79], [80, 99]]
    assert clips.frame_numbers(7, 10.0) == [[0, 6]] * 5
    three = EvenClips(seconds=1.0, count=1, frames=5).frame_numbers(100, 9.0)[0]
    assert three == [0, 2, 4, 6, 8]
    with pytest.raises(MediaError, match="nothing to look at"):
        clips.spans(0)
    with pytest.raises(BeholderError, match="0 clips"):
        EvenClips(count=0)


def test_sounds_are_heard_in_clips_and_averaged(tiny: Model) -> None:
    pipeline = Pipeline(tiny, byte_tokenizer())
    branch = tiny.card.branch("audio")
    samples = np.random.default_rng(0).normal(0, 0.1, 16000 * 5).astype(np.float32)
    parts = [samples[:32000], samples[24000:56000], samples[48000:]]
    views = [branch.front.view(part) for part in parts]
    with torch.no_grad():
        mean = tiny.branch("audio")(views).tokens_ND.mean(0)
    got = pipeline.embed_signals("audio", [samples])
    assert np.allclose(got[0], (mean / mean.norm()).numpy(), atol=1e-5)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes((samples * 32767).astype("<i2").tobytes())
    assert np.allclose(pipeline.embed_signals("audio", [file.getvalue()]), got, atol=2e-2)


def test_other_signals_come_as_the_encoder_takes_them(tiny: Model) -> None:
    pipeline = Pipeline(tiny, byte_tokenizer())
    views = views_of(tiny)
    for name in ("depth", "thermal", "imu"):
        arrays = [view.numpy() for view in views[name]]
        got = pipeline.embed_signals(name, arrays)
        assert np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
        assert np.allclose(pipeline.embed_signals(name, arrays[1:])[0], got[1], atol=1e-5)
    with pytest.raises(BeholderError, match="unknown branch of imagebind-huge 'smell'"):
        pipeline.embed_signals("smell", [])
    with pytest.raises(BeholderError, match="nothing to embed"):
        pipeline.embed_signals("imu", [])
    with pytest.raises(BeholderError, match="expected .1, 6, "):
        pipeline.embed_signals("imu", [np.zeros((3, 24), np.float32)])
    with pytest.raises(BeholderError, match="pictures are embedded with embed"):
        pipeline.embed_signals("image", [np.zeros((3, 24), np.uint8)])
