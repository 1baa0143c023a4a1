"""The views of the catalogue for people: tables and pages that read well at 80 columns and without colour.

Imported only to print, so that the rest of the catalogue does not need rich.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from beholder.catalogue.views import TAXONOMY, availability

WIDE = 110
INDENT = (0, 0, 0, 2)


class SystemsTable:
    """`views.list_rows`, one line a row under its group; wide terminals also show organisation, connector."""

    def __init__(self, rows: Sequence[dict[str, Any]], *, with_evidence: bool = False) -> None:
        self.rows = rows
        self.with_evidence = with_evidence

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= WIDE
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
        table.add_column("system", style="bold cyan", no_wrap=True, min_width=22)
        table.add_column("date", no_wrap=True, min_width=7)
        table.add_column("size", no_wrap=True, min_width=8, max_width=16)
        if wide:
            table.add_column("org", no_wrap=True, ratio=2)
        table.add_column("vision", no_wrap=True, ratio=3)
        if wide:
            table.add_column("connector", no_wrap=True, ratio=3)
        table.add_column("language", no_wrap=True, ratio=3)
        if self.with_evidence:
            table.add_column("evidence", no_wrap=True, min_width=9)
        group = None
        for row in self.rows:
            if row["group"] != group:
                group = row["group"]
                table.add_section()
                table.add_row(Text(group.upper(), style="bold"))
            table.add_row(*self.cells(row, wide=wide))
        yield table
        yield Text(_count(self.rows))

    def cells(self, row: dict[str, Any], *, wide: bool) -> list[str]:
        """The cells of one row, in the order of the columns."""
        organisation = [row["org"] or "-"] if wide else []
        connector = [row["connector"] or "-"] if wide else []
        evidence = [row["evidence"][-1]] if self.with_evidence else []
        listed = [", ".join(row[field]) or "-" for field in ("sizes", "vision", "language")]
        sizes, vision, language = listed
        return [row["id"], row["date"] or "-", sizes, *organisation, vision, *connector, language, *evidence]


def render_list(rows: Sequence[dict[str, Any]], *, with_evidence: bool = False) -> RenderableType:
    """A table of `views.list_rows`; with_evidence adds the highest proved level."""
    return SystemsTable(rows, with_evidence=with_evidence)


def render_show(shown: dict[str, Any]) -> RenderableType:
    """A page of `views.show`: the parts as a line, then facts, links, training, mechanisms and notes."""
    blocks: list[RenderableType] = [_title(shown), Text()]
    if shown["distinctive"]:
        blocks += [Text(shown["distinctive"]), Text()]
    if shown["chain"]:
        blocks += [_chain(shown["chain"]), Text()]
    blocks.append(_grid(_facts(shown)))
    if shown["stages"]:
        blocks += [Text(), Text("training", style="bold"), Padding(_stages(shown["stages"]), INDENT)]
    if shown["mechanisms"]:
        kinds = _grid(_kinds(shown["mechanisms"]))
        blocks += [Text(), Text("mechanisms", style="bold"), Padding(kinds, INDENT)]
    if shown["notes"]:
        blocks += [Text(), Text.assemble(("note ", "bold"), shown["notes"])]
    return Group(*blocks)


def render_compare(compared: dict[str, Any]) -> RenderableType:
    """A table of `views.compare`: a column a system, a star before what differs, then the mechanisms."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column("", no_wrap=True)
    for name in compared["systems"]:
        table.add_column(Text(name, style="bold cyan"), ratio=1, overflow="fold")
    for row in compared["rows"]:
        style = "" if row["differs"] else "dim"
        label = ("* " if row["differs"] else "  ") + row["field"].replace("_", " ")
        cells = [Text(_value(row["field"], value), style=style) for value in row["values"]]
        table.add_row(Text(label, style="bold" if row["differs"] else "dim"), *cells)
    only = [(f"only {name}", ", ".join(tags) or "-") for name, tags in compared["only"].items()]
    shared = ("in all", ", ".join(compared["shared"]) or "-")
    title = Text("mechanisms", style="bold")
    return Group(table, Text("* differs\n", style="dim"), title, Padding(_grid([*only, shared]), INDENT))


def _title(shown: dict[str, Any]) -> RenderableType:

    known = (shown["org"], shown["date"], ", ".join(shown["sizes"]), availability(shown["closed"]))
    return Text.assemble(
        (shown["name"], "bold cyan"),
        (f"  {shown['system']}\n", "dim"),
        ", ".join(each for each in known if each),
    )


def _chain(steps: Iterable[dict[str, str]]) -> RenderableType:

    line = Text()
    for number, step in enumerate(steps):
        line.append(" -> " if number else "", style="bold")
        line.append(step["value"], style="bold" if step["part"] == "fusion" else "")
    return Panel(line, title="vision -> connector -> fusion -> language -> heads", title_align="left")


def _facts(shown: dict[str, Any]) -> list[tuple[str, str]]:
    taxonomy = shown["taxonomy"]
    code = f"{taxonomy}: " + "; ".join(TAXONOMY[each] for each in taxonomy) if taxonomy else ""
    evidence = [f"{row['id']}: {', '.join(row['evidence'])}" for row in shown["evidence"]]
    facts = [
        ("group", shown["group"]),
        ("family", shown["family"] if shown["family"] != shown["group"] else ""),
        ("inputs", ", ".join(shown["inputs"])),
        ("outputs", ", ".join(shown["outputs"])),
        ("resolution", shown["resolution"] or ""),
        ("visual tokens", shown["visual_tokens"] or ""),
        ("taxonomy", code),
        ("variant of", shown["variant_of"] or ""),
        ("also called", ", ".join(shown["aliases"])),
        ("builds on", ", ".join(each["name"] for each in shown["uses"])),
        ("built on it", ", ".join(each["name"] for each in shown["used_by"])),
        ("evidence", "\n".join(evidence)),
        ("transformers", shown["hf_transformers"] or ""),
        ("configs", ", ".join(each["checkpoint"] for each in shown["configs"])),
        *shown["links"].items(),
        ("confidence", shown["confidence"]),
    ]
    return [(label, fact) for label, fact in facts if fact]


def _kinds(mechanisms: Iterable[dict[str, str]]) -> list[tuple[str, str]]:
    kinds: dict[str, list[str]] = {}
    for each in mechanisms:
        kinds.setdefault(each["kind"], []).append(each["tag"])
    return [(kind, ", ".join(tags)) for kind, tags in kinds.items()]


def _grid(facts: Iterable[tuple[str, str]]) -> RenderableType:

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, fact in facts:
        grid.add_row(label, Text(fact))
    return grid


def _stages(stages: Iterable[dict[str, Any]]) -> RenderableType:

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("stage", "trains", "objective", "data"):
        table.add_column(heading, overflow="fold")
    for stage in stages:
        trains = ", ".join(stage["trains"])
        table.add_row(stage["name"], trains, stage["objective"] or "", stage["data"] or "")
    return table


def _value(field: str, value: object) -> str:
    if field == "closed":
        return availability(value if isinstance(value, bool) else None)
    if isinstance(value, list):
        return ", ".join(value) or "-"
    return str(value or "-")


def _count(rows: Sequence[dict[str, Any]]) -> str:
    systems = len({row["system"] for row in rows})
    return f"{systems} system{'' if systems == 1 else 's'}"
