"""The views are JSON-ready, complete, and their tables fit a terminal without losing the facts."""

import json

import pytest
from rich.console import Console

from beholder.catalogue import all_systems, components, system, systems
from beholder.catalogue.render import render_compare, render_list, render_show
from beholder.catalogue.views import chain, compare, fusion, list_rows, page, show
from beholder.errors import BeholderError


def printed(renderable, width):
    console = Console(width=width, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(renderable)
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    return text


def test_list_rows():
    rows = list_rows(systems(group="experts"))
    named = dict.fromkeys(row["system"] for row in rows)  # a row for each card of a system
    assert list(named) == ["cogvlm", "mplug-owl2", "cogagent", "cogvlm2"]
    assert rows[0]["evidence"][0] == "listed"
    assert {row["system"] for row in list_rows(all_systems())} == {known.id for known in all_systems()}
    json.dumps(rows)


@pytest.mark.parametrize("known", all_systems() + components(), ids=lambda known: known.id)
def test_show_and_page_of_every_record(known):
    shown = show(known)
    assert json.loads(json.dumps(shown)) == shown
    text = printed(render_show(shown), 80)
    assert known.id in text
    assert page(known).startswith(f"# {known.name}\n")


def test_show_follows_the_picture():
    llava = system("llava-1.5")
    assert [step["part"] for step in chain(llava)] == ["vision", "connector", "fusion", "language", "heads"]
    shown = show(llava)
    assert shown["uses"][0] == {"id": "vicuna", "name": "Vicuna"}
    assert shown["links"]["paper"] == "https://arxiv.org/abs/2310.03744"
    text = printed(render_show(shown), 200)
    assert "-> splice -> Vicuna-7B v1.5 | Vicuna-13B v1.5 -> text, box" in text
    assert "576 (24x24)" in text
    assert "instruction tuning" in text


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("llava", "splice"),
        ("flamingo", "cross-attention"),
        ("cogvlm", "experts"),
        ("eve-v2", "splice"),
        ("chameleon", "discrete tokens"),
        ("clip", "towers"),
        ("octopus", "cross-attention"),
        ("vicuna", None),
    ],
)
def test_fusion(name, word):
    assert fusion(system(name)) == word


def test_compare_marks_what_differs():
    compared = compare(system("llava"), system("llava-1.5"))
    rows = {row["field"]: row for row in compared["rows"]}
    assert compared["systems"] == ["llava", "llava-1.5"]
    assert rows["connector"]["differs"] and not rows["fusion"]["differs"]
    assert rows["arxiv"]["values"] == ["2304.08485", "2310.03744"]
    assert "decoder" not in rows
    assert "linear-projector" in compared["only"]["llava"]
    assert "mlp-projector" in compared["only"]["llava-1.5"]
    assert "modality-token-splicing" in compared["shared"]
    json.dumps(compared)
    text = printed(render_compare(compared), 80)
    assert "* connector" in text and "* fusion" not in text


@pytest.mark.parametrize("names", [(), ("llava",), ("llava", "llava")])
def test_compare_needs_two_systems(names):
    with pytest.raises(BeholderError, match="two or more different systems"):
        compare(*map(system, names))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("with_evidence", [False, True])
def test_list_has_one_line_a_row(width, with_evidence):
    rows = list_rows(all_systems())
    text = printed(render_list(rows, with_evidence=with_evidence), width)
    for row in rows:
        assert sum(line.split()[:1] == [row["id"]] for line in text.splitlines()) == 1
    assert "220 systems" in text
    assert ("connector" in text.split("SPLICE")[0]) == (width == 120)
    assert ("evidence" in text.split("SPLICE")[0]) == with_evidence
