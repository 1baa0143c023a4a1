"""Sounds as files and at other rates: PCM wave files to mono float samples, and resampling."""

from __future__ import annotations

import io
import math
import wave
from pathlib import Path

import numpy as np

from beholder.errors import MediaError

# S samples

MAX_BYTES = 1 << 30
PCM_TYPES = {1: "u1", 2: "<i2", 4: "<i4"}


def read_wav(source: str | Path | bytes, *, name: str = "sound 1") -> tuple[np.ndarray, int]:
    """Samples (S,) float32 in [-1, 1), channels averaged, and their rate per second. Takes PCM of 8 to 32 bits.

    Raises `MediaError` for a file that is missing, damaged, too large or of another coding.
    """
    try:
        if not isinstance(source, bytes) and Path(source).stat().st_size > MAX_BYTES:
            raise MediaError(f"{name}: more than {MAX_BYTES >> 20} MiB; cut it into clips")
        with wave.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise MediaError(f"{name}: not a PCM wave file ({error}); convert it to 16-bit WAV") from None
    if rate < 1 or channels < 1:
        raise MediaError(f"{name}: {channels} channels at {rate} samples a second; the file is damaged")
    data = data[: len(data) // (width * channels) * width * channels]
    return _floats(data, width).reshape(-1, channels).mean(1, dtype=np.float32), rate


def _floats(data: bytes, width: int) -> np.ndarray:
    """Little-endian PCM as fractions of full scale; 8-bit samples are unsigned, others signed."""
    if width == 3:
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        samples, width = padded.reshape(-1).view("<i4"), 4
    else:
        samples = np.frombuffer(data, PCM_TYPES[width])
    offset = 128 if width == 1 else 0
    return ((samples.astype(np.float64) - offset) / 2 ** (8 * width - 1)).astype(np.float32)


def resample(samples_S: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Samples (S,) at `rate` as float32 samples (ceil(S new / old),) at `new_rate`, by a Hann-windowed sinc of six
    zero crossings with its cut at 0.99 of the lower Nyquist frequency (torchaudio `resample`, its defaults).
    """
    if min(rate, new_rate) < 1:
        raise MediaError(f"cannot resample from {rate} to {new_rate} samples a second; rates are 1 or more")
    if rate == new_rate:
        return np.asarray(samples_S, np.float32)
    common = math.gcd(rate, new_rate)
    old, new = rate // common, new_rate // common
    crossings, cut = 6, min(old, new) * 0.99
    reach = math.ceil(crossings * old / cut)
    offsets = np.arange(-reach, reach + old) / old
    times = np.clip((offsets - np.arange(new)[:, None] / new) * cut, -crossings, crossings)
    kernels = np.sinc(times) * np.cos(times * np.pi / crossings / 2) ** 2 * cut / old
    padded = np.pad(np.asarray(samples_S, np.float64), (reach, reach + old))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernels.shape[1])[::old]
    length = math.ceil(new * len(samples_S) / old)
    return (windows @ kernels.T).reshape(-1)[:length].astype(np.float32)
