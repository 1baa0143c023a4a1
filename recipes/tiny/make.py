"""Makes the small data set beside this file, on which recipes are tried at tiny size: pictures of icons and shapes, and rows
in LLaVA's JSON.

    python recipes/tiny/make.py

Needs npm, and the package `resvg-py` to render; what it makes is kept in the repository, so that trying a recipe needs neither.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image

from beholder.data.easy_vqa import EASY_VQA
from beholder.data.phrases import plural, with_article
from beholder.errors import BeholderError
from beholder.packages import Package, cache_folder, fetch

HERE = Path(__file__).parent
ICONS = Package(
    client="npm",
    name="@iconify/json",
    version="2.2.535",
    filename="iconify-json-2.2.535.tgz",
    sha256="1a545f86fa224d6531d8fb101dcbe83aac2b28689a21cbed6fc68318a5af4d91",
)
SET = "fluent-emoji-flat"
THINGS = {  # icon -> what it is called
    "dog-face": "dog",
    "cat-face": "cat",
    "red-apple": "apple",
    "banana": "banana",
    "grapes": "bunch of grapes",
    "lemon": "lemon",
    "pear": "pear",
    "strawberry": "strawberry",
    "carrot": "carrot",
    "mushroom": "mushroom",
    "fish": "fish",
    "turtle": "turtle",
    "butterfly": "butterfly",
    "honeybee": "bee",
    "bird": "bird",
    "duck": "duck",
    "owl": "owl",
    "penguin": "penguin",
    "frog": "frog",
    "snail": "snail",
    "deciduous-tree": "tree",
    "cactus": "cactus",
    "tulip": "tulip",
    "sunflower": "sunflower",
    "automobile": "car",
    "bicycle": "bicycle",
    "bus": "bus",
    "airplane": "plane",
    "sailboat": "boat",
    "rocket": "rocket",
    "house": "house",
    "key": "key",
    "umbrella": "umbrella",
    "bell": "bell",
    "star": "star",
    "balloon": "balloon",
    "crown": "crown",
    "guitar": "guitar",
    "candle": "candle",
    "anchor": "anchor",
}
GROUNDS = {
    "white": (250, 250, 250),
    "grey": (150, 150, 150),
    "pink": (255, 190, 210),
    "blue": (120, 170, 240),
    "green": (150, 215, 150),
    "purple": (185, 150, 220),
}
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
OPPOSITES = "big small|hot cold|up down|left right|day night|old new|fast slow|wet dry|long short|open closed|full empty|in out"
PARTS = {"plain": 60, "pair": 60, "count": 50}
SHAPES = 40  # pictures of easy-VQA
HELD_OUT = 7  # every so many pictures is kept for the held-out file


@dataclass
class Shown:
    """A picture's file name, its caption, and what is asked about it."""

    name: str
    caption: str
    asked: list[tuple[str, str]] = field(default_factory=list)


def main() -> None:
    try:
        downloads = cache_folder() / "packages"
        icons, shapes = fetch(ICONS, downloads), fetch(EASY_VQA, downloads)
    except BeholderError as error:
        raise SystemExit(f"make: {error}") from None
    (HERE / "pictures").mkdir(exist_ok=True)
    rng = random.Random(0)
    drawn = {word: rendered(svg) for word, svg in read_icons(icons).items()}
    shown = [*plain(drawn, rng), *pairs(drawn, rng), *counts(drawn, rng), *easy(shapes, rng)]
    learned = [one for number, one in enumerate(shown) if number % HELD_OUT]
    kept = [one for number, one in enumerate(shown) if not number % HELD_OUT]
    write("captions.json", [captioned(one) for one in learned])
    write("instruct.json", mixed([*map(asked, learned), *several(learned, rng), *words(rng)], rng))
    write("interleaved.json", [interleaved(learned, rng, number) for number in range(60)])
    write("held-out.json", [asked(one) for one in kept])


def read_icons(archive: Path) -> dict[str, str]:
    """Word -> SVG of each of `THINGS`."""
    with tarfile.open(archive) as package:
        file = package.extractfile(f"package/json/{SET}.json")
        assert file is not None
        data = json.load(file)
    sides = (data.get("width", 16), data.get("height", 16))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {sides[0]} {sides[1]}">'
    return {word: f"{head}{data['icons'][icon]['body']}</svg>" for icon, word in THINGS.items()}


def rendered(svg: str, side: int = 40) -> Image.Image:
    png = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def canvas(
    ground: str, size: tuple[int, int], placed: list[tuple[Image.Image, tuple[int, int]]]
) -> Image.Image:
    image = Image.new("RGBA", size, (*GROUNDS[ground], 255))
    for icon, at in placed:
        image.alpha_composite(icon, at)
    return image.convert("RGB")


def save(image: Image.Image, name: str) -> str:
    few = image.quantize(64, dither=Image.Dither.NONE)
    few.save(HERE / "pictures" / f"{name}.png", optimize=True)
    return f"pictures/{name}.png"


def plain(drawn: dict[str, Image.Image], rng: random.Random) -> list[Shown]:
    """One thing on a ground of one colour."""
    out = []
    for number in range(PARTS["plain"]):
        word, ground = list(drawn)[number % len(drawn)], rng.choice(list(GROUNDS))
        at = (rng.randint(2, 22), rng.randint(2, 22))
        name = save(canvas(ground, (64, 64), [(drawn[word], at)]), f"plain-{number:03d}")
        one = Shown(name, f"{with_article(word).capitalize()} on a {ground} background.")
        one.asked = [
            ("What is this?", with_article(word)),
            ("What colour is the background?", ground),
            yes_no(word, drawn, rng),
        ]
        out.append(one)
    return out


def pairs(drawn: dict[str, Image.Image], rng: random.Random) -> list[Shown]:
    """Two things side by side."""
    out = []
    for number in range(PARTS["pair"]):
        left, right = rng.sample(list(drawn), 2)
        places = [(drawn[left], (4, rng.randint(4, 20))), (drawn[right], (52, rng.randint(4, 20)))]
        name = save(canvas(rng.choice(list(GROUNDS)), (96, 64), places), f"pair-{number:03d}")
        one = Shown(name, f"{with_article(left).capitalize()} to the left of {with_article(right)}.")
        one.asked = [
            (f"What is to the right of the {left}?", with_article(right)),
            (f"On which side is the {left}?", "left"),
            yes_no(rng.choice((left, right)), drawn, rng),
        ]
        out.append(one)
    return out


def counts(drawn: dict[str, Image.Image], rng: random.Random) -> list[Shown]:
    """One to five of the same."""
    out = []
    for number in range(PARTS["count"]):
        word, count = rng.choice(list(drawn)), number % 5 + 1
        cells = rng.sample([(x, y) for x in (2, 34, 66) for y in (2, 34, 66)], count)
        small = drawn[word].resize((28, 28), Image.Resampling.LANCZOS)
        name = save(
            canvas(rng.choice(list(GROUNDS)), (96, 96), [(small, at) for at in cells]), f"count-{number:03d}"
        )
        said = f"{NUMBERS[count]} {word if count == 1 else plural(word)}"
        one = Shown(name, f"{said.capitalize()}.")
        one.asked = [("How many things are there?", NUMBERS[count]), ("What is shown?", said)]
        out.append(one)
    return out


def easy(wheel: Path, rng: random.Random) -> list[Shown]:
    """Pictures of easy-VQA with their own questions."""
    with zipfile.ZipFile(wheel) as archive:
        root, asked = "easy_vqa/data/train", dict[int, list[tuple[str, str]]]()
        for question, answer, picture in json.loads(archive.read(f"{root}/questions.json")):
            asked.setdefault(picture, []).append((question, answer))
        out = []
        for number in sorted(rng.sample(sorted(asked), SHAPES)):
            with Image.open(io.BytesIO(archive.read(f"{root}/images/{number}.png"))) as image:
                name = save(image.convert("RGB"), f"shape-{number:04d}")
            answers = {answer for _, answer in asked[number]}
            shape = next((word for word in ("circle", "rectangle", "triangle") if word in answers), "shape")
            out.append(Shown(name, f"{with_article(shape).capitalize()}.", rng.sample(asked[number], 3)))
    return out


def yes_no(word: str, drawn: dict[str, Image.Image], rng: random.Random) -> tuple[str, str]:
    """Whether a thing is there; as often not."""
    if rng.random() < 0.5:
        return f"Is there {with_article(word)}?", "yes"
    return f"Is there {with_article(rng.choice([other for other in drawn if other != word]))}?", "no"


def turns(pairs: list[tuple[str, str]], pictures: int = 0) -> list[dict[str, str]]:
    """LLaVA's form, the marks of pictures before the first question."""
    out = []
    for number, (question, answer) in enumerate(pairs):
        mark = "<image>\n" * (pictures if number == 0 else 0)
        out += [{"from": "human", "value": mark + question}, {"from": "gpt", "value": answer}]
    return out


def captioned(one: Shown) -> dict[str, Any]:
    return {"image": one.name, "conversations": turns([("Describe the picture.", one.caption)], 1)}


def asked(one: Shown) -> dict[str, Any]:
    return {"image": one.name, "conversations": turns(one.asked, 1)}


def several(shown: list[Shown], rng: random.Random) -> list[dict[str, Any]]:
    """Rows of two pictures."""
    rows = []
    for _ in range(20):
        first, second = rng.sample(shown, 2)
        said = [("Describe both pictures.", f"{first.caption} {second.caption}")]
        rows.append({"image": [first.name, second.name], "conversations": turns(said, 2)})
    return rows


def words(rng: random.Random) -> list[dict[str, Any]]:
    """Rows of text alone."""
    said = []
    for pair in OPPOSITES.split("|"):
        one, other = pair.split()
        said += [(f"What is the opposite of {one}?", other), (f"What is the opposite of {other}?", one)]
    for one in range(1, 5):
        said += [(f"What is {NUMBERS[one]} plus {NUMBERS[two]}?", NUMBERS[one + two]) for two in range(1, 5)]
    rng.shuffle(said)
    return [{"conversations": turns(said[at : at + 2])} for at in range(0, len(said), 2)]


def interleaved(shown: list[Shown], rng: random.Random, number: int) -> dict[str, Any]:
    """Two or three pictures with their captions, one behind the other."""
    chosen = rng.sample(shown, 2 + number % 2)
    said: list[dict[str, str]] = []
    for one in chosen:
        said += turns([("What is this?", one.caption)], 1)
    return {"image": [one.name for one in chosen], "conversations": said}


def mixed(rows: list[dict[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
    return rng.sample(rows, len(rows))


def write(name: str, rows: list[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps({"id": number, **row}) for number, row in enumerate(rows))
    (HERE / name).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
