"""`ask` and `chat` with tiny checkpoints of plain language models, each in the format of its cards."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import beholder
from beholder.cards import card
from beholder.cli.output import visible
from beholder.prompts.chat import render
from beholder.prompts.messages import user
from tests.cli.conftest import Run
from tests.toys import byte_tokenizer

pytestmark = pytest.mark.parity

FAMILIES = {  # official type of a tiny checkpoint -> a card that has it
    "llama": "llama-2-7b",
    "llama_one_kv_head": "llama-3-8b",
    "llama_tied_hd": "vicuna-7b",
    "mistral_window": "zephyr-7b",
    "qwen2": "qwen1.5-7b",
    "gpt_neox": "pythia-1.4b",
    "falcon_mqa_tied": "falcon-7b",
    "persimmon": "persimmon-8b",
    "phi": "phi-2",
    "phi3": "phi-3-mini-4k",
    "gemma": "gemma-2b",
    "mamba_tied": "mamba-130m",
}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, oracle: Callable[[str], Path], tmp_path: Path) -> tuple[Path, str]:
    """A folder with a tokenizer of bytes, and the chat format of the card."""
    folder = tmp_path / "model"
    shutil.copytree(oracle(request.param), folder)
    (folder / "generation_config.json").unlink(missing_ok=True)  # its end ids are letters here
    byte_tokenizer().save(folder)
    prompt = card(FAMILIES[request.param]).prompt
    assert prompt is not None
    return folder, prompt.name


def test_a_question_without_a_picture(run: Run, model: tuple[Path, str]) -> None:
    folder, chat = model
    options = ("--model", folder, "--chat", chat, "--max-tokens", "5")
    told = run("ask", "Why?", *options, "--json").json
    pipeline = beholder.load(folder, chat=chat)
    prompt = render([user("Why?")], pipeline.prompt_format, pipeline.tokenizer)
    assert (told["usage"]["prompt"], told["usage"]["image"]) == (len(prompt), 0)
    assert told["answer"] == str(pipeline.ask(None, "Why?", max_tokens=5))
    assert run("ask", "Why?", *options).out == visible(told["answer"]) + "\n"


def test_a_picture_is_refused(run: Run, model: tuple[Path, str], cat: Path) -> None:
    folder, chat = model
    run("ask", cat, "What?", "--model", folder, "--chat", chat).assert_refused("reads text alone")


def test_a_conversation(run: Run, model: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, chat = model
    monkeypatch.setattr("sys.stdin", io.StringIO("Why?\nAnd then?\n"))
    document = run("chat", "--model", folder, "--chat", chat, "--max-tokens", "3", "--json").json
    first, second = document["turns"]
    assert (first["question"], second["question"]) == ("Why?", "And then?")
    assert second["usage"]["prompt"] > first["usage"]["prompt"] + first["usage"]["new"]
