"""Evidence rows cover every system, follow the file, and the file is written whole or not at all."""

import json

import pytest

from beholder.catalogue import all_systems, system, systems
from beholder.catalogue.evidence import LEVELS, evidence, proved, write_evidence
from beholder.errors import BeholderError, UnknownName


def test_every_system_has_a_row(tmp_path):
    rows = evidence(path=tmp_path / "none.json")
    assert [row.system for row in rows] == [known.id for known in all_systems()]
    assert {row.evidence for row in rows} == {("listed",)}
    assert rows[0].as_dict() == {
        "system": "frozen",
        "id": "frozen",
        "group": "splice",
        "evidence": ["listed"],
    }


def test_packaged_evidence_covers_every_system():
    assert {row.system for row in evidence()} == {known.id for known in all_systems()}


def test_cards_of_one_system_repeat_it(tmp_path):
    path = tmp_path / "evidence.json"
    write_evidence(
        [
            proved("llava-1.5-7b", "llava-1.5", ["runs", "builds", "matches"], {"matches": "2e-6"}),
            proved("llava-1.5-13b", "llava-1.5", ["builds"]),
        ],
        path,
    )
    rows = [row for row in evidence(path=path) if row.system == "llava-1.5"]
    assert [row.id for row in rows] == ["llava-1.5-13b", "llava-1.5-7b"]
    assert rows[1].evidence == ("listed", "builds", "runs", "matches")
    assert rows[1].highest == "matches"
    assert rows[1].detail == {"matches": "2e-6"}
    assert len(evidence(path=path)) == 221
    assert len(evidence(systems(group="experts"), path=path)) == 4


def test_written_evidence_reads_back_and_is_read_again_when_rewritten(tmp_path):
    path = tmp_path / "evidence.json"
    write_evidence(evidence(path=path), path)
    assert json.loads(path.read_text()) == {}
    write_evidence([proved("clip-b32", "clip", LEVELS)], path)
    first = evidence(path=path)
    assert [row.evidence for row in first if row.system == "clip"] == [LEVELS]
    write_evidence(first, path)
    assert evidence(path=path) == first
    assert list(tmp_path.iterdir()) == [path]


def test_bad_rows_are_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "evidence.json"
    row = proved("clip-b32", "clip", ["builds"])
    write_evidence([row], path)
    before = path.read_text()
    with pytest.raises(BeholderError, match="two evidence rows for card 'clip-b32'"):
        write_evidence([row, row], path)
    with pytest.raises(TypeError):
        write_evidence([proved("clip-b32", "clip", ["builds"], {"builds": object()})], path)
    assert path.read_text() == before
    with pytest.raises(BeholderError, match="no evidence level"):
        proved("clip-b32", "clip", ["proven"])
    with pytest.raises(UnknownName, match="nearest: clip"):
        proved("clip-b32", "clipp", ["builds"])


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"system": "none", "levels": []}}'])
def test_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "evidence.json"
    path.write_text(text)
    with pytest.raises(BeholderError, match=r"evidence\.json is not an evidence file"):
        evidence([system("clip")], path=path)
