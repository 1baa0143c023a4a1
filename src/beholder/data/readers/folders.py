"""Folders of pictures, clips or sounds with a text beside each: a.jpg and a.txt."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beholder.data.readers.rows import Place, RowError
from beholder.data.readers.shards import TEXTS, field_of
from beholder.errors import BeholderError

WHAT = {"images": "picture", "videos": "clip", "audios": "sound"}


class FolderRows:
    """A row for every name in a folder and the folders in it that has a text, a picture, a clip or a sound."""

    near = None

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder
        found: dict[str, dict[str, str]] = {}
        for place, folders, files in os.walk(folder):
            folders.sort()
            for file in sorted(files):
                stem, _, ending = file.rpartition(".")
                kind = field_of(ending.lower()) or ("text" if ending.lower() in TEXTS else "")
                if stem and kind and not file.startswith("."):
                    key = os.path.relpath(Path(place) / stem, folder)
                    found.setdefault(key, {})[kind] = ending
        self._names = sorted(found)
        self._found = [found[name] for name in self._names]
        if not any("text" in kinds for kinds in self._found):
            raise BeholderError(
                f"{folder}: holds no pictures with texts; put a.txt beside a.jpg, or write captions.jsonl"
            )

    def __len__(self) -> int:
        return len(self._names)

    def place(self, index: int) -> Place:
        return Place(str(self.folder / self._names[index]), index + 1)

    def sizes(self) -> None:
        return None

    def row(self, index: int) -> Mapping[str, Any]:
        name, kinds = self._names[index], self._found[index]
        if "text" not in kinds:
            raise RowError(
                self.place(index),
                "text",
                "no answer",
                f"a {WHAT[min(kinds)]} without a text",
                f"write {Path(name).name}.txt beside it",
            )
        if len(kinds) == 1:
            raise RowError(
                self.place(index),
                "image",
                "missing picture",
                "a text without a picture",
                "add the picture, clip or sound, or remove it",
            )
        path = self.folder / f"{name}.{kinds['text']}"
        try:
            text = path.read_text(encoding="utf-8-sig").strip()
        except UnicodeDecodeError:
            raise RowError(
                self.place(index), "text", "not UTF-8", "is not UTF-8", "save it as UTF-8"
            ) from None
        media = {field: [f"{name}.{ending}"] for field, ending in kinds.items() if field != "text"}
        return {"id": name, "text": text, **media}
