"""Pytest plugin: from the outcomes of tests to the evidence levels of cards.

Tests marked `evidence("builds")` and so on prove that level for the card they are parametrized with. `matches` and
`mechanism` are derived: see `matching` and `mechanisms`. With `--evidence=write` the packaged file is renewed; a full run
without it fails where the file says something else.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest

from beholder.cards import FAMILIES, card, family_cards
from beholder.cards.schema import Card
from beholder.catalogue import mechanism, system
from beholder.catalogue.evidence import FILE, Evidence, proved, write_evidence

from .matching import pieces, provided
from .mechanisms import KINDS, PROOFS, facts


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--evidence", choices=("check", "write", "off"), default="check", help="the evidence file of cards"
    )


class Ledger:
    """What this session's tests proved."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.failed: set[str] = set()
        self.levels: dict[str, dict[str, bool]] = defaultdict(dict)
        self.references: dict[str, dict[str, bool]] = defaultdict(dict)

    def note(self, item: pytest.Item, report: pytest.TestReport) -> None:
        ok = report.passed
        if report.when == "call" or not ok:
            (self.passed if ok else self.failed).add(item.nodeid)
            marker = item.get_closest_marker("evidence")
            parameters = getattr(getattr(item, "callspec", None), "params", {})
            if marker and "card_name" in parameters:
                self.levels[parameters["card_name"]][f"{marker.args[0]}:{item.name}"] = ok
            if marker and "family" in parameters:
                self.references[parameters["family"]][item.name] = ok

    @property
    def families(self) -> set[str]:
        """The references that every test of them reproduced."""
        return {family for family, outcomes in self.references.items() if all(outcomes.values())}

    def has(self, level: str, name: str) -> bool:
        outcomes = [ok for key, ok in self.levels[name].items() if key.startswith(level + ":")]
        return bool(outcomes) and all(outcomes)

    def proves(self, start: str | tuple[str, ...]) -> bool:
        """Whether tests under this node id ran, and all passed."""
        ran = [node for node in self.passed | self.failed if node.startswith(start)]
        return bool(ran) and not any(node in self.failed for node in ran)


LEDGER = Ledger()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    outcome = yield
    LEDGER.note(item, outcome.get_result())


def pytest_sessionfinish(session: pytest.Session) -> None:
    wish = session.config.getoption("--evidence")
    if wish == "off" or not LEDGER.levels or not full_run():
        return
    rows = list(evidence_rows())
    if wish == "write":
        write_evidence(rows)
        return
    said = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    wrong = [row.id for row in rows if said.get(row.id, {}).get("levels") != list(row.evidence)]
    if wrong:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\nevidence.json differs from what the tests prove of {', '.join(wrong)}; run `make evidence`")


def full_run() -> bool:
    """Whether this session ran what all levels rest on."""
    names = {name for names in FAMILIES.values() for name in names}
    return names <= set(LEDGER.levels) and all(
        any(node.startswith(proof.test) for node in LEDGER.passed | LEDGER.failed)
        for proof in PROOFS.values()
    )


def evidence_rows() -> Iterable[Evidence]:
    """One row for each card of a catalogue system."""
    known = provided(LEDGER.families)
    for name in sorted(name for names in FAMILIES.values() for name in names):
        chosen = card(name)
        if not chosen.system:
            continue
        levels, detail = {"listed"}, {}
        levels |= {level for level in ("builds", "runs", "trains") if LEDGER.has(level, name)}
        unproved = unproved_mechanisms(chosen)
        if unproved:
            detail["unproved_mechanisms"] = unproved
        if not unproved and {"builds", "runs"} <= levels:
            levels.add("mechanism")
        missing = sorted(pieces(chosen) - known)
        if missing:
            detail["no_reference_for"] = missing
        elif {"builds", "runs"} <= levels:
            levels.add("matches")
        yield proved(name, chosen.system, levels, detail)


def unproved_mechanisms(chosen: Card) -> list[str]:
    """Architectural tags of the card's system that no proof covers. The catalogue lists a system's tags whatever its sizes:
    what only one of them has (the shared keys of Llama 2 70B) must be proved on the card of that size.
    """
    every = facts_of_system(chosen.system)
    tags = [tag for tag in system(chosen.system).mechanisms if mechanism(tag).kind in KINDS]
    return sorted(
        tag
        for tag in tags
        if tag not in PROOFS
        or not any(PROOFS[tag].holds(has) for has in every)
        or not LEDGER.proves(PROOFS[tag].test)
    )


@cache
def facts_of_system(name: str) -> list[set[str]]:
    """The facts of each card of a system."""
    cards = (card for family in FAMILIES for card in family_cards(family).values())
    return [facts(card) for card in cards if card.system == name]
