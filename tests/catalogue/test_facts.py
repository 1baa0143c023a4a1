"""Every packaged record loads, every name is unambiguous and every reference resolves."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from beholder.catalogue import facts
from beholder.errors import UnknownName

TOOL = Path(__file__).parents[2] / "tools" / "catalogue_data.py"
EVERYTHING = facts.all_systems() + facts.components()


def test_counts():
    assert len(facts.all_systems()) == 220
    assert len(facts.components()) == 65
    assert len(facts.mechanisms()) == 573


def test_ids_are_unique_and_every_spelling_means_one_record():
    assert len({known.id for known in EVERYTHING}) == len(EVERYTHING)
    folded = (
        (known.id, {name.lower() for name in (known.id, known.name, *known.aliases)}) for known in EVERYTHING
    )
    facts.unique(folded)


def test_shared_spelling_is_refused():
    with pytest.raises(ValueError, match="'b' stands for both 'one' and 'two'"):
        facts.unique([("one", ("a", "b")), ("two", ("b",))])


@pytest.mark.parametrize("known", facts.all_systems(), ids=lambda known: known.id)
def test_system_record(known):
    assert all(facts.system(name) is known for name in (known.id, known.name, *known.aliases))
    assert known.date[4] == "-" and 2017 <= int(known.date[:4]) <= 2026 and 1 <= int(known.date[5:]) <= 12
    assert known.org and known.distinctive and known.inputs and known.outputs
    assert known.remarks.confidence in {"high", "medium", "low"}
    assert known.taxonomy in {None, "A1", "A2", "A3", "B3"}


def test_references_resolve():
    for known in EVERYTHING:
        for other in known.lineage.uses:
            assert known.id in facts.entry(other).lineage.used_by
        for other in known.lineage.used_by:
            assert known.id in facts.entry(other).lineage.uses
        for tag in known.mechanisms:
            assert facts.mechanism(tag).tag == tag


def test_variants_name_their_common_family():
    variants = {known.id: known.lineage.variant_of for known in EVERYTHING if known.lineage.variant_of}
    assert variants == dict.fromkeys(("nvlm-d", "nvlm-h", "nvlm-x"), "nvlm-1.0")


def test_facts_of_one_system():
    llava = facts.system("llava-v1.5")
    assert llava.id == "llava-1.5"
    assert llava.parts.vision == ("CLIP ViT-L/14-336",)
    assert llava.lineage.uses == ("vicuna", "clip", "lora")
    assert llava.links.arxiv == "2310.03744"
    assert [stage.trains for stage in llava.stages] == [("connector",), ("connector", "LLM")]
    assert "llava-1.5" in facts.system("vicuna").lineage.used_by


@pytest.mark.parametrize(
    ("look_up", "name", "suggested"),
    [
        (facts.system, "llava-1.55", "llava-1.5"),
        (facts.system, "LLAVA-1.5", "llava-1.5"),
        (facts.component, "eva-klip", "eva-clip"),
        (facts.entry, "eva-clp", "eva-clip"),
        (facts.mechanism, "qformer", "q-former"),
    ],
)
def test_unknown_name_suggests_the_nearest_three(look_up, name, suggested):
    with pytest.raises(UnknownName, match="nearest") as caught:
        look_up(name)
    assert suggested in caught.value.suggestions
    assert len(caught.value.suggestions) == 3


def test_system_and_component_are_apart():
    assert facts.entry("eva-clip") is facts.component("eva-clip")
    assert facts.entry("llava") is facts.system("llava")
    with pytest.raises(UnknownName):
        facts.system("eva-clip")
    with pytest.raises(UnknownName):
        facts.component("llava")


def test_mechanism_alias():
    assert facts.mechanism("captioning-loss").tag == "next-token-loss"


def test_configs():
    assert [config.checkpoint for config in facts.configs("llava-1.5")] == [
        "liuhaotian/llava-v1.5-7b",
        "llava-hf/llava-1.5-7b-hf",
    ]
    assert facts.configs("llava-1.5")[0].config["mm_projector_type"] == "mlp2x_gelu"
    assert facts.configs("qwen2.5")
    assert facts.configs("no-such-system") == ()


def test_data_files_are_in_their_one_form():
    spec = importlib.util.spec_from_file_location("catalogue_data", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for name in tool.FILES:
        text = (tool.DATA / name).read_text(encoding="utf-8")
        assert text == tool.canonical(json.loads(text)), f"{name}: run python tools/catalogue_data.py"
    assert tool.canonical([{"id": "a", "closed": False, "org": None, "uses": [], "used_by": ["b"]}]) == (
        '[\n{"id": "a", "closed": false}\n]\n'
    )


def test_import_reads_no_data_and_needs_neither_torch_nor_rich():
    code = (
        "import sys, beholder.catalogue as c, beholder.catalogue.evidence, beholder.catalogue.views;"
        "assert not {'rich', 'torch'} & set(sys.modules);"
        "assert c.facts._records.cache_info().currsize == 0;"
        "c.systems(text='llava'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
