"""Every way a picture can come in, and every way it can be bad."""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from beholder.errors import MediaError
from beholder.media.decode import Limits, decode, decode_each, decode_many

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG file by hand: `rows` are the filtered scan lines."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(extra)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def picture(height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_lossless_formats_give_their_pixels():
    want = picture()
    for kind, options in (("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        data = encoded(Image.fromarray(want), kind, **options)
        assert np.array_equal(decode(data), want), kind


def test_arrays_and_pillow_pictures_and_views_of_bytes():
    want = picture()
    data = encoded(Image.fromarray(want), "PNG")
    for source in (want, Image.fromarray(want), bytearray(data), memoryview(data), want[::-1][::-1]):
        got = decode(source)
        assert got.dtype == np.uint8 and got.flags.c_contiguous and np.array_equal(got, want)
    assert decode(np.full((2, 3), 7, np.uint8)).tolist() == [[[7, 7, 7]] * 3] * 2
    assert decode(np.full((2, 3, 1), 7, np.uint8)).tolist() == [[[7, 7, 7]] * 3] * 2
    assert decode(np.array([[[0, 0, 0, 0], [9, 8, 7, 255]]], np.uint8)).tolist() == [[[255] * 3, [9, 8, 7]]]


def test_paths_as_text_and_path(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(encoded(Image.fromarray(picture()), "PNG"))
    assert np.array_equal(decode(file), decode(str(file)))


def test_one_pixel():
    assert decode(encoded(Image.new("RGB", (1, 1), RED), "PNG")).tolist() == [[list(RED)]]


@pytest.mark.parametrize(
    ("data", "want"),
    [
        pytest.param(png(2, 1, 8, 6, b"\0" + bytes([255, 0, 0, 255, 255, 0, 0, 0])), [RED, WHITE], id="RGBA"),
        pytest.param(png(1, 1, 8, 6, b"\0" + bytes([0, 0, 0, 128])), [(127, 127, 127)], id="half-clear"),
        pytest.param(png(2, 1, 8, 4, b"\0" + bytes([9, 255, 9, 0])), [(9, 9, 9), WHITE], id="LA"),
        pytest.param(
            png(
                3, 1, 8, 3, b"\0\0\1\2", chunk(b"PLTE", bytes(RED + GREEN + BLUE)), chunk(b"tRNS", b"\xff\0")
            ),
            [RED, WHITE, BLUE],
            id="palette-tRNS",
        ),
        pytest.param(
            png(3, 1, 8, 3, b"\0\2\1\0", chunk(b"PLTE", bytes(RED + GREEN + BLUE))),
            [BLUE, GREEN, RED],
            id="P",
        ),
        pytest.param(
            png(2, 1, 8, 2, b"\0" + bytes(RED + BLUE), chunk(b"tRNS", b"\0\xff\0\0\0\0")),
            [WHITE, BLUE],
            id="RGB-tRNS",
        ),
        pytest.param(png(8, 1, 1, 0, b"\0\xa0"), [WHITE, BLACK, WHITE] + [BLACK] * 5, id="1-bit"),
        pytest.param(png(2, 1, 2, 0, b"\0\x60"), [(85,) * 3, (170,) * 3], id="2-bit"),
        pytest.param(
            png(4, 1, 16, 0, b"\0" + struct.pack(">4H", 255, 256, 32767, 65535)),
            [BLACK, (1,) * 3, (127,) * 3, WHITE],
            id="16-bit-grey",
        ),
        pytest.param(
            png(2, 1, 16, 0, b"\0" + struct.pack(">2H", 300, 301), chunk(b"tRNS", struct.pack(">H", 300))),
            [WHITE, (1,) * 3],
            id="16-bit-grey-tRNS",
        ),
        pytest.param(
            png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 255, 32768, 65535)), [(0, 128, 255)], id="16-bit-RGB"
        ),
        pytest.param(
            png(1, 1, 16, 6, b"\0" + struct.pack(">4H", 0, 0, 65535, 65535)), [BLUE], id="16-bit-RGBA"
        ),
        pytest.param(
            encoded(Image.new("CMYK", (2, 1), (0, 255, 255, 0)), "TIFF"), [RED, RED], id="CMYK-TIFF"
        ),
    ],
)
def test_golden_pixels(data, want):
    assert decode(data).tolist() == [[list(pixel) for pixel in want]]


def test_cmyk_and_grey_jpeg():
    cmyk = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100))
    assert np.abs(cmyk.astype(int) - RED).max() <= 3
    grey = decode(encoded(Image.new("L", (8, 8), 90), "JPEG", quality=100))
    assert np.abs(grey.astype(int) - 90).max() <= 1


def test_first_frame_of_animations():
    frames = [Image.new("RGB", (4, 3), colour) for colour in (RED, GREEN, BLUE)]
    for kind in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (decode(data) == RED).all(), kind


# A picture of four colours, turned and mirrored as cameras store it.
UPRIGHT = np.array([[RED, GREEN, BLUE], [WHITE, BLACK, (9, 9, 9)]], np.uint8)
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: np.rot90(UPRIGHT[:, ::-1]),
    6: np.rot90(UPRIGHT),
    7: np.rot90(UPRIGHT[::-1]),
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    data = encoded(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(decode(data), UPRIGHT)
    assert np.array_equal(decode(Image.open(io.BytesIO(data))), UPRIGHT)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_jpeg(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = np.kron(STORED[orientation], np.ones((16, 16, 1), np.uint8))
    got = decode(encoded(Image.fromarray(large), "JPEG", exif=exif, quality=100, subsampling=0))
    assert np.abs(got[8::16, 8::16].astype(int) - UPRIGHT).max() <= 3


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\xff\xff\0\x63\0\0\0\0\0\0",
        b"Exif\0\0",
    ],
)
def test_malformed_exif_is_ignored(exif):
    data = encoded(Image.fromarray(picture()), "JPEG")
    with_exif = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert np.array_equal(decode(with_exif), decode(data))


BAD = {
    "empty": (b"", "image 1: empty"),
    "html": (b"<!DOCTYPE html><html>nothing</html>", "an HTML page"),
    "text": (b"just words", "text"),
    "svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    "pdf": (b"%PDF-1.7 ...", "a PDF document"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0", "an EPS document"),
    "fits": (b"SIMPLE  =                    T", "a FITS file"),
    "jpeg2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    "wav": (b"RIFF\0\0\0\0WAVEfmt ", "a sound (WAV)"),
    "mp3": (b"ID3\4\0", "a sound (MP3)"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
    "unknown": (bytes(range(256)), "unknown kind"),
    "two pages": (
        encoded(Image.new("L", (4, 4)), "TIFF", save_all=True, append_images=[Image.new("L", (4, 4))]),
        "several pages",
    ),
    "float pixels": (encoded(Image.new("F", (4, 4)), "TIFF"), "8-bit RGB"),
    "strip": (png(20000, 1, 8, 0, b"\0" + bytes(20000)), "20000 x 1 is over 200 times"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bytes(name):
    data, words = BAD[name]
    with pytest.raises(MediaError) as error:
        decode(data)
    text = str(error.value)
    assert words in text and text.startswith("image 1: ") and "\n" not in text
    assert "PIL" not in text and "0x" not in text


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_cut_files_are_refused(kind, share):
    data = encoded(Image.fromarray(picture(64, 64)), kind)
    with pytest.raises(MediaError, match="truncated or damaged|unknown kind|text|no pixels"):
        decode(data[: int(len(data) * share)])


def test_bomb_header_is_refused_at_once():
    data = png(60000, 60000, 8, 2, b"")
    decode(encoded(Image.new("L", (1, 1)), "PNG"))
    start = time.perf_counter()
    with pytest.raises(
        MediaError, match="60000 x 60000 = 3,600,000,000 pixels are more than the limit of 64,000,000"
    ):
        decode(data)
    assert time.perf_counter() - start < 0.05


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "BMP"])
def test_bomb_headers_of_other_formats(kind):
    data = bytearray(encoded(Image.new("RGB", (8, 8)), kind))
    if kind == "GIF":
        data[6:10] = struct.pack("<HH", 60000, 60000)
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", 60000, 60000)
    else:
        data[26:30] = struct.pack("<HH", 16383, 16383)
    with pytest.raises(MediaError, match="more than the limit|truncated or damaged"):
        decode(bytes(data))


def test_pillows_limits_are_left_alone():
    before = Image.MAX_IMAGE_PIXELS
    decode(picture())
    with pytest.raises(MediaError):
        decode(png(60000, 60000, 8, 2, b""))
    assert before == Image.MAX_IMAGE_PIXELS


def test_limits_are_the_callers():
    data = encoded(Image.new("L", (30, 20)), "PNG")
    assert decode(data, limits=Limits(max_pixels=600)).shape == (20, 30, 3)
    for limits, words in (
        (Limits(max_pixels=599), "30 x 20 = 600 pixels"),
        (Limits(max_bytes=10), "more than the limit of 10"),
        (Limits(max_ratio=1.4), "over 1.4 times"),
    ):
        with pytest.raises(MediaError, match=words):
            decode(data, limits=limits)


def test_bad_paths(tmp_path):
    (tmp_path / "empty.png").touch()
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "no.png", "no such file"),
        (tmp_path / "empty.png", "empty"),
        ("https://example.org/a.png", r"addresses \(https:\) are not read"),
        ("data:image/png;base64,AAAA", r"addresses \(data:\) are not read"),
        ("a\nb.png", "no such file"),
        ("a\0b.png", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("/dev/null", "not a regular file"),
    ):
        with pytest.raises(MediaError, match=words) as error:
            decode(path, name="image 7")
        assert (
            str(error.value).startswith("image 7")
            and "\n" not in str(error.value)
            and len(str(error.value)) < 250
        )


def test_bad_arrays_and_objects():
    for source, words in (
        (np.zeros((2, 2, 3), np.float32), "array of float32"),
        (np.zeros((2, 2, 5), np.uint8), "2 x 2 x 5"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((1, 2, 2, 3), np.uint8), "1 x 2 x 2 x 3"),
        (3, "int is not a picture"),
        (None, "NoneType is not a picture"),
    ):
        with pytest.raises(MediaError, match=words):
            decode(source)


def test_many_keep_their_order_and_names():
    pictures = [np.full((5, 5, 3), i, np.uint8) for i in range(20)]
    got = decode_many([encoded(Image.fromarray(p), "PNG") for p in pictures])
    assert [int(p[0, 0, 0]) for p in got] == list(range(20))
    with pytest.raises(MediaError, match="^image 2: empty"):
        decode_many([pictures[0], b"", b"text"])
    assert decode_many([]) == []


def test_a_source_that_cannot_be_used_stops_no_other():
    good = encoded(Image.fromarray(np.full((5, 5, 3), 9, np.uint8)), "PNG")
    got = decode_each([good, b"text", good[:40], good])
    assert [isinstance(one, MediaError) for one in got] == [False, True, True, False]
    assert str(got[1]).startswith("image 2: text") and str(got[2]).startswith("image 3: the PNG file")
    assert np.array_equal(got[3], got[0])


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"]),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.floats(0.01, 1),
)
def test_damage_never_gives_another_error(kind, changes, cut):
    data = bytearray(encoded(Image.fromarray(picture()), kind))
    for place, value in changes:
        data[int(place * len(data))] = value
    try:
        got = decode(bytes(data[: max(1, int(cut * len(data)))]), limits=Limits(max_pixels=10**6))
    except MediaError as error:
        assert "\n" not in str(error)
    else:
        assert got.ndim == 3 and got.shape[2] == 3 and got.dtype == np.uint8
