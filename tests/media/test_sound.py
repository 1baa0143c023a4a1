"""Front ends of sound against the official extractors and against formulas, wave files, and resampling."""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from beholder.config import from_data
from beholder.errors import BeholderError, MediaError
from beholder.media import sound
from beholder.media.sound import DecibelMel, Fbank, LogMel, SoundFront, Waveform, read_sound_front
from beholder.media.waves import read_wav, resample
from beholder.weights.open import read_json


def noise(count: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(count) * 0.1).astype(np.float32)


def tone(hertz: float, count: int, rate: int) -> np.ndarray:
    return np.sin(2 * math.pi * hertz * np.arange(count) / rate).astype(np.float32)


@pytest.mark.parametrize("family", ["ast", "speech_to_text", "wav2vec2_ctc", "whisper"])
def test_fronts_equal_the_official_extractors(family: str, oracle: Callable[[str], Path]) -> None:
    front = read_sound_front(read_json(oracle(family) / "preprocessor_config.json"))
    assert front is not None
    recorded = load_file(oracle(family) / "preprocess.safetensors")
    for index in range(3):
        samples = recorded[f"audio_{index}"]
        ours = front.view(samples)
        names = (f"out_{index}/input_features", f"out_{index}/input_values")
        theirs = recorded[next(name for name in names if name in recorded)]
        theirs = theirs if theirs.shape[-1] == ours.shape[-1] else theirs.swapaxes(-1, -2)
        assert ours.shape[1:] == front.size(len(samples))
        assert np.abs(ours.numpy() - theirs.reshape(ours.shape)).max() < 1e-5 * max(1.0, float(theirs.std()))


def kaldi(samples: np.ndarray, bins: int, window: str) -> np.ndarray:
    """Log filter banks (bins, frames) at 16 kHz by a plain Fourier sum."""
    rows = []
    for start in range(0, len(samples) - 399, 160):
        frame = samples[start : start + 400].astype(float)
        frame = frame - frame.mean()
        frame = frame - 0.97 * np.concatenate((frame[:1], frame[:-1]))
        shape = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(400) / 399)
        frame = frame * shape ** (0.85 if window == "povey" else 1.0)
        waves = np.exp(-2j * math.pi * np.outer(np.arange(257), np.arange(400)) / 512)
        rows.append(np.abs(waves @ frame) ** 2)
    mels = 1127 * np.log(1 + np.arange(257) * 31.25 / 700)
    low, high = 1127 * math.log(1 + 20 / 700), 1127 * math.log(1 + 8000 / 700)
    width = (high - low) / (bins + 1)
    centres = low + width * np.arange(1, bins + 1)
    filters = np.maximum(0, 1 - np.abs(mels - centres[:, None]) / width)
    return np.log(np.maximum(filters @ np.array(rows).T, 2.0**-23))


@pytest.mark.parametrize("window", ["povey", "hanning"])
def test_filter_banks_equal_their_formula(window: str) -> None:
    samples = noise(3000)
    ours = Fbank(bins=40, window=window).view(samples)[0].numpy()
    np.testing.assert_allclose(ours, kaldi(samples, 40, window), atol=1e-4)


def test_published_fronts_scale_pad_and_norm() -> None:
    samples = noise(16000) + 0.3
    raw = kaldi(samples, 128, "hanning")
    ast = sound.AST.view(samples)[0].numpy()
    np.testing.assert_allclose(ast[:, :98], (raw + 4.2677393) / (2 * 4.5689974), atol=1e-4)
    np.testing.assert_allclose(ast[:, 98:], 4.2677393 / (2 * 4.5689974), atol=1e-6)
    beats = sound.BEATS.view(samples)[0].numpy()
    np.testing.assert_allclose(
        beats, (kaldi(samples * 2.0**15, 128, "povey") - 15.41663) / (2 * 6.55582), atol=1e-4
    )
    centred = sound.IMAGEBIND.view(samples)[0].numpy()
    expected = (kaldi(samples - samples.mean(), 128, "hanning") + 4.268) / 9.138
    np.testing.assert_allclose(centred[:, :98], expected, atol=1e-4)
    assert centred.shape == (128, 204)


def test_log_mels_are_of_equal_area_and_clamped() -> None:
    filters = sound.slaney_filters(80, 400, 16000).numpy()
    areas = filters.sum(1) * 40.0
    np.testing.assert_allclose(areas[20:], 1.0, atol=0.15)  # narrow triangles fall between frequencies
    view = LogMel(seconds=2).view(tone(1000, 16000, 16000))[0].numpy()
    assert view.shape == (80, 200)
    assert view.max() - view.min() == pytest.approx(2.0)
    loudest = view[:, :90].mean(1).argmax()
    mels = 1000.0 * 3 / 200 / (15 + math.log(8) * 27 / math.log(6.4))
    assert loudest == pytest.approx(mels * 81 - 1, abs=1)


@pytest.mark.parametrize(
    "front",
    [Waveform(), LogMel(), LogMel(seconds=None), Fbank(), sound.AST, sound.BEATS, sound.SPEECH_TO_TEXT],
)
@pytest.mark.parametrize("count", [400, 401, 1599, 1600, 20001])
def test_sizes_follow_from_the_number_of_samples(front: SoundFront, count: int) -> None:
    view = front.view(noise(count))
    assert (view.shape[0], *front.size(count)) == tuple(view.shape)
    assert 0 < front.filled(count) <= view.shape[2]
    assert view.dtype.is_floating_point and view.isfinite().all()


def test_long_sounds_are_cut() -> None:
    front = LogMel(seconds=1)
    assert (front.size(99999), front.filled(99999)) == ((80, 100), 100)
    assert sound.AST.filled(16000 * 60) == 1024
    np.testing.assert_array_equal(front.view(noise(20000)), front.view(noise(20000)[:16000]))


def test_fronts_are_data() -> None:
    for front in (Waveform(normalise=False), sound.WHISPER_LARGE_V3, sound.AST, sound.BEATS, sound.IMAGEBIND):
        assert from_data(front.to_data()) == front
        assert front.at((32, 64)).size(64 * 160)[0] in (1, 32)


@pytest.mark.parametrize("samples", [np.zeros((2, 500)), np.zeros(0), np.array([0.0, np.nan] * 300)])
@pytest.mark.parametrize("front", [Waveform(), LogMel(), Fbank()])
def test_what_is_no_waveform_is_an_error(front: SoundFront, samples: np.ndarray) -> None:
    with pytest.raises(MediaError, match="waveform"):
        front.view(samples)


def test_settings_are_read_or_refused() -> None:
    assert read_sound_front({"image_processor_type": "CLIPImageProcessor"}) is None
    large = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128}
    assert read_sound_front(large) == sound.WHISPER_LARGE_V3
    assert read_sound_front({"feature_extractor": large, "processor_class": "X"}) == sound.WHISPER_LARGE_V3
    assert read_sound_front({"feature_extractor_type": "ASTFeatureExtractor"}) == sound.AST
    assert read_sound_front({"do_normalize": False, "sampling_rate": 16000}) == Waveform(normalise=False)
    with pytest.raises(BeholderError, match="dither"):
        read_sound_front(large | {"dither": 0.5})
    with pytest.raises(BeholderError, match="surprise"):
        read_sound_front(large | {"surprise": 1})
    with pytest.raises(BeholderError, match="hanning"):
        Fbank(window="hamming")


def pcm(samples: np.ndarray, *, rate: int = 8000, width: int = 2, channels: int = 1) -> bytes:
    """A wave file of integers (S,) or (S, channels)."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        if width == 3:
            file.writeframes(b"".join(int(x).to_bytes(3, "little", signed=True) for x in samples.reshape(-1)))
        else:
            file.writeframes(samples.astype({1: "u1", 2: "<i2", 4: "<i4"}[width]).tobytes())
    return out.getvalue()


@pytest.mark.parametrize("width, zero", [(1, 128), (2, 0), (3, 0), (4, 0)])
def test_wave_files_of_all_widths(width: int, zero: int, tmp_path: Path) -> None:
    full = 2 ** (8 * width - 1)
    values = np.array([zero, zero + full // 2, zero - full, zero + full - 1], dtype=np.int64)
    (tmp_path / "a.wav").write_bytes(pcm(values, width=width))
    samples, rate = read_wav(tmp_path / "a.wav")
    assert rate == 8000 and samples.dtype == np.float32
    np.testing.assert_allclose(samples, [0, 0.5, -1, 1 - 1 / full], atol=1e-7)


def test_channels_are_averaged() -> None:
    samples, _ = read_wav(pcm(np.array([[0, 16384], [-8192, 8192]]), channels=2))
    np.testing.assert_array_equal(samples, np.array([0.25, 0.0], np.float32))


@pytest.mark.parametrize("data", [b"", b"RIFF", b"ID3 no wave", pcm(np.arange(9))[:30]])
def test_what_is_no_wave_file_is_one_line(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="sound 1") as caught:
        read_wav(data)
    assert "\n" not in str(caught.value)
    with pytest.raises(MediaError, match="PCM wave file"):
        read_wav(tmp_path / "absent.wav")


@pytest.mark.parametrize("rate, new_rate", [(8000, 16000), (44100, 16000), (16000, 8000), (22050, 24000)])
def test_resampling_keeps_a_tone(rate: int, new_rate: int) -> None:
    ours = resample(tone(440, rate, rate), rate, new_rate)
    assert ours.dtype == np.float32 and len(ours) == new_rate
    np.testing.assert_allclose(ours[500:-500], tone(440, new_rate, new_rate)[500:-500], atol=5e-3)


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    assert np.abs(resample(tone(7000, 16000, 16000), 16000, 8000)[100:-100]).max() < 0.02
    same = noise(100)
    assert resample(same, 8000, 8000) is not None and np.array_equal(resample(same, 8000, 8000), same)
    with pytest.raises(MediaError, match="rates"):
        resample(same, 0, 8000)


def test_stacked_frames_by_a_plain_fourier_sum() -> None:
    samples = noise(2000)
    mirrored = np.pad(samples.astype(float), 256, mode="reflect")
    window = np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(400) / 400)
    waves = np.exp(-2j * math.pi * np.outer(np.arange(257), np.arange(512)) / 512)
    power = [np.abs(waves @ (mirrored[start : start + 512] * window)) ** 2 for start in range(0, 2001, 160)]
    mels = 2595 * np.log10(1 + np.arange(257) * 31.25 / 700)
    edges = 700 * (10 ** (np.linspace(0, mels[-1], 82) / 2595) - 1)
    hertz = np.arange(257) * 31.25
    rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    logs = np.log10(np.maximum(np.array(power) @ np.maximum(0, np.minimum(rising, falling)).T, 1e-10))
    logs = np.maximum(logs, logs.max() - 8) / 4 + 1
    assert len(logs) == 13, "the last one has no partner"
    ours = sound.StackedMel().view(samples)[0].T
    assert sound.StackedMel().size(2000) == (160, 6)
    np.testing.assert_allclose(ours, logs[:12].reshape(6, 160), atol=1e-4)
    front = read_sound_front(
        {"feature_extractor_type": "GraniteSpeechFeatureExtractor", "melspec_kwargs": {"n_mels": 64}}
    )
    assert front == sound.StackedMel(bins=64)


CLAP = {  # preprocessor_config.json of laion/clap-htsat-unfused
    "chunk_length_s": 10,
    "feature_extractor_type": "ClapFeatureExtractor",
    "feature_size": 64,
    "fft_window_size": 1024,
    "frequency_max": 14000,
    "frequency_min": 50,
    "hop_length": 480,
    "max_length_s": 10,
    "nb_frequency_bins": 513,
    "nb_max_frames": 1000,
    "nb_max_samples": 480000,
    "padding": "repeatpad",
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "sampling_rate": 48000,
    "top_db": None,
    "truncation": "rand_trunc",
}


def test_claps_settings() -> None:
    assert read_sound_front(CLAP) == DecibelMel(low=50.0)
    for change in ({"truncation": "fusion"}, {"padding": "pad"}):
        with pytest.raises(BeholderError, match="is not supported"):
            read_sound_front(CLAP | change)


@pytest.mark.parametrize("count", [500, 203, 700])
def test_decibels_by_a_plain_fourier_sum(count: int) -> None:
    """As `ClapFeatureExtractor._get_input_mel`: said again while it fits, padded, and cut."""
    front = DecibelMel(rate=1000, bins=5, fft=32, hop=10, seconds=0.5, low=20.0, high=400.0)
    samples = noise(count, seed=2)
    clip = np.tile(samples[:500], 500 // min(count, 500)).astype(np.float64)
    clip = np.pad(np.pad(clip, (0, 500 - len(clip))), 16, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(32) / 32)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(17), np.arange(32)) / 32)
    power = np.stack([np.abs(waves @ (window * clip[10 * n : 10 * n + 32])) ** 2 for n in range(51)], -1)
    low, high = 20.0 * 3 / 200, 400.0 * 3 / 200  # Slaney's scale is linear below 1000 Hz
    edges = np.linspace(low, high, 7) * 200 / 3
    points = np.linspace(0, 500, 17)
    bands = [
        np.interp(points, edges[m : m + 3], [0, 1, 0], left=0, right=0) * 2 / (edges[m + 2] - edges[m])
        for m in range(5)
    ]
    want = 10 * np.log10(np.maximum(np.stack(bands) @ power, 1e-10))
    got = front.view(samples)
    assert got.shape == (1, *front.size(count)) == (1, 5, 51)
    assert np.abs(got[0].numpy() - want).max() < 1e-2
