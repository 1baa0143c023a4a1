"""Folders of pictures with a text beside each: a.jpg and a.txt."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beholder.data.readers.rows import Place, RowError
from beholder.data.readers.shards import PICTURES, TEXTS
from beholder.errors import BeholderError


class FolderRows:
    """A row for every name in a folder and the folders in it that has a picture, a text or both."""

    near = None

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder
        found: dict[str, dict[str, str]] = {}
        for place, folders, files in os.walk(folder):
            folders.sort()
            for file in sorted(files):
                stem, _, ending = file.rpartition(".")
                kind = "image" if ending.lower() in PICTURES else "text" if ending.lower() in TEXTS else ""
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
                "a picture without a text",
                f"write {Path(name).name}.txt beside it",
            )
        if "image" not in kinds:
            raise RowError(
                self.place(index),
                "image",
                "missing picture",
                "a text without a picture",
                "add the picture, or remove it",
            )
        path = self.folder / f"{name}.{kinds['text']}"
        try:
            text = path.read_text(encoding="utf-8-sig").strip()
        except UnicodeDecodeError:
            raise RowError(
                self.place(index), "text", "not UTF-8", "is not UTF-8", "save it as UTF-8"
            ) from None
        return {"id": name, "image": f"{name}.{kinds['image']}", "text": text}
