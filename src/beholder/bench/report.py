"""What was measured as a table for people, a plot and a page that compares machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beholder.bench.rounds import PARTS
from beholder.bench.run import FORMAT
from beholder.errors import BeholderError
from beholder.files import atomic_file, write_text_atomic

if TYPE_CHECKING:
    from rich.console import RenderableType

GIB, MB = 2**30, 1e6
COLUMNS = (
    "system",
    "engine",
    "precision",
    "requests",
    "prompt",
    "first token, ms",
    "of it",
    "ms a token",
    "tokens/s",
    "pictures/s",
    "peak, MB",
    "over weights",
    "of the bound",
    "others",
    "times as long",
)


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row of the table."""
    beside = row["times_as_long"] or {}
    pictures = row["pictures_per_second"]
    seen = f" ({row['image_tokens']} of pictures)" if row["image_tokens"] else ""
    over = row["peak"] - row["memory"]["weights"]
    return [
        row["system"] + (" (random weights)" if row["weights"] == "random" else ""),
        row["engine"],
        row["precision"],
        told_of(row),
        f"{row['prompt_tokens']}{seen}" if row["prompt_tokens"] else "",
        _spread(row["ttft"], 1e3),
        ", ".join(f"{name} {1e3 * row['parts'][name]:.1f}" for name in PARTS if _counts(row, name)),
        _spread(row["token"], 1e3),
        _median(row["tokens_per_second"]),
        _median(pictures),
        f"{row['peak'] / MB:.0f}",
        f"{over / MB:.0f}",
        ", ".join(f"{name} {share:.0%}" for name, share in row["shares"].items()),
        "" if row["others"] is None else f"{row['others']:.0%}",
        ", ".join(f"{name} {beside[name]:.2f}" for name in beside if beside[name] is not None),
    ]


def told_of(row: Mapping[str, Any]) -> str:
    """What was asked at a time."""
    many = f"{row['rate']:g} a second" if row["rate"] is not None else f"{row['concurrency']} at a time"
    pictures = row["pictures"]
    return f"{many}, {pictures} picture{'s' * (pictures != 1)}" if pictures else many


def _counts(row: Mapping[str, Any], part: str) -> bool:
    """Whether a part is worth a word: a hundredth of the time at least."""
    return abs(row["parts"].get(part, 0.0)) >= 0.01 * row["ttft_of_parts"]


def _spread(found: Mapping[str, float] | None, factor: float) -> str:
    if found is None:
        return ""
    median, least, most = (factor * found[name] for name in ("median", "least", "most"))
    return f"{median:.4g} ({least:.4g} to {most:.4g})"


def _median(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{found['median']:.4g}"


def filled(documents: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns in which something stands, and the rows, those of a system together, the quickest first."""
    every = [row for each in documents for row in each["rows"]]
    every.sort(
        key=lambda row: (row["system"], row["pictures"], row["text"], row["concurrency"] or 0, _whole(row))
    )
    table = [cells(row) for row in every]
    used = [place for place in range(len(COLUMNS)) if any(line[place] for line in table)]
    return [COLUMNS[place] for place in used], [[line[place] for place in used] for line in table]


def _whole(row: Mapping[str, Any]) -> float:
    """Seconds of an answer."""
    token = row["token"]["median"] if row["token"] else 0.0
    return float(row["ttft"]["median"] + token * max(row["new_tokens"] - 1, 0))


def page_for_terminal(document: Mapping[str, Any]) -> RenderableType:
    """The table, what the machine could do, lines of a sweep, and remarks."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    names, lines = filled([document])
    turned = Table(show_header=False, box=None, padding=(0, 2))
    for place, name in enumerate(names):
        turned.add_row(Text(name, style="bold"), *(Text(line[place]) for line in lines))
    below = [about(document), *map(fit_line, document["fits"]), *document["notes"]]
    return Group(turned, Text(""), *map(Text, below))


def about(document: Mapping[str, Any]) -> str:
    """The machine and its ceilings in a line."""
    machine, most = document["machine"], document["ceilings"]
    memory = "" if machine["memory"] is None else f", {machine['memory'] / GIB:.0f} GiB"
    instructions = ", ".join(machine["instructions"] or ())
    where = f"{machine['accelerator'] or machine['processor']}, {machine['cores']} cores{memory}"
    return (
        f"{where}{', ' * bool(instructions)}{instructions}; torch {machine['torch']}; reads {most['read'] / 1e9:.0f} GB/s "
        f"({most['read_how']}), {most['products'] / 1e9:.0f} GFLOP/s ({most['products_how']})"
    )


def fit_line(fit: Mapping[str, Any]) -> str:
    """A line of a sweep in words."""
    what = "picture" if fit["over"] == "pictures" else "token"
    said = []
    for name, unit, factor in (("ttft", "ms to the first token", 1e3), ("peak", "MB", 1 / MB)):
        if fit[name] is not None:
            slope, start = factor * fit[name]["slope"], factor * fit[name]["start"]
            said.append(f"{slope:.4g} {unit} a {what} + {start:.4g} (R2 {fit[name]['fit']:.3f})")
    return f"{fit['engine']} {fit['precision']}: " + ("; ".join(said) or "too few places for a line")


def read_document(path: Path) -> dict[str, Any]:
    """What `--save` wrote. Raises `BeholderError` for other files."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BeholderError(
            f"{path}: cannot be read ({(error.strerror or '').lower()}); check the path"
        ) from None
    except ValueError:
        raise BeholderError(f"{path}: is no JSON; give what beholder bench --save wrote") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BeholderError(f"{path}: is no document of beholder bench ({FORMAT}); measure again with --save")
    return data


def page(documents: Sequence[Mapping[str, Any]], *, html: bool) -> str:
    """Measurements of several systems and machines on one page: a part for each machine, then its table."""
    machines: dict[str, list[Mapping[str, Any]]] = {}
    for each in documents:
        machine = each["machine"]
        place = f"{machine['accelerator'] or machine['processor']}, {machine['cores']} cores, torch {machine['torch']}"
        machines.setdefault(place, []).append(each)
    blocks = [_heading("Measured", 1, html), _paragraph(INTRODUCTION, html)]
    for place, members in sorted(machines.items()):
        notes = [note for each in members for note in each["notes"]]
        blocks += [
            _heading(place, 2, html),
            _paragraph(about(members[0]), html),
            _table(*filled(members), html),
        ]
        blocks += [
            _paragraph(text, html) for text in (*(fit_line(f) for m in members for f in m["fits"]), *notes)
        ]
    body = "\n\n".join(blocks) + "\n"
    return (
        f'<!doctype html>\n<meta charset="utf-8">\n<title>Measured</title>\n{STYLE}\n{body}' if html else body
    )


INTRODUCTION = (
    "Written by `beholder bench --collect`. Medians of rounds in which all that is compared took turns, with the least and the "
    "most; first token: from the request to its first token, and the parts of that; of the bound: what the memory or "
    "the products of the machine would need over what was needed; others: what other programs took of the "
    "processors; times as long: as the first contestant, in the same round."
)
STYLE = (
    "<style>body{font:15px sans-serif;margin:2em}table{border-collapse:collapse}td,th{border:1px solid #bbb;"
    "padding:3px 8px;text-align:left}</style>"
)


def _heading(text: str, level: int, html: bool) -> str:
    return f"<h{level}>{escape(text)}</h{level}>" if html else f"{'#' * level} {text}"


def _paragraph(text: str, html: bool) -> str:
    return f"<p>{escape(text)}</p>" if html else text


def _table(names: Sequence[str], lines: Iterable[Sequence[str]], html: bool) -> str:
    if not html:
        rows = [names, ["---"] * len(names), *lines]
        return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in lines)
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"


def write_page(documents: Sequence[Mapping[str, Any]], path: Path) -> None:
    """As Markdown or HTML, by the file's ending."""
    endings = {".md": False, ".html": True}
    if path.suffix not in endings:
        raise BeholderError(f"--page {path}: ends with {path.suffix or 'nothing'}; end it with .md or .html")
    write_text_atomic(path, page(documents, html=endings[path.suffix]))


def plot(document: Mapping[str, Any], path: Path) -> None:
    """A PNG: of a sweep, time and memory over size; else time to the first token by its parts, and per token."""
    pyplot = plotting()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    rows = document["rows"]
    if document["fits"]:
        _plot_sweep(document, left, right)
    else:
        names = [_label(row) for row in rows]
        done = [0.0] * len(rows)
        for part in PARTS:
            values = [1e3 * max(row["parts"].get(part, 0.0), 0.0) for row in rows]
            if any(values):
                left.barh(names, values, left=done, label=part)
                done = [a + b for a, b in zip(done, values, strict=True)]
        right.barh(names, [1e3 * row["token"]["median"] if row["token"] else 0.0 for row in rows])
        left.set_xlabel("ms to the first token")
        right.set_xlabel("ms a token")
        right.set_yticklabels([])
        left.legend()
    figure.suptitle(rows[0]["system"])
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    pyplot.close(figure)


def _plot_sweep(document: Mapping[str, Any], left: Any, right: Any) -> None:
    for fit in document["fits"]:
        over = "pictures" if fit["over"] == "pictures" else "prompt_tokens"
        kin = [
            r for r in document["rows"] if (r["engine"], r["precision"]) == (fit["engine"], fit["precision"])
        ]
        x = [row[over] for row in kin]
        name = f"{fit['engine']} {fit['precision']}"
        left.plot(x, [row["ttft"]["median"] for row in kin], marker="o", label=name)
        right.plot(x, [row["peak"] / MB for row in kin], marker="o", label=name)
        left.set_xlabel(over.replace("_", " "))
        right.set_xlabel(over.replace("_", " "))
    left.set_ylabel("seconds to the first token")
    right.set_ylabel("peak memory, MB")
    left.legend()


def _label(row: Mapping[str, Any]) -> str:
    come = f"{row['rate']:g}/s" if row["rate"] is not None else f"x{row['concurrency']}"
    return f"{row['engine']} {row['precision']} {come}"


def plotting() -> Any:
    """matplotlib's pyplot, without a screen. Raises `BeholderError` where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise BeholderError('--plot needs matplotlib; run pip install "beholder[bench]"') from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
