"""The sample photographs are small, whole, and each has its origin and licence written down."""

import re

from PIL import Image


def test_every_sample_has_a_licence_and_is_small(samples):
    rows = re.findall(
        r"^\| (\w+\.jpg) \|.*\| (.+?) \| .+? \|$", (samples / "README.md").read_text(), re.MULTILINE
    )
    pictures = sorted(path.name for path in samples.iterdir() if path.suffix != ".md")
    assert sorted(name for name, _ in rows) == pictures and len(pictures) >= 10
    assert {licence for _, licence in rows} <= {"CC0 1.0", "public domain"}
    for name in pictures:
        with Image.open(samples / name) as picture:
            picture.load()
            assert picture.mode == "RGB" and max(picture.size) <= 640
        assert (samples / name).stat().st_size < 300_000
