"""What tests have proved of each system, from `listed` to `scored`: computed by the suite, never typed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beholder.catalogue.facts import HERE, System, all_systems, system
from beholder.errors import BeholderError

LEVELS = ("listed", "builds", "runs", "mechanism", "matches", "trains", "scored")
FILE = HERE / "evidence.json"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Proved levels of one card of a system, or of a system that has no card yet (`id` is then `system`)."""

    system: str
    id: str
    group: str
    evidence: tuple[str, ...]
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def highest(self) -> str:
        """The highest proved level."""
        return self.evidence[-1]

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON-ready data, without the detail."""
        return {"system": self.system, "id": self.id, "group": self.group, "evidence": list(self.evidence)}


def evidence(systems: Iterable[System] | None = None, *, path: Path = FILE) -> tuple[Evidence, ...]:
    """One row for each card of each system (default: all), in catalogue order; `listed` alone without a card.

    Raises BeholderError when the file at `path` is damaged or names an unknown system or level.
    """
    chosen = all_systems() if systems is None else tuple(systems)
    cards = _cards(path) if path.exists() else {}
    rows: list[Evidence] = []
    for each in chosen:
        listed = Evidence(system=each.id, id=each.id, group=each.group, evidence=LEVELS[:1])
        rows.extend(cards.get(each.id, (listed,)))
    return tuple(rows)


def proved(
    card: str, system_id: str, levels: Iterable[str], detail: Mapping[str, Any] | None = None
) -> Evidence:
    """The row of a card with these levels in their order (`listed` always among them).

    Raises UnknownName for a system that is not in the catalogue, BeholderError for an unknown level.
    """
    levels = set(levels)
    if unknown := levels - set(LEVELS):
        raise BeholderError(
            f"{card}: no evidence level {sorted(unknown)}; the levels are {', '.join(LEVELS)}"
        )
    owner = system(system_id)
    ordered = tuple(level for level in LEVELS if level in levels or level == "listed")
    return Evidence(system=owner.id, id=card, group=owner.group, evidence=ordered, detail=detail or {})


def write_evidence(rows: Iterable[Evidence], path: Path = FILE) -> None:
    """Write the rows of cards as JSON, one card a line; the old file stays until the new one is complete.

    Raises BeholderError when two rows share a card name. Rows of systems without a card are not written.
    """
    cards: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.id == row.system and row.evidence == LEVELS[:1]:
            continue
        if row.id in cards:
            raise BeholderError(f"two evidence rows for card {row.id!r}; give each card once")
        cards[row.id] = {"system": row.system, "levels": list(row.evidence), "detail": dict(row.detail)}
    lines = [f"{json.dumps(card)}: {json.dumps(cards[card], sort_keys=True)}" for card in sorted(cards)]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _cards(path: Path) -> dict[str, tuple[Evidence, ...]]:
    """Rows by system."""
    found: dict[str, tuple[Evidence, ...]] = {}
    try:
        for card, record in json.loads(path.read_text(encoding="utf-8")).items():
            row = proved(card, record["system"], record["levels"], record.get("detail"))
            found[row.system] = (*found.get(row.system, ()), row)
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise BeholderError(
            f"{path} is not an evidence file ({problem}); run the tests to write it again"
        ) from problem
    return found
