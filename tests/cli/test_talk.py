"""`ask`, `chat` and `embed` with tiny checkpoints."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from beholder.cli.ask import split_words, write_stream
from beholder.cli.chat import _read_line, unquoted
from beholder.cli.output import visible
from beholder.errors import BeholderError
from tests.cli.conftest import Run

pytestmark = pytest.mark.parity


@pytest.fixture
def llava(oracle: Callable[[str], Path]) -> list[str]:
    """Options that choose a tiny model."""
    return ["--model", str(oracle("llava")), "--chat", "llava-hf", "--max-tokens", "6"]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lines that `chat` reads."""

    def given(*lines: object, terminal: bool = False) -> None:
        stream = io.StringIO("".join(f"{line}\n" for line in lines))
        stream.isatty = lambda: terminal  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", stream)

    return given


def test_answer_is_that_of_the_library(run: Run, llava: list[str], cat: Path) -> None:
    import beholder

    reply = beholder.load(llava[1], chat="llava-hf").ask(cat, "What is this?", max_tokens=6)
    shown = run("ask", cat, "What is this?", *llava)
    assert shown == (0, visible(str(reply)) + "\n", "")
    document = run("ask", cat, "What is this?", *llava, "--json").json
    assert document["answer"] == str(reply) and document["finish"] == reply.finish
    assert document["usage"] == vars(reply.usage) and reply.usage.new == 6
    assert document["pictures"] == [str(cat)] and document["seconds"]["total"] > 0


def test_text_alone_and_sampling(run: Run, llava: list[str]) -> None:
    chance = ["--temperature", "5", "--seed", "3"]
    first = run("ask", "Why?", *llava, *chance, "--json").json
    assert first == first | {"pictures": []} and first["usage"]["image"] == 0
    assert run("ask", "Why?", *llava, *chance, "--json").json["answer"] == first["answer"]
    assert run("ask", "Why?", *llava, *chance[:2], "--seed", "4", "--json").json["answer"] != first["answer"]


def test_verbose_tells_tokens_on_stderr(run: Run, llava: list[str], cat: Path) -> None:
    shown = run("ask", cat, "What is this?", *llava, "--verbose")
    assert "4 image + " in shown.err and "6 out (length)" in shown.err and "image +" not in shown.out


def test_streamed_text_is_the_reply_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    write_stream(iter(["  ", " a", " \x1b[31m", "b ", "\n", " c", " \n"]))  # type: ignore[arg-type]
    assert capsys.readouterr().out == "a \\x1b[31mb \n c\n"


def test_words_are_pictures_and_a_question(cat: Path) -> None:
    assert split_words(["Why?"]) == ([], "Why?")
    assert split_words([str(cat), "gone.png", "What is in a.jpg?"]) == (
        [str(cat), "gone.png"],
        "What is in a.jpg?",
    )
    assert split_words(["x" * 5000]) == ([], "x" * 5000)
    with pytest.raises(BeholderError, match="after the pictures"):
        split_words(["Why?", str(cat)])


def test_conversation_from_a_pipe(run: Run, llava: list[str], cat: Path, say: Callable[..., None]) -> None:
    say(f"/image {cat}", "What is this?", "And why?", "", "/quit", "never said")
    document = run("chat", *llava, "--json").json
    assert [turn["question"] for turn in document["turns"]] == ["What is this?", "And why?"]
    assert [turn["pictures"] for turn in document["turns"]] == [[str(cat)], []]
    first, second = (turn["usage"] for turn in document["turns"])
    assert first["image"] == second["image"] == 4 and second["prompt"] > first["prompt"]
    assert first["reused"] == 0 and second["reused"] >= 16 + 4  # what the first turn had read


def test_clear_forgets_pictures_and_words(
    run: Run, llava: list[str], cat: Path, say: Callable[..., None]
) -> None:
    say("What?", "/clear", "What?")
    turns = run("chat", cat, *llava, "--json").json["turns"]
    assert len(turns) == 1 and turns[0]["usage"]["image"] == 0 and turns[0]["pictures"] == []


def test_commands_of_the_chat(run: Run, llava: list[str], cat: Path, say: Callable[..., None]) -> None:
    say("/help", f"/image {cat}", "What?", "/history", "/stats")
    shown = run("chat", *llava)
    assert shown.code == 0 and shown.out.count("\n") == 1
    for words in ("/image PATH", "451 x 300", f"> [{cat}] What?", "4 image + "):
        assert words in shown.err


def test_wrong_line_from_a_pipe_ends_with_2(run: Run, llava: list[str], say: Callable[..., None]) -> None:
    say("/imgae x.png")
    run("chat", *llava).assert_refused("unknown command '/imgae'", "/image")
    say("/image gone.png")
    run("chat", *llava).assert_refused("gone.png", "no such file")


def test_wrong_line_in_a_terminal_is_told_and_the_talk_goes_on(
    run: Run, llava: list[str], say: Callable[..., None]
) -> None:
    say("/image gone.png", "What?", terminal=True)
    shown = run("chat", *llava)
    assert shown.code == 0 and "error: image 1 (gone.png): no such file" in shown.err
    assert shown.out.count("\n") == 1


@pytest.mark.parametrize("quote", ["{}", "'{}'", '"{}"'])
def test_picture_dropped_on_the_terminal(cat: Path, tmp_path: Path, quote: str) -> None:
    picture = tmp_path / "a photo\u2019s name.jpg"
    picture.write_bytes(cat.read_bytes())
    assert unquoted(quote.format(picture)) == str(picture)
    assert unquoted(str(picture).replace(" ", "\\ ")) == str(picture)
    assert unquoted("it's nowhere") == "it's nowhere"


def test_interrupt_at_the_prompt_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, say: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(prompt: str = "") -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    say(terminal=True)
    assert _read_line() == "" and "/quit or Ctrl-D" in capsys.readouterr().err
    say(terminal=False)
    with pytest.raises(KeyboardInterrupt):
        _read_line()


def test_letters_that_stdout_lacks_are_escaped(llava: list[str], cat: Path) -> None:
    command = [sys.executable, "-m", "beholder", "show", "llava-1.5-7b"]  # prints a middle dot
    ran = subprocess.run(
        command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=False
    )
    assert ran.returncode == 0 and rb"\xb7" in ran.stdout and not ran.stderr


def test_embed_scores_pictures_against_texts(run: Run, oracle: Callable[[str], Path], cat: Path) -> None:
    import beholder

    texts = ["a cat", "a rocket"]
    wanted = beholder.load(oracle("clip")).embed(images=[cat], texts=texts)
    given = ("embed", cat, "--text", texts[0], "--text", texts[1], "--model", oracle("clip"))
    document = run(*given, "--json").json
    assert document["scores"] == wanted.scores.tolist() and len(document["text_vectors"]) == 2
    shown = run(*given)
    assert "a rocket" in shown.out and f"{wanted.scores[0, 0]:.2f}" in shown.out
