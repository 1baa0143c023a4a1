"""Prepares the pictures that `mini` learns from: icons of permissively licensed sets as cut-outs, and easy-VQA.

    python recipes/mini/prepare.py --out DIR [--limit N]

Needs npm, and the package `resvg-py` to render. A killed run continues with the icon set it had reached.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import shutil
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track
from vocabulary import Vocabulary, json_member

from beholder.data.cutouts import INDEX, PIXELS, CutOut, CutOuts
from beholder.data.easy_vqa import EASY_VQA
from beholder.errors import BeholderError
from beholder.files import write_text_atomic
from beholder.packages import Package, cache_folder, fetch

ICONS = Package(
    client="npm",
    name="@iconify/json",
    version="2.2.535",
    filename="iconify-json-2.2.535.tgz",
    sha256="1a545f86fa224d6531d8fb101dcbe83aac2b28689a21cbed6fc68318a5af4d91",
)
LABELS = Package(
    client="npm",
    name="emojibase-data",
    version="17.0.0",
    filename="emojibase-data-17.0.0.tgz",
    sha256="d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
)
LICENCES = ("MIT", "Apache-2.0", "CC0-1.0", "ISC", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-3.0", "CC-BY-4.0")
LEFT_OUT_CATEGORIES = ("Logos", "Programming", "Flags / Maps", "Archive / Unmaintained")
# marked hidden for its size alone; its licence is stated like that of the others
KEPT_HIDDEN = ("fluent-emoji",)
TEST_STYLE = "emojione"
# the same drawings as the held-out style, without their colours
LOOKALIKES = ("emojione-monotone",)
SIZE = 128
MIN_PICTURES = 3
MAX_STENCILS = 4
STYLE_SUFFIX = re.compile(
    r"-(fill|filled|solid|bold|duotone|outline|outlined|line|thin|light|broken|linear|flat|duo|twotone|rounded|sharp"
    r"|regular|mini|alt|round|remix|free|freehand|color|sharp-fill|\d+)$"
)
# a set of single-colour icons is drawn for its shapes: filled ones first, line drawings last
STENCIL_ORDER = ("fill", "filled", "solid", "bold", "rounded", "")


@dataclass(frozen=True)
class Icon:
    """An icon of a set that shows a concept; `stencil` when it has no colours of its own."""

    style: str
    name: str
    concept: str
    stencil: bool


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=cache_folder() / "data" / "mini", help="folder to fill")
    parser.add_argument("--limit", type=int, help="at most this many icons, for a quick try")
    options = parser.parse_args()
    try:
        prepare(options.out, options.limit)
    except BeholderError as error:
        raise SystemExit(f"prepare: {error}") from None


def prepare(out: Path, limit: int | None = None) -> None:
    """Fills `out` with cut-outs, their index, the easy-VQA package and ATTRIBUTION.md."""
    downloads = cache_folder() / "packages"
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(fetch(EASY_VQA, downloads), out / EASY_VQA.filename)
    vocabulary = Vocabulary.read(fetch(LABELS, downloads))
    collections, sets = read_sets(fetch(ICONS, downloads))
    icons = choose_icons(collections, sets, vocabulary, limit)
    stamp, digest = out / "prepared.txt", digest_of(SIZE, ICONS.sha256, *icons)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        print(f"{out} is prepared already")
        return
    stamp.unlink(missing_ok=True)
    cutouts = render_sets(icons, sets, out / "parts", out / PIXELS)
    names = sorted({row.concept for row in cutouts})
    split = CutOuts(
        pixels=np.empty(0, np.uint8),
        rows=tuple(cutouts),
        concepts={name: vocabulary.concepts[name] for name in names},
        test_concepts=frozenset(name for name in names if held_out(name)),
        test_style=TEST_STYLE,
    )
    split.save_index(out)
    write_attribution(out / "ATTRIBUTION.md", collections, Counter(row.style for row in cutouts))
    write_text_atomic(stamp, digest)
    shutil.rmtree(out / "parts")
    print(
        f"{len(cutouts):,} cut-outs of {len(names):,} concepts ({len(split.test_concepts)} held out) in {out}"
    )


def held_out(concept: str) -> bool:
    """One concept in ten, by its name alone, so that the choice survives changes of the vocabulary."""
    return hashlib.sha256(concept.encode()).digest()[0] % 10 == 0


def read_sets(package: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(facts of each set, icons of each set) for the sets whose licence and content we accept."""
    sets: dict[str, Any] = {}
    with tarfile.open(package) as archive:
        facts = json_member(archive, "package/collections.json")
        accepted = {name: fact for name, fact in facts.items() if acceptable(name, fact)}
    with tarfile.open(package) as archive:
        for member in archive:
            name = Path(member.name).stem
            stream = (
                archive.extractfile(member)
                if member.name == f"package/json/{name}.json" and name in accepted
                else None
            )
            if stream is not None:
                sets[name] = json.load(stream)
    return accepted, sets


def acceptable(name: str, fact: dict[str, Any]) -> bool:
    """Permissive licence, pictures of things, not withdrawn."""
    return (
        (not fact.get("hidden") or name in KEPT_HIDDEN)
        and name not in LOOKALIKES
        and "Contains Animations" not in fact.get("tags", ())
        and fact["license"].get("spdx") in LICENCES
        and fact.get("category") not in LEFT_OUT_CATEGORIES
    )


def choose_icons(
    collections: dict[str, Any], sets: dict[str, Any], vocabulary: Vocabulary, limit: int | None = None
) -> list[Icon]:
    """All coloured icons of known concepts, and up to MAX_STENCILS single-colour ones, one from a set.

    With a `limit`, whole concepts in a fixed order until it is reached.
    """
    coloured: dict[tuple[str, str, str], Icon] = {}
    stencils: dict[str, dict[str, tuple[int, Icon]]] = defaultdict(dict)
    for style in sorted(sets):
        fact = collections[style]
        is_emoji = fact.get("category") == "Emoji" or style.startswith("fluent-emoji")
        for name in sorted(sets[style]["icons"]):
            stem, suffix = split_suffix(name, is_emoji=is_emoji)
            concept = vocabulary.concept_of(stem, is_emoji=is_emoji)
            if concept is None:
                continue
            if fact.get("palette"):
                coloured[style, stem, suffix] = Icon(style, name, concept, stencil=False)
            elif suffix in STENCIL_ORDER:
                rank = STENCIL_ORDER.index(suffix)
                best = stencils[concept].get(style)
                if best is None or rank < best[0]:
                    stencils[concept][style] = (rank, Icon(style, name, concept, stencil=True))
    icons = list(coloured.values())
    for concept, found in stencils.items():
        ranked = sorted(found.values(), key=lambda item: (item[0], mixed(concept, item[1].style)))
        icons += [icon for _, icon in ranked[:MAX_STENCILS]]
    counts = Counter(icon.concept for icon in icons)
    kept = [icon for icon in icons if counts[icon.concept] >= MIN_PICTURES]
    kept = sorted(kept, key=lambda icon: mixed(icon.concept))[:limit]
    return sorted(kept, key=lambda icon: (icon.style, icon.name))


def digest_of(*parts: object) -> str:
    """A short digest of what things say about themselves."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def mixed(*words: str) -> bytes:
    """A fixed but arbitrary order, so that no set is always first."""
    return hashlib.sha256("/".join(words).encode()).digest()


def split_suffix(name: str, *, is_emoji: bool) -> tuple[str, str]:
    """`apple-bold-20` -> (`apple`, `bold`): the drawing variants that sets of user interface icons append."""
    if is_emoji:
        return name, ""
    suffix = ""
    while match := STYLE_SUFFIX.search(name):
        name = name[: match.start()]
        suffix = suffix if match.group(1).isdigit() else match.group(1)
    return name, suffix


def render_sets(icons: list[Icon], sets: dict[str, Any], parts: Path, target: Path) -> list[CutOut]:
    """Renders set by set into `parts`, then joins them in `target`. Icons that come out empty are left out."""
    parts.mkdir(exist_ok=True)
    by_style: dict[str, list[Icon]] = defaultdict(list)
    for icon in icons:
        by_style[icon.style].append(icon)
    for style, chosen in track(by_style.items(), description="rendering icon sets"):
        wanted = digest_of(*chosen)
        if (parts / f"{style}.{wanted}.json").exists():
            continue
        drawn = [(icon, rgba) for icon in chosen if (rgba := render(icon, sets[style])) is not None]
        pixels = np.zeros((len(drawn), SIZE, SIZE, 4), np.uint8)
        rows = []
        for row, (icon, rgba) in enumerate(drawn):
            height, width = rgba.shape[:2]
            pixels[row, :height, :width] = rgba
            mean = None if icon.stencil else mean_colour(rgba)
            rows.append(
                {"concept": icon.concept, "style": style, "width": width, "height": height, "mean": mean}
            )
        np.save(parts / f"{style}.npy", pixels)
        write_text_atomic(parts / f"{style}.{wanted}.json", json.dumps(rows))
    return join_parts(list(by_style), parts, target)


def join_parts(styles: list[str], parts: Path, target: Path) -> list[CutOut]:
    """Copies the arrays of all sets into one; returns its rows."""
    found = [
        (style, json.loads(next(parts.glob(f"{style}.*.json")).read_text(encoding="utf-8")))
        for style in styles
    ]
    total = sum(len(rows) for _, rows in found)
    partial = target.with_suffix(".partial.npy")
    joined = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(total, SIZE, SIZE, 4))
    cutouts: list[CutOut] = []
    for style, rows in found:
        start = len(cutouts)
        joined[start : start + len(rows)] = np.load(parts / f"{style}.npy")
        cutouts += [CutOut.of({"row": start + offset, **row}) for offset, row in enumerate(rows)]
    joined.flush()
    (target.parent / INDEX).unlink(missing_ok=True)
    partial.replace(target)
    return cutouts


def render(icon: Icon, icon_set: dict[str, Any]) -> np.ndarray | None:
    """The icon cropped to what it shows and scaled to fit SIZE, (height, width, 4) uint8; None if (nearly) empty."""
    import resvg_py

    data = icon_set["icons"][icon.name]
    box = [data.get(key, icon_set.get(key, default)) for key, default in BOX]
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="black" '
        f'viewBox="{" ".join(map(str, box))}" width="{box[2]}" height="{box[3]}">{data["body"]}</svg>'
    )
    scale = 1.25 * SIZE / max(box[2], box[3])
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=svg,
            width=max(1, round(scale * box[2])),
            height=max(1, round(scale * box[3])),
            skip_system_fonts=True,
        )
    except ValueError:
        return None
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    bounds = image.getchannel("A").point([255 * (alpha > 16) for alpha in range(256)]).getbbox()
    if bounds is None or min(bounds[2] - bounds[0], bounds[3] - bounds[1]) < 8:
        return None
    image = image.crop(bounds)
    ratio = SIZE / max(image.size)
    return np.asarray(
        image.resize([max(1, round(side * ratio)) for side in image.size], Image.Resampling.LANCZOS)
    )


BOX = (("left", 0), ("top", 0), ("width", 16), ("height", 16))


def mean_colour(rgba: np.ndarray) -> list[int]:
    """Mean RGB over the picture, weighted by opacity."""
    alpha = rgba[..., 3:].astype(float)
    return [round(value) for value in (rgba[..., :3] * alpha).sum((0, 1)) / alpha.sum()]


def write_attribution(path: Path, collections: dict[str, Any], used: Counter[str]) -> None:
    """Names every icon set used, its author, licence and number of icons, as the CC-BY licences ask."""
    write_text_atomic(path, "".join(attribution_lines(collections, used)))


def attribution_lines(collections: dict[str, Any], used: Counter[str]) -> Iterator[str]:
    yield "# Icons from which the pictures are made\n\n"
    yield "Rendered to pixels, cropped and scaled; single-colour icons are tinted.\n\n"
    yield "| set | icons used | author | licence |\n|---|---|---|---|\n"
    for style, count in sorted(used.items()):
        fact = collections[style]
        author, licence = fact["author"], fact["license"]
        by = f"[{author['name']}]({author['url']})" if author.get("url") else author["name"]
        under = f"[{licence['spdx']}]({licence['url']})" if licence.get("url") else licence["spdx"]
        yield f"| {fact['name']} (`{style}`) | {count} | {by} | {under} |\n"


if __name__ == "__main__":
    main()
