"""`parts`: sizes and types, without torch."""

from __future__ import annotations

import subprocess
import sys

from beholder.catalogue.backbones import backbones, model_types
from tests.cli.conftest import Run


def test_document_holds_sizes_and_types(run: Run) -> None:
    whole = run("parts", "--json").json
    assert [(row["module"], row["name"]) for row in whole["sizes"]] == [
        (e.module, e.name) for e in backbones()
    ]
    assert whole["model_types"] == {
        kind: {part: list(names) for part, names in parts.items()} for kind, parts in model_types().items()
    }
    audio = run("parts", "whisper", "tiny", "--kind", "audio", "--json").json
    assert {row["name"] for row in audio["sizes"]} == {
        "WHISPER_TINY",
        "WHISPER_TINY_DECODER",
        "WHISPER_TINY_EN_DECODER",
    }
    assert {row["kind"] for row in audio["sizes"]} == {"audio"}
    assert audio["model_types"] == {"audio": {}}


def test_tables_for_people(run: Run) -> None:
    sizes = run("parts", ".llama_2_7b")
    assert sizes.code == 0 and sizes.err == "" and sizes.out.rstrip().endswith("1 size")
    assert "beholder.parts.language.sizes" in sizes.out and "6,738,415,616" in sizes.out
    types = run("parts", "--types", "--kind", "codecs").out
    assert "encodec" in types and "VqGan" in types and "llama" not in types


def test_unknown_kinds_are_refused(run: Run) -> None:
    run("parts", "--kind", "visoin").assert_refused("unknown kind of part 'visoin'", "nearest: vision")


def test_nothing_needs_torch() -> None:
    code = (
        "import sys; from beholder.cli import main; "
        "code = main(['parts', '--json']); sys.exit(code or 10 * ('torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0
