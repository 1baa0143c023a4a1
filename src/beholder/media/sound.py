"""Front ends of sound: from a waveform to the view an encoder takes, equal to the official feature extractors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from beholder.config import Config
from beholder.errors import MediaError, UnknownName
from beholder.media.official import Settings
from beholder.media.plan import Size

# S samples, F frames of a spectrogram, M mel bins, K frequencies of a Fourier transform


class SoundFront(Config):
    """What makes views of waveforms (S,) in [-1, 1] at `rate` samples a second."""

    rate: int

    @property
    def longest(self) -> int | None:
        """Samples of the longest sound that one view shows; None where it shows sounds of any length."""
        return None

    def size(self, num_samples: int) -> Size:
        """(rows, columns) of the view of that many samples."""
        raise NotImplementedError

    def filled(self, num_samples: int) -> int:
        """How many of the view's columns hold sound; those after them are padding."""
        return self.size(num_samples)[1]

    def view(self, samples_S: np.ndarray) -> Tensor:
        """The view (1, rows, columns), float32. Raises `MediaError` for a waveform it cannot use."""
        raise NotImplementedError

    def at(self, size: Size) -> Self:
        """The same thing for views of (rows, columns)."""
        return self

    def _checked(self, samples_S: np.ndarray, fewest: int = 1) -> np.ndarray:
        samples_S = np.asarray(samples_S)
        if samples_S.ndim != 1 or len(samples_S) < fewest:
            raise MediaError(f"a waveform of shape {samples_S.shape}; expected ({fewest} samples or more,)")
        if not np.isfinite(samples_S).all():
            raise MediaError("a waveform with infinite or undefined samples; decode it anew")
        return samples_S


@dataclass(frozen=True)
class Waveform(SoundFront):
    """The samples themselves as a view (1, 1, S); `normalise`: to mean 0 and variance 1 (official
    `Wav2Vec2FeatureExtractor`).
    """

    rate: int = 16000
    normalise: bool = True

    def size(self, num_samples: int) -> Size:
        return 1, num_samples

    def view(self, samples_S: np.ndarray) -> Tensor:
        samples_S = self._checked(samples_S).astype(np.float32)
        if self.normalise:
            samples_S = (samples_S - samples_S.mean()) / np.sqrt(samples_S.var() + 1e-7)
        return torch.from_numpy(samples_S.astype(np.float32))[None, None]


@dataclass(frozen=True)
class LogMel(SoundFront):
    """Whisper's log-mel spectrogram (2212.04356, official `WhisperFeatureExtractor`): Hann windows of `fft` samples every
    `hop`, `bins` Slaney mel bands, log10 clamped to 8 below the clip's highest, then (x + 4) / 4.

    seconds: clips are padded with silence or cut to this; None keeps their length.
    """

    rate: int = 16000
    bins: int = 80
    fft: int = 400
    hop: int = 160
    seconds: float | None = 30.0

    @property
    def longest(self) -> int | None:
        return None if self.seconds is None else self._samples(0)

    def at(self, size: Size) -> Self:
        return self.but(bins=size[0], seconds=self.seconds and size[1] * self.hop / self.rate)

    def size(self, num_samples: int) -> Size:
        return self.bins, self._samples(num_samples) // self.hop

    def filled(self, num_samples: int) -> int:
        return min(-(-num_samples // self.hop), self.size(num_samples)[1])

    def view(self, samples_S: np.ndarray) -> Tensor:
        length = self._samples(len(self._checked(samples_S, 1 if self.seconds else self.fft)))
        clip_S = torch.zeros(length)
        kept = torch.from_numpy(np.asarray(samples_S[:length], np.float32))
        clip_S[: len(kept)] = kept
        spectrum_KF = torch.stft(
            clip_S, self.fft, self.hop, window=torch.hann_window(self.fft), return_complex=True
        )
        power_KF = spectrum_KF[:, :-1].abs() ** 2
        mels_MF = slaney_filters(self.bins, self.fft, self.rate) @ power_KF
        logs_MF = mels_MF.clamp(min=1e-10).log10()
        return ((torch.maximum(logs_MF, logs_MF.max() - 8.0) + 4.0) / 4.0)[None]

    def _samples(self, num_samples: int) -> int:
        return num_samples if self.seconds is None else round(self.seconds * self.rate)


@dataclass(frozen=True)
class DecibelMel(SoundFront):
    """CLAP's mel spectrogram in decibels (official `ClapFeatureExtractor` without fusion): Hann windows of `fft` samples around
    every `hop`, `bins` Slaney mel bands from `low` to `high` Hz. Shorter sounds are said again as often as they fit into
    `seconds` whole, then padded with silence; longer ones are cut to it, officially at random.
    """

    rate: int = 48000
    bins: int = 64
    fft: int = 1024
    hop: int = 480
    seconds: float = 10.0
    low: float = 0.0
    high: float = 14000.0

    @property
    def longest(self) -> int | None:
        return round(self.seconds * self.rate)

    def at(self, size: Size) -> Self:
        return self.but(bins=size[0], seconds=(size[1] - 1) * self.hop / self.rate)

    def size(self, num_samples: int) -> Size:
        return self.bins, round(self.seconds * self.rate) // self.hop + 1

    def view(self, samples_S: np.ndarray) -> Tensor:
        length = round(self.seconds * self.rate)
        heard_S = np.asarray(self._checked(samples_S), np.float32)[:length]
        clip_S = torch.zeros(length)
        again_S = torch.from_numpy(np.tile(heard_S, length // len(heard_S)))
        clip_S[: len(again_S)] = again_S
        window = torch.hann_window(self.fft)
        power_KF = torch.stft(clip_S, self.fft, self.hop, window=window, return_complex=True).abs() ** 2
        mels_MF = slaney_filters(self.bins, self.fft, self.rate, self.low, self.high) @ power_KF
        return 10.0 * mels_MF.clamp(min=1e-10).log10()[None]


@dataclass(frozen=True)
class Fbank(SoundFront):
    """Kaldi's log filter banks: windows of 25 ms every 10 ms without their mean, pre-emphasis 0.97, `bins` triangles from
    20 Hz to the Nyquist frequency (torchaudio `compliance.kaldi.fbank` with its defaults).

    window: `povey` or `hanning`. scale: times the samples; Kaldi's own are 16-bit integers. centred: the clip's mean is
    taken off first (ImageBind). frames: padded with zeros or cut to this. (x - mean) / std after padding; per_clip: each
    bin to mean 0 and variance 1 over the clip (official `Speech2TextFeatureExtractor`).
    """

    rate: int = 16000
    bins: int = 128
    window: str = "povey"
    scale: float = 1.0
    centred: bool = False
    frames: int | None = None
    mean: float = 0.0
    std: float = 1.0
    per_clip: bool = False

    def __post_init__(self) -> None:
        if self.window not in ("povey", "hanning"):
            raise UnknownName("window of a filter bank", self.window, ("povey", "hanning"))

    @property
    def width(self) -> int:
        """Samples of one window."""
        return self.rate * 25 // 1000

    @property
    def hop(self) -> int:
        """Samples from one window to the next."""
        return self.rate // 100

    @property
    def longest(self) -> int | None:
        return None if self.frames is None else self.frames * self.hop

    def at(self, size: Size) -> Self:
        return self.but(bins=size[0], frames=self.frames and size[1])

    def size(self, num_samples: int) -> Size:
        return self.bins, self.frames or self._frames(num_samples)

    def filled(self, num_samples: int) -> int:
        return min(self._frames(num_samples), self.size(num_samples)[1])

    def view(self, samples_S: np.ndarray) -> Tensor:
        samples_S = self._checked(samples_S, self.width).astype(np.float32) * np.float32(self.scale)
        if self.centred:
            samples_S = samples_S - samples_S.mean()
        logs_FM = self._log_mels(samples_S).astype(np.float32)
        if self.per_clip:
            centred_FM = logs_FM - logs_FM.mean(0)
            spread_M = centred_FM.std(0)
            logs_FM = centred_FM / np.where(spread_M > 0, spread_M, 1.0)  # silence stays silence
        if self.frames is not None:
            logs_FM = np.pad(logs_FM[: self.frames], ((0, max(0, self.frames - len(logs_FM))), (0, 0)))
        return torch.from_numpy(((logs_FM - self.mean) / self.std).T.astype(np.float32))[None]

    def _frames(self, num_samples: int) -> int:
        return max(0, 1 + (num_samples - self.width) // self.hop)

    def _log_mels(self, samples_S: np.ndarray) -> np.ndarray:
        """(F, M) float64."""
        frames_FW = np.lib.stride_tricks.sliding_window_view(samples_S, self.width)[:: self.hop].astype(float)
        frames_FW = frames_FW - frames_FW.mean(1, keepdims=True)
        before_FW = np.concatenate((frames_FW[:, :1], frames_FW[:, :-1]), 1)
        shape_W = np.hanning(self.width) ** (0.85 if self.window == "povey" else 1.0)
        fft = 1 << (self.width - 1).bit_length()
        spectrum_FK = np.fft.rfft((frames_FW - 0.97 * before_FW) * shape_W, fft).astype(np.complex64)
        power_FK = np.abs(spectrum_FK, dtype=float) ** 2
        mels_FM = power_FK @ kaldi_filters(self.bins, fft, self.rate).T
        return np.log(np.maximum(mels_FM, np.finfo(np.float32).eps))


@dataclass(frozen=True)
class StackedMel(SoundFront):
    """Log-mel frames joined in runs of `stack` (official `GraniteSpeechFeatureExtractor`; torchaudio's `MelSpectrogram`): Hann
    windows of `width` samples every `hop`, mirrored at the ends, triangles of height 1 on HTK's mel scale, log10 clamped to 8
    below the highest, then x / 4 + 1. Frames beyond the last whole run are left out.
    """

    rate: int = 16000
    bins: int = 80
    fft: int = 512
    width: int = 400
    hop: int = 160
    stack: int = 2

    def at(self, size: Size) -> Self:
        return self.but(bins=size[0] // self.stack)

    def size(self, num_samples: int) -> Size:
        return self.bins * self.stack, (num_samples // self.hop + 1) // self.stack

    def view(self, samples_S: np.ndarray) -> Tensor:
        checked_S = self._checked(samples_S, self.fft // 2 + 1)
        samples = torch.from_numpy(checked_S.astype(np.float32))
        window = torch.hann_window(self.width)
        spectrum_KF = torch.stft(samples, self.fft, self.hop, self.width, window, return_complex=True)
        logs_MF = (
            (htk_filters(self.bins, self.fft, self.rate) @ spectrum_KF.abs() ** 2).clamp(min=1e-10).log10()
        )
        logs_MF = torch.maximum(logs_MF, logs_MF.max() - 8.0) / 4.0 + 1.0
        runs = logs_MF.shape[1] // self.stack
        joined_RF = logs_MF[:, : runs * self.stack].T.reshape(runs, -1).T
        return joined_RF.contiguous()[None]


@lru_cache(maxsize=8)
def htk_filters(bins: int, fft: int, rate: int) -> Tensor:
    """(M, K) triangles of height 1 from 0 to the Nyquist frequency on HTK's mel scale, 2595 log10(1 + f / 700)."""
    mels = np.linspace(0.0, 2595.0 * np.log10(1.0 + rate / 2 / 700.0), bins + 2)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    return torch.from_numpy(_triangles(edges, np.linspace(0.0, rate // 2, fft // 2 + 1))).float()


@lru_cache(maxsize=8)
def slaney_filters(bins: int, fft: int, rate: int, low: float = 0.0, high: float = 8000.0) -> Tensor:
    """(M, K) triangles of equal area from `low` to `high` Hz on Slaney's mel scale: linear to 1000 Hz, logarithmic above, 27
    steps to a factor of 6.4 (librosa `filters.mel`, its defaults).
    """

    def mel(hertz: float) -> float:
        above: float = 15.0 + np.log(max(hertz, 1000.0) / 1000.0) * 27.0 / np.log(6.4)
        return hertz * 3.0 / 200.0 if hertz < 1000.0 else above

    mels = np.linspace(mel(low), mel(high), bins + 2)
    edges = np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp((mels - 15.0) * np.log(6.4) / 27.0))
    triangles_MK = _triangles(edges, np.linspace(0.0, rate // 2, fft // 2 + 1))
    return torch.from_numpy(triangles_MK * (2.0 / (edges[2:] - edges[:-2]))[:, None]).float()


@lru_cache(maxsize=8)
def kaldi_filters(bins: int, fft: int, rate: int) -> np.ndarray:
    """(M, K) triangles of height 1 and equal width in mels, mel(f) = 1127 ln(1 + f / 700), from 20 Hz on."""

    def mel(hertz: np.ndarray) -> np.ndarray:
        return 1127.0 * np.log(1.0 + hertz / 700.0)

    low, high = mel(np.array([20.0, rate / 2]))
    return _triangles(np.linspace(low, high, bins + 2), mel(rate / fft * np.arange(fft // 2 + 1)))


def _triangles(edges: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(M, K): triangle m rises from edge m to 1 at edge m + 1 and falls to edge m + 2."""
    distances = edges[:, None] - points
    widths = np.diff(edges)[:, None]
    return np.maximum(0.0, np.minimum(-distances[:-2] / widths[:-1], distances[2:] / widths[1:]))


# The front ends of published encoders.
WHISPER = LogMel()
WHISPER_LARGE_V3 = LogMel(bins=128)
# MIT/ast-finetuned-audioset-10-10-0.4593 preprocessor_config.json: AudioSet's mean and twice its deviation
AST = Fbank(window="hanning", frames=1024, mean=-4.2677393, std=2 * 4.5689974)
# microsoft/unilm beats/BEATs.py `preprocess`
BEATS = Fbank(scale=2.0**15, mean=15.41663, std=2 * 6.55582)
# facebookresearch/ImageBind imagebind/data.py `waveform2melspec`: clips of two seconds
IMAGEBIND = Fbank(window="hanning", centred=True, frames=204, mean=-4.268, std=9.138)
# VITA-MLLM/VITA: vita/model/multimodal_encoder/whale/init_model.py
VITA = Fbank(bins=80, scale=2.0**15)
SPEECH_TO_TEXT = Fbank(bins=80, scale=2.0**15, per_clip=True)


def read_sound_front(settings: Mapping[str, Any]) -> SoundFront | None:
    """The front end that an official `preprocessor_config.json` (or the `feature_extractor` of a `processor_config.json`)
    describes; None where it speaks of no sound. Raises `BeholderError` for settings that have no equal here.
    """
    inner = settings.get("feature_extractor")
    settings = inner if isinstance(inner, Mapping) else settings
    older = (
        "Wav2Vec2FeatureExtractor" if "sampling_rate" in settings else None
    )  # the first files name no type
    kind = str(settings.get("feature_extractor_type", older))
    if kind not in FRONTS:
        return None
    left = {key: value for key, value in settings.items() if key not in UNUSED}
    fields = Settings(kind, left, {})
    fields.require("padding_value", 0.0)
    fields.require("dither", 0.0)
    front = FRONTS[kind](fields)
    fields.finish()
    return front


# Keys that name things, follow from others, or say how batches are padded.
UNUSED = {"padding_side", "return_attention_mask", "n_samples", "nb_max_frames", "mel_filters", "window"}


def _whisper(fields: Settings) -> LogMel:
    return LogMel(
        rate=fields.take("sampling_rate", 16000),
        bins=fields.take("feature_size", 80),
        fft=fields.take("n_fft", 400),
        hop=fields.take("hop_length", 160),
        seconds=float(fields.take("chunk_length", 30)),
    )


def _clap(fields: Settings) -> DecibelMel:
    for key in ("chunk_length_s", "nb_frequency_bins", "nb_max_samples"):  # these follow from others
        fields.take(key)
    fields.require("truncation", "rand_trunc")
    fields.require("padding", "repeatpad")
    return DecibelMel(
        rate=fields.take("sampling_rate", 48000),
        bins=fields.take("feature_size", 64),
        fft=fields.take("fft_window_size", 1024),
        hop=fields.take("hop_length", 480),
        seconds=float(fields.take("max_length_s", 10)),
        low=float(fields.take("frequency_min", 0)),
        high=float(fields.take("frequency_max", 14000)),
    )


def _wav2vec2(fields: Settings) -> Waveform:
    fields.require("feature_size", 1)
    return Waveform(fields.take("sampling_rate", 16000), fields.take("do_normalize", True))


def _ast(fields: Settings) -> Fbank:
    fields.require("feature_size", 1)
    normal = fields.take("do_normalize", True)
    mean, std = fields.take("mean", AST.mean), fields.take("std", AST.std / 2)
    return AST.but(
        rate=fields.take("sampling_rate", 16000),
        bins=fields.take("num_mel_bins", 128),
        frames=fields.take("max_length", 1024),
        mean=mean if normal else 0.0,
        std=2 * std if normal else 1.0,
    )


def _speech_to_text(fields: Settings) -> Fbank:
    bins = fields.take("num_mel_bins", 80)
    fields.require("feature_size", bins)
    fields.require("normalize_means", True)
    fields.require("normalize_vars", True)
    rate, per_clip = fields.take("sampling_rate", 16000), fields.take("do_ceptral_normalize", True)
    return SPEECH_TO_TEXT.but(rate=rate, bins=bins, per_clip=per_clip)


def _granite(fields: Settings) -> StackedMel:
    shape = dict(fields.take("melspec_kwargs", {}))
    fields.take("projector_window_size", 15)
    fields.take("projector_downsample_rate", 5)
    return StackedMel(
        rate=fields.take("sampling_rate", shape.get("sample_rate", 16000)),
        bins=fields.take("feature_size", shape.get("n_mels", 80)),
        fft=shape.get("n_fft", 512),
        width=shape.get("win_length", 400),
        hop=shape.get("hop_length", 160),
    )


FRONTS = {
    "GraniteSpeechFeatureExtractor": _granite,
    "WhisperFeatureExtractor": _whisper,
    "ClapFeatureExtractor": _clap,
    "Wav2Vec2FeatureExtractor": _wav2vec2,
    "ASTFeatureExtractor": _ast,
    "Speech2TextFeatureExtractor": _speech_to_text,
}
