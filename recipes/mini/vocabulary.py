"""Reads which concepts `mini` learns to name, and which names of icons show them."""

from __future__ import annotations

import json
import re
import tarfile
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from beholder.data.cutouts import Concept
from beholder.errors import BeholderError

TABLES = Path(__file__).with_name("concepts.toml")
HOUR = re.compile(r"o.clock$|-thirty$")


@dataclass(frozen=True)
class Vocabulary:
    """The concepts, and which squashed names of icons show them.

    `emoji` holds for sets of emoji, whose names are those of a standard, `common` for all other sets.
    """

    concepts: dict[str, Concept]
    common: dict[str, str]
    emoji: dict[str, str]

    @classmethod
    def read(cls, package: Path) -> Vocabulary:
        """From the package `emojibase-data` and the tables beside this file."""
        tables = tomllib.loads(TABLES.read_text(encoding="utf-8"))
        kinds, keep, rename = (flipped(tables[name]) for name in ("kinds", "keep", "rename"))
        concepts: dict[str, Concept] = {}
        emoji: dict[str, str] = {}
        for entry, subgroup, codes in read_labels(package):
            label = entry["label"].lower()
            kind = keep.get(label) or kinds.get(subgroup)
            if kind is None or label in tables["drop"] or HOUR.search(label):
                continue
            name = rename.get(label, label)
            found = concepts.setdefault(name, Concept(name, kind))
            tags = {*found.tags, *(tag.lower() for tag in entry.get("tags", ())), label} - {name}
            concepts[name] = replace(found, tags=tuple(sorted(tags)))
            for alias in (label, *codes):
                emoji.setdefault(squash(alias), name)
        for name, kind in flipped(tables["extra"]).items():
            concepts.setdefault(name, Concept(name, kind))
        emoji.update((squash(name), name) for name in concepts)
        common = {squash(name): name for name in concepts if name not in tables["only_in_emoji"]}
        common.update((alias, name) for alias, name in flipped(tables["aliases"]).items() if name in concepts)
        return cls(concepts, common, emoji)

    def concept_of(self, icon: str, *, is_emoji: bool) -> str | None:
        """The concept that an icon's name stands for, if any."""
        return (self.emoji if is_emoji else self.common).get(squash(icon))


def squash(name: str) -> str:
    """Letters and digits only, so that `hot-dog`, `hotdog` and `Hot dog` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def flipped(table: dict[str, list[str]]) -> dict[str, str]:
    """{value: key} for every value of every list."""
    return {value: key for key, values in table.items() for value in values}


def read_labels(package: Path) -> list[tuple[dict[str, Any], str, list[str]]]:
    """(entry, subgroup, shortcodes) of every emoji."""
    with tarfile.open(package) as archive:
        entries = json_member(archive, "package/en/data.json")
        subgroups = json_member(archive, "package/meta/groups.json")["subgroups"]
        sources = ("emojibase", "joypixels", "iamcal")
        tables = [json_member(archive, f"package/en/shortcodes/{source}.json") for source in sources]
    labels = []
    for entry in entries:
        found = [table[entry["hexcode"]] for table in tables if entry["hexcode"] in table]
        codes = [code for codes in found for code in ([codes] if isinstance(codes, str) else codes)]
        labels.append((entry, subgroups.get(str(entry.get("subgroup")), ""), codes))
    return labels


def json_member(archive: tarfile.TarFile, name: str) -> Any:
    """The JSON file `name` of an open archive. Raises BeholderError when there is none."""
    try:
        stream = archive.extractfile(name)
    except KeyError:
        stream = None
    if stream is None:
        raise BeholderError(f"{archive.name!r} holds no {name}")
    return json.load(stream)
