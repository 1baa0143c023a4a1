"""Sounds as files, samples and at other rates: decoding to mono float samples, and resampling.

Files are decoded from bytes, by libsndfile, or where they are containers by FFmpeg's libraries through PyAV; PCM wave files
need neither.
"""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beholder.errors import BeholderError, MediaError
from beholder.media.decode import refuse_address, shown
from beholder.media.recordings import container_kind

# S samples, C channels

PCM_TYPES = {1: "u1", 2: "<i2", 4: "<i4"}
TELLING = ("wav", "flac", "aiff", "au", "caf")  # files whose heads tell how many samples follow
BLOCK = 1 << 16  # samples that are decoded or resampled at once
BROKEN = "the sound is truncated or damaged; send the whole file"


@dataclass(frozen=True)
class SoundLimits:
    """What is refused. max_bytes: size of the file; max_seconds: length; max_channels: that are averaged."""

    max_bytes: int = 1 << 30
    max_seconds: float = 2 * 3600.0
    max_channels: int = 32


DEFAULT_SOUND_LIMITS = SoundLimits()


def sound_kind(head: bytes) -> str | None:
    """What a file beginning with `head` (200 bytes will do) is, if it is a sound alone; None for other files."""
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:11] == b"AIF":
        return "aiff"
    if head[4:11] == b"ftypM4A":
        return "m4a"
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] in (b"\xfb", b"\xf3", b"\xf2", b"\xfa")):
        return "mp3"
    return {b"fLaC": "flac", b"OggS": "ogg", b".snd": "au", b"caff": "caf"}.get(head[:4])


def is_sound(source: Any) -> bool:
    """Whether a path or bytes are a sound rather than a picture or a clip."""
    try:
        if isinstance(source, (bytes, bytearray, memoryview)):
            return sound_kind(bytes(source[:200])) is not None
        if isinstance(source, (str, Path)) and Path(source).is_file():
            with Path(source).open("rb") as file:
                return sound_kind(file.read(200)) is not None
    except (OSError, ValueError):
        pass
    return False


def decode_sound(
    source: Any, rate: int, *, name: str = "sound 1", limits: SoundLimits = DEFAULT_SOUND_LIMITS
) -> np.ndarray:
    """Samples (S,) float32 at `rate` a second, channels averaged.

    source: a path, a file's bytes, samples (S,) or (S, C) that are at that rate, or those with their own rate in a tuple. Of
    a clip the sound track is taken. Raises `MediaError` for what is no sound, is damaged or exceeds `limits`, and
    `BeholderError` where the library that decodes the file is missing.
    """
    if isinstance(source, np.ndarray):
        source = (source, rate)
    if isinstance(source, tuple) and len(source) == 2:
        return _from_samples(*source, rate, name, limits)
    data, name = _read(source, name, limits)
    kind = sound_kind(data[:200])
    if kind is None and container_kind(data[:200]) is None:
        raise MediaError(
            f"{name}: is not a sound this reads; send WAV, FLAC, OGG, MP3, AIFF or M4A, or a clip"
        )
    samples_S, own_rate = _decoded(data, kind, name, limits)
    if not len(samples_S):
        raise MediaError(f"{name}: holds no samples; {BROKEN}")
    if not np.isfinite(samples_S).all():
        raise MediaError(f"{name}: has infinite or undefined samples; write it anew")
    return resample(samples_S, own_rate, rate)


def sound_length(
    source: Any, rate: int, *, name: str = "sound 1", limits: SoundLimits = DEFAULT_SOUND_LIMITS
) -> int:
    """How many samples `decode_sound` gives, whose other arguments these are: from the file's head where it tells, else by
    decoding. Raises as that does; damage behind the head is not seen.
    """
    head = _head(source)
    if head is None:
        return len(decode_sound(source, rate, name=name, limits=limits))
    frames, channels, own_rate = head
    _check(channels, own_rate, frames, name, limits)
    return resampled_length(frames, own_rate, rate)


def _head(source: Any) -> tuple[int, int, int] | None:
    """Samples, channels and rate that a file's head tells; None where that takes more than reading it, or fails."""
    try:
        import soundfile

        bytes_alone = isinstance(source, (bytes, bytearray, memoryview))
        if not bytes_alone and not (isinstance(source, (str, Path)) and Path(source).is_file()):
            return None
        with io.BytesIO(source) if bytes_alone else Path(source).open("rb") as file:
            if sound_kind(file.read(200)) not in TELLING:
                return None
            file.seek(0)
            with soundfile.SoundFile(file) as sound:
                return (sound.frames, sound.channels, sound.samplerate) if sound.frames > 0 else None
    except (ImportError, OSError, RuntimeError, ValueError, TypeError):
        return None  # what is wrong is told when it is decoded


def read_wav(source: str | Path | bytes, *, name: str = "sound 1") -> tuple[np.ndarray, int]:
    """Samples (S,) float32 in [-1, 1), channels averaged, and their rate per second. Takes PCM of 8 to 32 bits.

    Raises `MediaError` for a file that is missing, damaged, too large or of another coding.
    """
    limits = DEFAULT_SOUND_LIMITS
    try:
        if not isinstance(source, bytes) and Path(source).stat().st_size > limits.max_bytes:
            raise MediaError(f"{name}: more than {limits.max_bytes >> 20} MiB; cut it into clips")
        with wave.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise MediaError(f"{name}: not a PCM wave file ({error}); convert it to 16-bit WAV") from None
    if rate < 1 or channels < 1:
        raise MediaError(f"{name}: {channels} channels at {rate} samples a second; the file is damaged")
    data = data[: len(data) // (width * channels) * width * channels]
    return _floats(data, width).reshape(-1, channels).mean(1, dtype=np.float32), rate


def _read(source: Any, name: str, limits: SoundLimits) -> tuple[bytes, str]:
    """A file's bytes, and how it is called in errors."""
    if isinstance(source, (str, Path)):
        refuse_address(str(source), name, "sound")
        name = f"{name} ({shown(str(source))})"
        try:
            size = Path(source).stat().st_size
            data = Path(source).read_bytes() if Path(source).is_file() and size <= limits.max_bytes else b""
        except FileNotFoundError:
            raise MediaError(f"{name}: no such file; check the path") from None
        except (OSError, ValueError):
            raise MediaError(f"{name}: cannot be read; check the path and its permissions") from None
    elif isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        size = len(data)
    else:
        raise MediaError(f"{name}: a {type(source).__name__} is no sound; give a path, bytes or samples (S,)")
    if size > limits.max_bytes:
        raise MediaError(f"{name}: {size:,} bytes are more than the limit of {limits.max_bytes:,}; cut it")
    return data, name


def _decoded(data: bytes, kind: str | None, name: str, limits: SoundLimits) -> tuple[np.ndarray, int]:
    if kind in (None, "m4a"):
        return _by_pyav(data, container_kind(data[:200]), name, limits)
    try:
        import soundfile
    except ImportError:
        if kind != "wav":
            raise BeholderError(
                f"{name}: decoding {kind} files needs soundfile; install it with pip install 'beholder[audio]'"
            ) from None
        samples_S, rate = read_wav(data, name=name)
        _check(1, rate, len(samples_S), name, limits)
        return samples_S, rate
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check(file.channels, file.samplerate, file.frames, name, limits)
            blocks = file.blocks(BLOCK, dtype="float32", always_2d=True)
            return _joined(blocks, file.samplerate, name, limits), file.samplerate
    except BeholderError:
        raise
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError):
        raise MediaError(f"{name}: {BROKEN}") from None


def _by_pyav(data: bytes, kind: str | None, name: str, limits: SoundLimits) -> tuple[np.ndarray, int]:
    """The sound track of a container."""
    try:
        import av
    except ImportError:
        raise BeholderError(
            f"{name}: decoding the sound of clips needs PyAV; install it with pip install 'beholder[video]'"
        ) from None
    try:
        with av.open(io.BytesIO(data), format=kind, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise MediaError(f"{name}: the clip has no sound")
            stream = container.streams.audio[0]
            rate = stream.codec_context.sample_rate
            _check(stream.codec_context.channels, rate, 0, name, limits)
            floats = av.AudioResampler(format="fltp", rate=rate)
            frames = (part for frame in container.decode(stream) for part in floats.resample(frame))
            return _joined((part.to_ndarray().T for part in frames), rate, name, limits), rate
    except BeholderError:
        raise
    except (av.error.FFmpegError, ValueError, EOFError, AttributeError):  # some streams have no decoder
        raise MediaError(f"{name}: {BROKEN}") from None


def _joined(blocks: Iterable[np.ndarray], rate: int, name: str, limits: SoundLimits) -> np.ndarray:
    """Blocks (S, C) as one (S,), their channels averaged."""
    parts, length = [], 0
    for block_SC in blocks:
        parts.append(block_SC.mean(1, dtype=np.float32))
        length += len(parts[-1])
        _check(1, rate, length, name, limits)
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _from_samples(samples: Any, own_rate: Any, rate: int, name: str, limits: SoundLimits) -> np.ndarray:
    given = np.asarray(samples)
    if (
        given.ndim not in (1, 2)
        or not given.size
        or given.dtype.kind not in "iuf"
        or type(own_rate) is not int
    ):
        raise MediaError(
            f"{name}: samples of shape {given.shape} and type {given.dtype} at {own_rate!r} a second; give (S,) or (S, C) "
            "floats or integers and a whole rate"
        )
    floats_SC = given.reshape(len(given), -1).astype(np.float32)
    if given.dtype.kind in "iu":  # of full scale
        bits = 8 * given.dtype.itemsize - 1
        floats_SC = (floats_SC - (2.0**bits if given.dtype.kind == "u" else 0.0)) / 2.0**bits
    if not np.isfinite(floats_SC).all():
        raise MediaError(f"{name}: has infinite or undefined samples; decode it anew")
    _check(floats_SC.shape[1], own_rate, len(floats_SC), name, limits)
    return resample(floats_SC.mean(1, dtype=np.float32), own_rate, rate)


def _check(channels: int, rate: int, length: int, name: str, limits: SoundLimits) -> None:
    if rate < 1 or not 1 <= channels <= limits.max_channels:
        raise MediaError(
            f"{name}: {channels} channels at {rate} samples a second; send 1 to {limits.max_channels} channels"
        )
    if length > limits.max_seconds * rate:
        raise MediaError(
            f"{name}: {length / rate:,.0f} seconds are more than the limit of {limits.max_seconds:,.0f}; cut it"
        )


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


def resampled_length(count: int, rate: int, new_rate: int) -> int:
    """Samples at `new_rate` of so many at `rate`."""
    common = math.gcd(rate, new_rate)
    return math.ceil(new_rate // common * count / (rate // common))


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
    length = resampled_length(len(samples_S), rate, new_rate)
    resampled_S = np.empty(len(windows) * new, np.float32)
    for first in range(0, len(windows), BLOCK):
        block = (windows[first : first + BLOCK] @ kernels.T).reshape(-1)
        resampled_S[first * new : first * new + len(block)] = block
    return resampled_S[:length]
