"""The records of the catalogue: systems, components they are built on, mechanisms, published configurations.

The packaged JSON files hold one record a line and leave empty fields out; they are read once, on first use.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from beholder.errors import UnknownName

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a system is made of. Several entries of one part are released alternatives."""

    vision: tuple[str, ...]
    other_encoders: tuple[str, ...]
    connector: str | None
    language: tuple[str, ...]
    language_families: tuple[str, ...]
    decoder: str | None
    resolution: str | None
    visual_tokens: str | None


@dataclass(frozen=True, kw_only=True)
class TrainingStage:
    """One stage of the published recipe."""

    name: str
    trains: tuple[str, ...]
    objective: str | None
    data: str | None


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Ids of the systems and components a system is built on, and of those built on it."""

    variant_of: str | None
    uses: tuple[str, ...]
    used_by: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Links:
    """Where a system was published: hub id, transformers model type, code, arXiv id, other addresses."""

    hf: str | None
    hf_transformers: str | None
    github: str | None
    arxiv: str | None
    other: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Remarks:
    """How sure the record is (high, medium or low) and what a reader should know of it."""

    confidence: str
    notes: str | None


@dataclass(frozen=True, kw_only=True)
class System:
    """One published system, method or component. `date` is YYYY-MM; `closed` is None where unknown."""

    id: str
    name: str
    aliases: tuple[str, ...]
    group: str
    family: str | None
    org: str | None
    date: str | None
    sizes: tuple[str, ...]
    closed: bool | None
    taxonomy: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parts: Parts
    stages: tuple[TrainingStage, ...]
    mechanisms: tuple[str, ...]
    distinctive: str | None
    lineage: Lineage
    links: Links
    remarks: Remarks


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """One thing systems do, by its tag. `kind` is vision, connector, fusion, language, head, training, ..."""

    tag: str
    kind: str
    definition: str
    aliases: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """The configuration of one released checkpoint and where it was read.

    `id` names a system or component, or a part that has no record of its own (such as qwen2.5).
    `confidence` is "read" (from the release or an identical copy) or "secondary" (restated elsewhere).
    """

    id: str
    checkpoint: str
    source: str
    confidence: str
    config: Mapping[str, Any]
    parameters: Any
    processor: Mapping[str, Any] | None
    chat: Mapping[str, Any] | None
    parameter_name_samples: tuple[str, ...]
    note: str | None


def all_systems() -> tuple[System, ...]:
    """Every system, ordered by group, date and id."""
    return _records()[0]


def components() -> tuple[System, ...]:
    """Encoders, language models, tokenizers, generators and libraries that systems are built on."""
    return _records()[1]


def system(name: str) -> System:
    """The system with exactly this id, name or alias; UnknownName (a ValueError) suggests the nearest ids."""
    return _find("system", name, _system_names(), all_systems())


def component(name: str) -> System:
    """The component with exactly this id, name or alias; UnknownName suggests the nearest ids."""
    return _find("component", name, _component_names(), components())


def entry(name: str) -> System:
    """The system or component with exactly this id, name or alias; UnknownName suggests the nearest ids."""
    return _find("system", name, {**_component_names(), **_system_names()}, all_systems() + components())


@cache
def mechanisms() -> tuple[Mechanism, ...]:
    """The vocabulary of mechanism tags."""
    return tuple(
        Mechanism(
            tag=record["tag"],
            kind=record["kind"],
            definition=record["definition"],
            aliases=tuple(record.get("aliases", ())),
        )
        for record in _read("mechanisms.json")
    )


def mechanism(tag: str) -> Mechanism:
    """The mechanism with exactly this tag or alias; UnknownName suggests the nearest tags."""
    names = _mechanism_names()
    if tag not in names:
        raise UnknownName("mechanism", tag, (known.tag for known in mechanisms()))
    return names[tag]


def configs(name: str) -> tuple[PublishedConfig, ...]:
    """Published configurations of a system, component or unrecorded part by its exact id; may be empty."""
    return _configs().get(name, ())


def unique(named: Iterable[tuple[str, Iterable[str]]]) -> dict[str, int]:
    """Spelling -> position of its record, from (id, spellings); ValueError when two records share one."""
    owner: dict[str, tuple[int, str]] = {}
    for position, (record, spellings) in enumerate(named):
        for spelling in spellings:
            first_position, first = owner.setdefault(spelling, (position, record))
            if first_position != position:
                raise ValueError(f"{spelling!r} stands for both {first!r} and {record!r}; rename one of them")
    return {spelling: position for spelling, (position, _) in owner.items()}


def _read(file: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((HERE / file).read_text(encoding="utf-8"))
    return records


@cache
def _records() -> tuple[tuple[System, ...], tuple[System, ...]]:
    system_records, component_records = _read("systems.json"), _read("components.json")
    used_by: dict[str, list[str]] = {}
    for record in system_records + component_records:
        for used in record.get("uses", ()):
            used_by.setdefault(used, []).append(record["id"])
    return (
        tuple(_system(record, used_by.get(record["id"], ())) for record in system_records),
        tuple(_system(record, used_by.get(record["id"], ())) for record in component_records),
    )


def _system(record: Mapping[str, Any], used_by: Iterable[str]) -> System:
    def several(field: str) -> tuple[str, ...]:
        return tuple(record.get(field, ()))

    get = record.get
    return System(
        id=record["id"],
        name=record["name"],
        aliases=several("aliases"),
        group=record["group"],
        family=get("family"),
        org=get("org"),
        date=get("date"),
        sizes=several("sizes"),
        closed=get("closed"),
        taxonomy=get("taxonomy"),
        inputs=several("inputs"),
        outputs=several("outputs"),
        parts=Parts(
            vision=several("vision_encoder"),
            other_encoders=several("other_encoders"),
            connector=get("connector"),
            language=several("language_model"),
            language_families=several("lm_families"),
            decoder=get("decoder"),
            resolution=get("resolution"),
            visual_tokens=get("visual_tokens"),
        ),
        stages=tuple(
            TrainingStage(
                name=stage["name"],
                trains=tuple(stage.get("trains", ())),
                objective=stage.get("objective"),
                data=stage.get("data"),
            )
            for stage in get("training_stages", ())
        ),
        mechanisms=several("mechanisms"),
        distinctive=get("distinctive"),
        lineage=Lineage(variant_of=get("variant_of"), uses=several("uses"), used_by=tuple(used_by)),
        links=Links(
            hf=get("hf"),
            hf_transformers=get("hf_transformers"),
            github=get("github"),
            arxiv=get("arxiv"),
            other=several("links"),
        ),
        remarks=Remarks(confidence=record["confidence"], notes=get("notes")),
    )


def _names(entries: tuple[System, ...]) -> dict[str, System]:
    positions = unique((entry.id, (entry.id, entry.name, *entry.aliases)) for entry in entries)
    return {name: entries[position] for name, position in positions.items()}


@cache
def _system_names() -> dict[str, System]:
    return _names(all_systems())


@cache
def _component_names() -> dict[str, System]:
    return _names(components())


@cache
def _mechanism_names() -> dict[str, Mechanism]:
    positions = unique((known.tag, (known.tag, *known.aliases)) for known in mechanisms())
    return {name: mechanisms()[position] for name, position in positions.items()}


def _find(what: str, name: str, names: Mapping[str, System], entries: tuple[System, ...]) -> System:
    if name not in names:
        raise UnknownName(what, name, (known.id for known in entries))
    return names[name]


@cache
def _configs() -> dict[str, tuple[PublishedConfig, ...]]:
    found: dict[str, tuple[PublishedConfig, ...]] = {}
    for record in _read("configs.json"):
        config = PublishedConfig(
            id=record["id"],
            checkpoint=record["checkpoint"],
            source=record["source"],
            confidence=record["confidence"],
            config=record.get("config", {}),
            parameters=record.get("parameters"),
            processor=record.get("processor"),
            chat=record.get("chat"),
            parameter_name_samples=tuple(record.get("parameter_name_samples", ())),
            note=record.get("note"),
        )
        found[config.id] = (*found.get(config.id, ()), config)
    return found
