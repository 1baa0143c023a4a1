"""The reference outputs are made once, again when their sources change, and never when all is done."""

import importlib.machinery
import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "make_oracle"


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """The script on a small tree of its own, with a stand-in for the process that records."""
    loader = importlib.machinery.SourceFileLoader("make_oracle_script", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader.exec_module(module)
    for name in ("SOURCES", "VENV", "OUT", "STAMP"):
        monkeypatch.setattr(module, name, tmp_path / getattr(module, name).relative_to(module.ROOT))
    lists = [tmp_path / path.relative_to(module.ROOT) for path in module.FAMILIES]
    monkeypatch.setattr(module, "FAMILIES", lists)
    module.SOURCES.mkdir(parents=True)
    (module.SOURCES / "make_oracle.py").write_text("# first\n")
    (module.SOURCES / "requirements.txt").write_text("numpy\n")
    lists[0].write_text("# text models\nllama\n\nclip  # both towers\n")
    lists[1].write_text("# parts\nsam\nclip\n")
    monkeypatch.setattr(module, "prepared_python", lambda: Path("python"))
    module.calls = []
    module.JOBS = 1

    def record(command, **_):
        module.calls.append(command[command.index("--only") + 1])
        for name in module.calls[-1].split(","):
            (module.OUT / name).mkdir(exist_ok=True)
            (module.OUT / name / "meta.json").write_text("{}")
        return subprocess.CompletedProcess(command, module.code)

    module.code = 0
    monkeypatch.setattr(module.subprocess, "run", record)
    return module


def test_done_work_is_kept(tool):
    assert tool.main() == 0 and tool.main() == 0
    assert tool.calls == ["llama,clip,sam"]
    assert json.loads(tool.STAMP.read_text())["families"] == ["llama", "clip", "sam"]


def test_several_processes_share_the_families(tool):
    tool.JOBS = 2
    assert tool.main() == 0 and sorted(tool.calls) == ["clip", "llama,sam"]
    tool.JOBS, tool.code = 8, 3
    tool.FAMILIES[0].write_text("llama\nclip\nsiglip\n")
    assert tool.main() == 3 and sorted(tool.calls[2:]) == ["clip", "llama", "sam", "siglip"]


def test_a_longer_list_keeps_what_is_there(tool):
    tool.main()
    (tool.OUT / "llama" / "mine").touch()
    tool.FAMILIES[0].write_text("llama\nclip\nsiglip\n")
    tool.main()
    assert tool.calls[-1] == "llama,clip,siglip,sam" and (tool.OUT / "llama" / "mine").exists()


def test_changed_sources_make_every_family_anew(tool):
    tool.main()
    (tool.OUT / "llama" / "old").touch()
    (tool.SOURCES / "make_oracle.py").write_text("# second\n")
    tool.main()
    assert len(tool.calls) == 2 and not (tool.OUT / "llama" / "old").exists()


def test_failure_and_lost_folders_are_tried_again(tool):
    tool.code = 1
    assert tool.main() == 1
    tool.code = 0
    assert tool.main() == 0
    (tool.OUT / "clip" / "meta.json").unlink()
    tool.main()
    assert len(tool.calls) == 3
