"""From a file, bytes, an array or a Pillow picture to upright RGB pixels, or one clear `MediaError`.

Pillow's format classes are used directly, on formats recognised here by their first bytes: no other decoder
can be reached, size is checked before pixels are allocated, and Pillow's global limits are neither needed nor
changed.
"""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from beholder.errors import MediaError
from beholder.media.at_once import every

# H height, W width

Source = str | Path | bytes | bytearray | memoryview | np.ndarray | Image.Image

# Malformed EXIF is ignored, so Pillow's notes on it, which show library paths, are of no use to anybody.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")

ALLOWED = "JPEG, PNG, WebP, GIF, BMP or TIFF"
ORIENTATION = 0x0112

# What Pillow raises for files that are cut short, damaged or malicious.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    EOFError,
    MemoryError,
    RuntimeError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Limits:
    """What is refused before pixels are allocated.

    max_bytes:  size of the file; 64 MiB
    max_pixels: width times height; 64 Mpx, which is 192 MiB of RGB
    max_ratio:  longer side over shorter side
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 64 * 10**6
    max_ratio: float = 200.0


DEFAULT_LIMITS = Limits()


def decode(source: Source, *, name: str = "image 1", limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """The upright picture as (H, W, 3) uint8, which may be read-only.

    source: a path, the bytes of a file, a uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a Pillow picture
    name:   what errors call it

    EXIF orientation is applied, malformed EXIF ignored. Transparency is laid over white, 16-bit channels keep
    their high byte, CMYK is converted without a colour profile, and of an animation the first frame is taken.
    Raises `MediaError` for whatever cannot be used; a cut-off file is never filled up with grey, unless
    another package has set Pillow's global LOAD_TRUNCATED_IMAGES.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, name, limits)
    if isinstance(source, Image.Image):
        return _from_pillow(source, name, limits)
    if isinstance(source, (str, Path)):
        name, data = _read(source, name, limits)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    else:
        raise MediaError(
            f"{name}: a {type(source).__name__} is not a picture; give a path, bytes, array or Pillow image"
        )
    _check_bytes(len(data), name, limits)
    return _from_bytes(data, name, limits)


def picture_size(
    source: Source, *, name: str = "image 1", limits: Limits = DEFAULT_LIMITS
) -> tuple[int, int]:
    """The upright (height, width) that `decode` would give, from the head of the file alone. Raises `MediaError` for what has
    no such head; the rest may still be damaged.
    """
    if isinstance(source, (np.ndarray, Image.Image)):
        return decode(source, name=name, limits=limits).shape[:2]
    if isinstance(source, (str, Path)):
        name, source = _read(source, name, limits)
    _check_bytes(len(source), name, limits)
    with _opened(bytes(source), name, limits) as image:
        _check_size(*image.size, name, limits)
        width, height = image.size
        return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


def decode_many(sources: Sequence[Source], *, limits: Limits = DEFAULT_LIMITS) -> list[np.ndarray]:
    """`decode` on every source, in threads, in order. Errors name `image 1`, `image 2`, ...; the first is raised."""
    return every(partial(_numbered, limits=limits), range(1, len(sources) + 1), sources)


def decode_each(
    sources: Sequence[Source], *, limits: Limits = DEFAULT_LIMITS
) -> list[np.ndarray | MediaError]:
    """`decode_many`, in which a source that cannot be used gives its error in its place and all others are decoded."""

    def tried(number: int, source: Source) -> np.ndarray | MediaError:
        try:
            return _numbered(number, source, limits)
        except MediaError as error:
            return error

    return every(tried, range(1, len(sources) + 1), sources)


def _numbered(number: int, source: Source, limits: Limits) -> np.ndarray:
    return decode(source, name=f"image {number}", limits=limits)


def _read(path: str | Path, name: str, limits: Limits) -> tuple[str, bytes]:
    """The name to show and the bytes of a regular file that is not too large."""
    text = str(path)
    refuse_address(text, name, "picture")
    name = f"{name} ({shown(text)})"
    try:
        status = Path(text).stat()
        if stat.S_ISDIR(status.st_mode):
            raise MediaError(f"{name}: is a folder; give one picture file")
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{name}: is not a regular file; give one picture file")
        _check_bytes(status.st_size, name, limits)
        with Path(text).open("rb") as file:
            return name, file.read(limits.max_bytes + 1)
    except FileNotFoundError:
        raise MediaError(f"{name}: no such file; check the path") from None
    except PermissionError:
        raise MediaError(f"{name}: may not be read; check its permissions") from None
    except MediaError:
        raise
    except (OSError, ValueError):
        raise MediaError(f"{name}: cannot be read; check the path") from None


def refuse_address(text: str, name: str, what: str) -> None:
    """Raises `MediaError` for what names no file but an address: `what` (picture, clip, sound) is never fetched."""
    if text.lower().startswith(("http:", "https:", "ftp:", "data:", "file:")):
        raise MediaError(
            f"{name}: addresses ({text.split(':')[0].lower()}:) are not read; save the {what} and give its file"
        )


def shown(text: str, longest: int = 120) -> str:
    """A path on one line, its end kept where it is long."""
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= longest else "..." + text[-longest:]


def _check_bytes(count: int, name: str, limits: Limits) -> None:
    if count == 0:
        raise MediaError(f"{name}: empty; send a {ALLOWED} file")
    if count > limits.max_bytes:
        raise MediaError(
            f"{name}: {count:,} bytes are more than the limit of {limits.max_bytes:,}; make the file smaller"
        )


def _check_size(width: int, height: int, name: str, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise MediaError(f"{name}: has no pixels ({width} x {height}); send another picture")
    if width * height > limits.max_pixels:
        raise MediaError(
            f"{name}: {width} x {height} = {width * height:,} pixels are more than the limit of "
            f"{limits.max_pixels:,}; scale it down"
        )
    if max(width, height) > limits.max_ratio * min(width, height):
        raise MediaError(
            f"{name}: {width} x {height} is over {limits.max_ratio:g} times as long as wide; cut it up"
        )


def _from_bytes(data: bytes, name: str, limits: Limits) -> np.ndarray:
    with _opened(data, name, limits) as image:
        return _from_pillow(image, name, limits, _broken(data, name))


def _broken(data: bytes, name: str) -> str:
    return f"{name}: the {_kind(data)} file is truncated or damaged; send the whole file"


def _opened(data: bytes, name: str, limits: Limits) -> ImageFile:
    """A picture whose head was read, and no pixels yet."""
    kind = _kind(data)
    opener = _OPENERS.get(kind)
    if opener is None:
        raise MediaError(f"{name}: {kind} is not a picture this reads; send {ALLOWED}")
    try:
        image = opener(io.BytesIO(data))
        many_pages = kind == "TIFF" and _has_second_page(image)
    except Image.DecompressionBombError:
        raise MediaError(
            f"{name}: more than the limit of {limits.max_pixels:,} pixels; scale it down"
        ) from None
    except DAMAGE:
        raise MediaError(_broken(data, name)) from None
    if many_pages:
        raise MediaError(f"{name}: a TIFF file of several pages; send one page")
    return image


def _has_second_page(image: Image.Image) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _from_pillow(image: Image.Image, name: str, limits: Limits, broken: str | None = None) -> np.ndarray:
    _check_size(*image.size, name, limits)
    try:
        image.load()
        pixels_HWC = _to_rgb(image)
    except DAMAGE:
        raise MediaError(
            broken or f"{name}: its pixels cannot be read; open it again from the whole file"
        ) from None
    if pixels_HWC is None:
        raise MediaError(f"{name}: pixels of mode {image.mode} have no defined range; save it as 8-bit RGB")
    return _upright(pixels_HWC, _orientation(image))


def _from_array(array: np.ndarray, name: str, limits: Limits) -> np.ndarray:
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in modes:
        shape = " x ".join(map(str, array.shape))
        raise MediaError(
            f"{name}: an array of {array.dtype}, {shape}; give uint8, height x width x 3 (or 1, or 4)"
        )
    height, width = array.shape[:2]
    _check_size(width, height, name, limits)
    if channels == 3:
        return np.ascontiguousarray(array)
    array = np.ascontiguousarray(array.reshape(height, width) if channels == 1 else array)
    return _from_pillow(Image.fromarray(array), name, limits)


def _to_rgb(image: Image.Image) -> np.ndarray | None:
    """(H, W, 3) uint8 of a loaded picture, or None for a mode whose values have no defined range."""
    if image.mode.startswith("I;16"):
        return _from_grey16(image)
    if image.mode not in (
        "1",
        "L",
        "P",
        "LA",
        "PA",
        "La",
        "RGB",
        "RGBA",
        "RGBa",
        "RGBX",
        "CMYK",
        "YCbCr",
        "HSV",
    ):
        return None
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or image.info.get("transparency") is not None:
        image = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _from_grey16(image: Image.Image) -> np.ndarray:
    """The high byte, as for 16-bit colour; Pillow's own conversion would clip at 255."""
    values_HW = np.asarray(image)
    grey_HW = (values_HW >> 8).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey_HW = np.where(values_HW == clear, np.uint8(255), grey_HW)
    return np.repeat(grey_HW[..., None], 3, axis=2)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 where there is none or it cannot be read."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except DAMAGE:
        return 1
    return value if isinstance(value, int) else 1


def _upright(pixels_HWC: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation: first a transposition (5 to 8), then flips."""
    if orientation in (5, 6, 7, 8):
        pixels_HWC = pixels_HWC.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels_HWC = pixels_HWC[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_HWC = pixels_HWC[:, ::-1]
    return np.ascontiguousarray(pixels_HWC)


_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "an EPS document"),
    (b"\xc5\xd0\xd3\xc6", "an EPS document"),
    (b"SIMPLE  =", "a FITS file"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"ID3", "a sound (MP3)"),
    (b"fLaC", "a sound (FLAC)"),
    (b"OggS", "a sound or film (Ogg)"),
    (b"8BPS", "a Photoshop document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)


def _kind(data: bytes) -> str:
    """The format by its first bytes: a key of `_OPENERS`, or words for what it is instead."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "a sound (WAV)"
    for signature, kind in _SIGNATURES:
        if data.startswith(signature):
            return kind
    if data[4:8] == b"ftyp":
        return "a HEIC, AVIF or MP4 file"
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "an SVG drawing"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if not start or all(byte >= 32 or byte in b"\t\r\n\f" for byte in start):
        return "text"
    return "a file of unknown kind"
