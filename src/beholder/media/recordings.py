"""From a clip to the few frames that are looked at, or one clear `MediaError`.

Frames are decoded by FFmpeg's libraries through PyAV, from bytes and only as one of the containers recognised here, so that
no address and no other file can be reached. Frames that nobody asked for are not kept; far ones are reached by seeking.
"""

from __future__ import annotations

import io
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from beholder.errors import BeholderError, MediaError
from beholder.media.decode import decode, refuse_address, shown

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# T frames, H height, W width

Choose = Callable[[Sequence[float]], Sequence[int]]  # seconds of all frames -> numbers of those looked at
ClipSource = str | Path | bytes | bytearray | memoryview | np.ndarray | Sequence[Any]

STILLS_RATE = 25.0  # frames a second of arrays and lists of pictures, which do not say
BROKEN = "the clip is truncated or damaged; send the whole file"
CONTAINERS = "MP4, MOV, Matroska, WebM, AVI, MPEG, MPEG-TS, FLV or GIF"


@dataclass(frozen=True)
class ClipLimits:
    """What is refused before frames are decoded.

    max_bytes:   size of the file; 4 GiB
    max_seconds: length; 6 hours
    max_frames:  of the whole clip, looked at or not
    max_pixels:  of one frame
    max_kept:    bytes of all frames that are looked at; 2 GiB
    """

    max_bytes: int = 4 * 2**30
    max_seconds: float = 6 * 3600.0
    max_frames: int = 2 * 10**6
    max_pixels: int = 64 * 10**6
    max_kept: int = 2 * 2**30


DEFAULT_CLIP_LIMITS = ClipLimits()


@dataclass(frozen=True, eq=False)
class Recording:
    """What is looked at of a clip. frames: (H, W, 3) uint8, all of one size; times: seconds of each from the clip's first;
    duration: seconds of the whole clip; damaged: whether its end could not be decoded.
    """

    frames: tuple[np.ndarray, ...]
    times: tuple[float, ...]
    duration: float
    damaged: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3) of a frame."""
        return self.frames[0].shape


def container_kind(head: bytes) -> str | None:
    """FFmpeg's name of the container that a file beginning with `head` (200 bytes will do) is; None for other files."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:3] == b"FLV":
        return "flv"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:4] in (b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"):
        return "mpeg" if head[3] == 0xBA else "mpegvideo"
    if head[:1] == b"G" and head[188:189] == b"G":
        return "mpegts"
    return None


def is_clip(source: Any) -> bool:
    """Whether a path or bytes are a clip rather than a picture. GIF files count as pictures unless asked for as clips."""
    try:
        if isinstance(source, (str, Path)):
            if not Path(source).is_file():
                return False
            with Path(source).open("rb") as file:
                head = file.read(200)
        elif isinstance(source, (bytes, bytearray, memoryview)):
            head = bytes(source[:200])
        else:
            return False
    except (OSError, ValueError):
        return False
    return container_kind(head) not in (None, "gif")


def decode_clip(
    source: ClipSource,
    choose: Choose,
    *,
    name: str = "clip 1",
    limits: ClipLimits = DEFAULT_CLIP_LIMITS,
    outline: bool = False,
) -> Recording:
    """The frames of a clip that `choose` picks from the seconds of all frames, upright, as RGB.

    source: a path, a file's bytes, an array (T, H, W, 3) uint8, or a list of pictures of one size as `decode` takes them.
    Frames whose part of the file is cut off or damaged are left out, and the choice is made among the others. outline: for
    plans, only the first frame is decoded; those that are given are blank, of its size, and damage behind it is not seen.
    Raises `MediaError` for what is no clip, has no frame that can be decoded, or exceeds `limits`; `BeholderError` where PyAV
    is missing.
    """
    if isinstance(source, (np.ndarray, list, tuple)):
        return _from_stills(source, choose, name, outline=outline)
    with _opened(source, name, limits) as clip:
        stamps, keys = clip.index()
        damaged = False
        for attempt in range(2):
            seconds = clip.seconds(stamps)
            wanted = _chosen(choose, seconds, clip.name)
            times, duration = _when(seconds, wanted)
            if outline and (first := clip.frames(stamps[:1], keys, len(set(wanted)))):
                return Recording((blank(first[stamps[0]].shape),) * len(wanted), times, duration)
            found = clip.frames(sorted({stamps[number] for number in wanted}), keys)
            if all(stamps[number] in found for number in wanted):
                break
            if attempt:
                raise MediaError(f"{clip.name}: {BROKEN}")
            decodable = clip.decodable()  # all are looked for once, from the first on
            damaged = len(decodable) < len(stamps)
            stamps, keys = decodable, decodable[:1]
    return Recording(tuple(found[stamps[number]] for number in wanted), times, duration, damaged)


def blank(shape: Sequence[int]) -> np.ndarray:
    """Pixels of which nothing but the shape matters, in no memory."""
    return np.broadcast_to(np.uint8(0), tuple(shape))


def _when(seconds: Sequence[float], wanted: Sequence[int]) -> tuple[tuple[float, ...], float]:
    """When the wanted frames are shown, and the seconds of the whole clip."""
    duration = seconds[-1] + seconds[-1] / max(len(seconds) - 1, 1)
    return tuple(seconds[number] for number in wanted), duration


def _chosen(choose: Choose, seconds: Sequence[float], name: str) -> list[int]:
    wanted = [int(number) for number in choose(seconds)]
    if not wanted or min(wanted) < 0 or max(wanted) >= len(seconds):
        raise MediaError(f"{name}: no frame to look at among {len(seconds)}")
    return wanted


def _from_stills(source: Any, choose: Choose, name: str, *, outline: bool) -> Recording:
    """Every frame that is looked at of an array or a list of pictures."""
    if not len(source):
        raise MediaError(f"{name}: has no frames; give one at least")
    seconds = [number / STILLS_RATE for number in range(len(source))]
    wanted = _chosen(choose, seconds, name)
    if outline:
        shape = decode(source[wanted[0]], name=f"{name}, frame {wanted[0] + 1}").shape
        times = tuple(seconds[number] for number in wanted)
        return Recording((blank(shape),) * len(wanted), times, len(source) / STILLS_RATE)
    stills = {number: decode(source[number], name=f"{name}, frame {number + 1}") for number in wanted}
    sizes = {still.shape for still in stills.values()}
    if len(sizes) > 1:
        small, large = min(sizes), max(sizes)
        raise MediaError(
            f"{name}: frames of {small[1]} x {small[0]} and of {large[1]} x {large[0]} pixels; give them one size"
        )
    frames = tuple(stills[number] for number in wanted)
    return Recording(frames, tuple(seconds[number] for number in wanted), len(source) / STILLS_RATE)


@contextmanager
def _opened(source: Any, name: str, limits: ClipLimits) -> Iterator[_Clip]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        file: BinaryIO = io.BytesIO(bytes(source))
    elif isinstance(source, (str, Path)):
        refuse_address(str(source), name, "clip")
        name = f"{name} ({shown(str(source))})"
        try:
            file = Path(source).open("rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            raise MediaError(f"{name}: no such file; check the path") from None
        except (OSError, ValueError):
            raise MediaError(f"{name}: cannot be read; check the path and its permissions") from None
    else:
        raise MediaError(
            f"{name}: a {type(source).__name__} is no clip; give a path, bytes, an array (T, H, W, 3) or a list of pictures"
        )
    with file:
        size = file.seek(0, io.SEEK_END)
        if size > limits.max_bytes:
            raise MediaError(
                f"{name}: {size:,} bytes are more than the limit of {limits.max_bytes:,}; cut the clip"
            )
        file.seek(0)
        kind = container_kind(file.read(200))
        if kind is None:
            raise MediaError(f"{name}: is not a clip this reads; send {CONTAINERS}")
        yield _Clip(file, kind, name, limits)


@dataclass(frozen=True)
class _Clip:
    """An open file. Stamps are times of frames in the stream's own units."""

    file: BinaryIO
    kind: str
    name: str
    limits: ClipLimits

    @contextmanager
    def _stream(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        try:
            import av
        except ImportError:
            raise BeholderError(
                f"{self.name}: decoding clips needs PyAV; install it with pip install 'beholder[video]'"
            ) from None
        self.file.seek(0)
        try:
            with av.open(self.file, format=self.kind, metadata_errors="ignore") as container:
                if not container.streams.video:
                    raise MediaError(f"{self.name}: the file has no pictures, only sound or data")
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                self._check_size(stream.codec_context.width, stream.codec_context.height)
                yield container, stream
        except BeholderError:
            raise
        except (av.error.FFmpegError, ValueError, EOFError, AttributeError):  # some streams have no decoder
            raise MediaError(f"{self.name}: {BROKEN}") from None

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.limits.max_pixels:
            raise MediaError(
                f"{self.name}: frames of {width} x {height} pixels are more than the limit of "
                f"{self.limits.max_pixels:,}; scale them down"
            )

    def index(self) -> tuple[list[int], list[int]]:
        """The stamps of all frames in order, and of those where decoding can begin; nothing is decoded."""
        stamps: dict[int, bool] = {}
        with self._stream() as (container, stream):
            packets = container.demux(stream)
            while (packet := self._next(packets)) is not None:
                stamp = packet.dts if packet.pts is None else packet.pts
                if stamp is not None and packet.size:
                    stamps[stamp] = stamps.get(stamp, False) or packet.is_keyframe
                if len(stamps) > self.limits.max_frames:
                    raise MediaError(
                        f"{self.name}: more than {self.limits.max_frames:,} frames; cut the clip"
                    )
        if not stamps:
            raise MediaError(f"{self.name}: {BROKEN}")
        order = sorted(stamps)
        length = self.seconds(order)[-1]
        if length > self.limits.max_seconds:
            raise MediaError(
                f"{self.name}: {length:,.0f} seconds are more than the limit of {self.limits.max_seconds:,.0f}; "
                "cut the clip"
            )
        return order, [stamp for stamp in order if stamps[stamp]] or order[:1]

    def _next(self, items: Iterator[Any]) -> Any:
        """The next packet or frame; None at the end, which damage is as well."""
        import av

        try:
            return next(items, None)
        except (av.error.FFmpegError, ValueError, EOFError):
            return None

    def seconds(self, stamps: Sequence[int]) -> list[float]:
        """Of each stamp, from the first on."""
        with self._stream() as (_, stream):
            base = float(stream.time_base or 1 / STILLS_RATE)
        return [(stamp - stamps[0]) * base for stamp in stamps]

    def frames(
        self, wanted: Sequence[int], keys: Sequence[int], kept: int | None = None
    ) -> dict[int, np.ndarray]:
        """The frames at rising stamps, as far as they can be decoded. keys: where decoding can begin; kept: how many frames are
        kept at a time, where not those that are wanted.
        """
        found: dict[int, np.ndarray] = {}
        with self._stream() as (container, stream):
            frames, at = container.decode(stream), -math.inf
            for stamp in wanted:
                key = keys[max(bisect_right(keys, stamp) - 1, 0)]
                if key > at and key > keys[0]:
                    container.seek(key, stream=stream)
                    frames = container.decode(stream)
                while at < stamp and (frame := self._next(frames)) is not None:
                    at = frame.pts if frame.pts is not None else frame.dts
                    if at == stamp:
                        found[stamp] = self._pixels(frame, kept or len(wanted))
        return found

    def decodable(self) -> list[int]:
        """The stamps of all frames that can be decoded, in order."""
        stamps = set()
        with self._stream() as (container, stream):
            frames = container.decode(stream)
            while (frame := self._next(frames)) is not None:
                stamps.add(frame.pts if frame.pts is not None else frame.dts)
        if not stamps - {None}:
            raise MediaError(f"{self.name}: {BROKEN}")
        return sorted(stamps - {None})

    def _pixels(self, frame: VideoFrame, count: int) -> np.ndarray:
        """An upright frame (H, W, 3), one of `count` that are kept."""
        self._check_size(frame.width, frame.height)
        if count * frame.width * frame.height * 3 > self.limits.max_kept:
            raise MediaError(
                f"{self.name}: {count} frames of {frame.width} x {frame.height} pixels are more than "
                f"{self.limits.max_kept:,} bytes; look at fewer frames or scale the clip down"
            )
        pixels_HWC = frame.to_ndarray(format="rgb24")
        return np.ascontiguousarray(np.rot90(pixels_HWC, round(frame.rotation / 90) % 4))
