"""The catalogue as plain, JSON-ready data: lists, one system, comparisons, and a page of markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from beholder.catalogue.evidence import evidence
from beholder.catalogue.facts import System, configs, entry, mechanism
from beholder.errors import BeholderError

# How modality tokens meet the language model: by group where the group says so, else by the first tag found.
FUSION_OF_GROUP = {
    "splice": "splice",
    "early-fusion": "splice",
    "cross-attention": "cross-attention",
    "experts": "experts",
    "encoder-decoder": "encoder-decoder",
    "joint-encoder": "joint encoder",
    "dual-encoder": "towers",
}
FUSION_OF_MECHANISM = {
    "visual-expert-qkv": "experts",
    "gated-cross-attention": "cross-attention",
    "deep-fusion-cross-attention": "cross-attention",
    "unified-vocabulary": "discrete tokens",
    "modality-token-splicing": "splice",
    "cross-attention-layers": "cross-attention",
}
TAXONOMY = {
    "A": "text tokens and continuous features in",
    "B": "only discrete tokens in, one vocabulary",
    "1": "text tokens out",
    "2": "text and continuous vectors for a decoder out",
    "3": "text and discrete codes of other modalities out",
}
COMPARED = (
    "group",
    "org",
    "date",
    "sizes",
    "closed",
    "taxonomy",
    "inputs",
    "outputs",
    "vision",
    "other_encoders",
    "connector",
    "fusion",
    "language",
    "decoder",
    "resolution",
    "visual_tokens",
    "uses",
    "used_by",
    "hf",
    "arxiv",
)


def list_rows(systems: Iterable[System]) -> list[dict[str, Any]]:
    """A row for each card of the systems, with the facts of its system; one for a system without a card."""
    chosen = {each.id: each for each in systems}
    rows = []
    for row in evidence(chosen.values()):
        known = chosen[row.system]
        rows.append(
            {
                **row.as_dict(),
                "name": known.name,
                "date": known.date,
                "org": known.org,
                "sizes": list(known.sizes),
                "closed": known.closed,
                "taxonomy": known.taxonomy,
                "inputs": list(known.inputs),
                "outputs": list(known.outputs),
                "vision": list(known.parts.vision),
                "connector": known.parts.connector,
                "language": list(known.parts.language),
            }
        )
    return rows


def show(known: System) -> dict[str, Any]:
    """Everything known of a system or component, with definitions, names and addresses resolved."""
    return {
        **_facts(known),
        "chain": chain(known),
        "stages": [
            {
                "name": stage.name,
                "trains": list(stage.trains),
                "objective": stage.objective,
                "data": stage.data,
            }
            for stage in known.stages
        ],
        "mechanisms": [
            {"tag": tag, "kind": mechanism(tag).kind, "definition": mechanism(tag).definition}
            for tag in known.mechanisms
        ],
        "distinctive": known.distinctive,
        "uses": _named(known.lineage.uses),
        "used_by": _named(known.lineage.used_by),
        "links": links(known),
        "configs": [
            {"checkpoint": config.checkpoint, "source": config.source, "confidence": config.confidence}
            for config in configs(known.id)
        ],
        "evidence": _evidence(known),
        "confidence": known.remarks.confidence,
        "notes": known.remarks.notes,
    }


def chain(known: System) -> list[dict[str, str]]:
    """The known parts a picture passes, in order: vision, connector, fusion, language, heads."""
    parts = known.parts
    heads = [part for part in (", ".join(known.outputs), parts.decoder) if part]
    steps = {
        "vision": " | ".join(parts.vision),
        "other encoders": " | ".join(parts.other_encoders),
        "connector": parts.connector,
        "fusion": fusion(known),
        "language": " | ".join(parts.language),
        "heads": ", through ".join(heads),
    }
    return [{"part": part, "value": value} for part, value in steps.items() if value]


def fusion(known: System) -> str | None:
    """How pictures and sounds meet the language model; None where they do not or it is unknown."""
    if known.group in FUSION_OF_GROUP:
        return FUSION_OF_GROUP[known.group]
    return next((word for tag, word in FUSION_OF_MECHANISM.items() if tag in known.mechanisms), None)


def links(known: System) -> dict[str, str]:
    """Addresses of the paper, the code and the weights, by label."""
    found = {}
    if known.links.arxiv:
        found["paper"] = f"https://arxiv.org/abs/{known.links.arxiv}"
    if known.links.github:
        found["code"] = known.links.github
    if known.links.hf:
        found["weights"] = f"https://huggingface.co/{known.links.hf}"
    for number, address in enumerate(known.links.other, start=1):
        found["more" if number == 1 else f"more {number}"] = address
    return found


def availability(closed: bool | None) -> str:
    """Whether the weights are public, in words."""
    return {True: "weights closed", False: "weights public", None: "availability unknown"}[closed]


def compare(*known: System) -> dict[str, Any]:
    """Two or more systems side by side.

    Returns {"systems": ids, "rows": [{"field", "values", "differs"}], "shared": tags, "only": {id: tags}}.
    Fields that no system has are left out; shared are the mechanism tags of all, only the others.
    Raises BeholderError for fewer than two systems or one given twice.
    """
    ids = [each.id for each in known]
    if len(set(ids)) < len(ids) or len(ids) < 2:
        raise BeholderError(f"compare needs two or more different systems, not {', '.join(ids) or 'none'}")
    facts = [
        {**_facts(each), "uses": list(each.lineage.uses), "used_by": list(each.lineage.used_by)}
        for each in known
    ]
    rows = []
    for field in COMPARED:
        values = [fact[field] for fact in facts]
        if any(value not in (None, []) for value in values):
            rows.append(
                {"field": field, "values": values, "differs": any(value != values[0] for value in values)}
            )
    shared = set.intersection(*(set(each.mechanisms) for each in known))
    return {
        "systems": ids,
        "rows": rows,
        "shared": [tag for tag in known[0].mechanisms if tag in shared],
        "only": {each.id: [tag for tag in each.mechanisms if tag not in shared] for each in known},
    }


def page(known: System) -> str:
    """A page of markdown about one system."""
    facts = show(known)
    lines = [f"# {known.name}", "", _headline(facts), ""]
    if known.distinctive:
        lines += [known.distinctive, ""]
    lines += ["| part | |", "|---|---|"]
    lines += [f"| {step['part']} | {_cell(step['value'])} |" for step in facts["chain"]]
    for label, field in (("resolution", "resolution"), ("visual tokens", "visual_tokens")):
        if facts[field]:
            lines.append(f"| {label} | {_cell(facts[field])} |")
    if facts["stages"]:
        lines += ["", "## Training", "", "| stage | trains | objective | data |", "|---|---|---|---|"]
        for stage in facts["stages"]:
            cells = (stage["name"], ", ".join(stage["trains"]), stage["objective"] or "", stage["data"] or "")
            lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    if facts["mechanisms"]:
        lines += ["", "## Mechanisms", ""]
        lines += [f"- `{each['tag']}` ({each['kind']}): {each['definition']}" for each in facts["mechanisms"]]
    for title, field in (("Builds on", "uses"), ("Built on it", "used_by")):
        if facts[field]:
            lines += ["", f"## {title}", "", ", ".join(each["name"] for each in facts[field])]
    lines += ["", "## Evidence", ""]
    lines += [f"- {row['id']}: {', '.join(row['evidence'])}" for row in facts["evidence"]]
    if facts["links"]:
        lines += ["", "## Links", ""]
        lines += [f"- {label}: <{address}>" for label, address in facts["links"].items()]
    if known.remarks.notes:
        lines += ["", f"Note: {known.remarks.notes}"]
    return "\n".join(lines) + "\n"


def _facts(known: System) -> dict[str, Any]:
    """The flat facts that `show` and `compare` share."""
    parts = known.parts
    return {
        "system": known.id,
        "name": known.name,
        "aliases": list(known.aliases),
        "variant_of": known.lineage.variant_of,
        "group": known.group,
        "family": known.family,
        "org": known.org,
        "date": known.date,
        "sizes": list(known.sizes),
        "closed": known.closed,
        "taxonomy": known.taxonomy,
        "inputs": list(known.inputs),
        "outputs": list(known.outputs),
        "vision": list(parts.vision),
        "other_encoders": list(parts.other_encoders),
        "connector": parts.connector,
        "fusion": fusion(known),
        "language": list(parts.language),
        "language_families": list(parts.language_families),
        "decoder": parts.decoder,
        "resolution": parts.resolution,
        "visual_tokens": parts.visual_tokens,
        "hf": known.links.hf,
        "hf_transformers": known.links.hf_transformers,
        "github": known.links.github,
        "arxiv": known.links.arxiv,
    }


def _evidence(known: System) -> list[dict[str, Any]]:
    return [{**row.as_dict(), "detail": dict(row.detail)} for row in evidence([known])]


def _named(ids: Iterable[str]) -> list[dict[str, str]]:
    return [{"id": each, "name": entry(each).name} for each in ids]


def _headline(facts: dict[str, Any]) -> str:
    known = (facts["org"], facts["date"], ", ".join(facts["sizes"]), availability(facts["closed"]))
    return " · ".join(each for each in known if each)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
