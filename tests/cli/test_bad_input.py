"""What a user can get wrong: one line that names the thing and the remedy, exit code 2, nothing half-written."""

from __future__ import annotations

import errno
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.conftest import Run

Tensors = dict[str, torch.Tensor]

PICTURES = {
    "text": ("text.png", "not a picture"),
    "half": ("half.png", "truncated or damaged"),
    "bomb": ("bomb.png", "60000 x 60000", "scale it down"),
    "empty": ("empty.jpg", "empty"),
    "missing": ("missing.png", "no such file", "check the path"),
    "folder": ("is a folder", "give one picture file"),
}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("command", ["look", "plan", "ask"])
def test_unusable_picture(
    run: Run, bad_pictures: dict[str, Path], tmp_path: Path, kind: str, command: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    options = {"look": ["--out", tmp_path / "seen.png"], "ask": ["What is this?"], "plan": []}[command]
    run(command, bad_pictures[kind], *options).assert_refused(*PICTURES[kind])
    assert sorted(tmp_path.rglob("*")) == before


def test_picture_of_one_pixel_works(run: Run, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    assert run("plan", tmp_path / "dot.png", "--json").json["image_tokens"] == 49


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "llavva-1.5"), ("unknown system or card 'llavva-1.5'", "nearest: llava-1.5")),
        (("compare", "llava-1.5", "flamigo"), ("'flamigo'", "flamingo")),
        (("ask", "Why?", "--model", "minni"), ("'minni'", "mini")),
        (("pull", "minni"), ("'minni'", "mini")),
        (("look", "x.png", "--model", "minni"), ("'minni'", "mini")),
        (("list", "--group", "splise"), ("'splise'", "splice")),
        (("list", "--size", "big"), ("big", "7B")),
        (("list", "--since", "soon"), ("soon", "2023-10")),
        (("compare", "llava-1.5"), ("two or more",)),
        (("frobnicate",), ("frobnicate", "beholder --help")),
        (("list", "--frob"), ("--frob", "beholder list --help")),
        (("show",), ("missing argument", "beholder show --help")),
        (("parity", "nowhere"), ("nowhere", "config.json")),
        (("parity", "nowhere", "--tolerance", "nan"), ("--tolerance nan", "above 0")),
        (("convert", "nowhere/at-all.safetensors", "out"), ("nowhere/at-all.safetensors", "no such file")),
        (("eval",), ("nothing to evaluate", "--data")),
        (("train", "nowhere.py"), ("nowhere.py", "no such recipe")),
        (("embed",), ("nothing to compare", "--text")),
        (("ask", "Why?", "--temperature", "nan"), ("temperature = nan", "from 0 to")),
        (("ask", "Why?", "--max-tokens", "0"), ("max_tokens = 0", "from 1")),
        (("ask", "Why?", "--device", "abacus"), ("--device abacus", "doctor --deep")),
        (("ask", "Why?", "--region", "1,2,3,4"), ("--region", "none was given")),
        (("ask", " "), ("the question is empty",)),
        (("ask", "x.jpg", ""), ("the question is empty",)),
        (("ask", "Why?", "--model", "llava-1.5"), ("is a system", "llava-1.5-13b, llava-1.5-7b")),
        (("ask", "Why?", "--model", ""), ("unknown model",)),
        (("look", "x.png", "--model", "speechgpt"), ("has no card yet", "beholder list --evidence")),
        (("pull", "smolvlm"), ("is a system", "smolvlm-256m")),
        (("convert", "llava-1.5", "out"), ("is a system", "llava-1.5-7b")),
        (("ask", "Why?", "--model", "README.md"), ("README.md is one file", "give the folder")),
        (("embed", "a photo of a cat"), ("is no picture", "--text")),
        (("ask", "https://example.org/cat.jpg", "Why?"), ("addresses (https:) are not read", "its file")),
    ],
)
def test_wrong_words(run: Run, words: tuple[str, ...], said: tuple[str, ...]) -> None:
    run(*words).assert_refused(*said)


def test_usage_errors_end_without_two_stops(run: Run) -> None:
    assert run("show").err == "error: missing argument 'name' (see beholder show --help)\n"


def test_question_belongs_after_the_pictures(run: Run, cat: Path) -> None:
    run("ask", "What is this?", cat).assert_refused("the question comes after the pictures", "beholder ask")
    run("ask", cat).assert_refused("no question came with", "beholder ask")
    run("ask", cat, "What", "is", "this").assert_refused("'What' is no picture", "quotes")


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "9,9,1,1"])
def test_region_is_four_numbers_in_order(run: Run, cat: Path, box: str) -> None:
    run("ask", cat, "What?", "--region", box).assert_refused("--region", box)


@pytest.mark.parity
def test_text_alone_to_a_dual_encoder(run: Run, oracle: Callable[[str], Path]) -> None:
    run("ask", "What is this?", "--model", oracle("clip")).assert_refused("clip writes no text", "embed")


@pytest.mark.parity
@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("bert", "vectors of texts with embed"),
        ("vit", "vectors of pictures with embed"),
        ("resnet_cls", "labels with classify"),
        ("wav2vec2_ctc", "features of sounds"),
        ("encodec_plain", "codes and back"),
        ("whisper", "writes down sounds"),
    ],
)
def test_what_cannot_answer_says_what_it_can(
    run: Run, oracle: Callable[[str], Path], family: str, words: str
) -> None:
    run("ask", "What is this?", "--model", oracle(family)).assert_refused(family, words)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("family", "reads"),
    [("llama", "text alone"), ("whisper", "no pictures"), ("encodec_plain", "no pictures")],
)
def test_a_picture_for_what_sees_none(
    run: Run, oracle: Callable[[str], Path], cat: Path, family: str, reads: str
) -> None:
    words = f"{family} reads {reads} but 1 picture came with it"
    for command in (("plan", cat), ("look", cat), ("embed", cat)):
        run(*command, "--model", oracle(family)).assert_refused(words)


def test_a_sound_is_no_picture(run: Run, tmp_path: Path) -> None:
    sound = tmp_path / "speech.wav"
    sound.write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    run("ask", sound, "What is said?").assert_refused("speech.wav", "the sound is truncated or damaged")
    run("look", sound).assert_refused("speech.wav", "a sound is not a picture to look at")


def missing(tensors: Tensors) -> str:
    name = next(name for name in tensors if "projector" in name)
    del tensors[name]
    return name


def extra(tensors: Tensors) -> str:
    tensors["model.surplus.weight"] = torch.zeros(3)
    return "model.surplus.weight"


def reshaped(tensors: Tensors) -> str:
    name = next(name for name, tensor in tensors.items() if "projector" in name and tensor.ndim == 2)
    tensors[name] = tensors[name][:, :-1].contiguous()
    return name


@pytest.fixture
def checkpoint(oracle: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a recorded checkpoint, to be broken."""
    return Path(shutil.copytree(oracle("llava"), tmp_path / "checkpoint"))


@pytest.mark.parity
@pytest.mark.parametrize(
    ("damage", "word"), [(missing, "missing"), (extra, "unexpected"), (reshaped, "reshaped")]
)
def test_checkpoint_that_does_not_fit(
    run: Run, checkpoint: Path, tmp_path: Path, damage: Callable[[Tensors], str], word: str
) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    name = damage(tensors)
    save_file(tensors, checkpoint / "model.safetensors")
    target = tmp_path / "out"
    for words in (("convert", checkpoint, target), ("parity", checkpoint), ("ask", "Why?", "-m", checkpoint)):
        run(*words).assert_refused("weights do not fit", f"1 {word}", name)
    assert sorted(tmp_path.iterdir()) == [checkpoint]
    all_of_it = run("--debug", "parity", checkpoint)
    assert all_of_it.code == 2 and "Traceback" in all_of_it.err and f"{word} (1):" in all_of_it.err


@pytest.mark.parity
def test_pickle_is_refused_unopened(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    opened = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
            return Path.touch, (opened,)

    for path in checkpoint.glob("*.safetensors"):
        path.unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    run("convert", checkpoint, tmp_path / "out").assert_refused("pytorch_model.bin", "safetensors")
    assert not opened.exists() and not (tmp_path / "out").exists()


@pytest.mark.parity
def test_no_space_left(run: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from beholder.weights import save

    def full(folder: Path, *args: object, **options: object) -> None:
        (folder / "model.safetensors").write_bytes(b"the first half")
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "model.safetensors"))

    monkeypatch.setattr(save, "write_weights", full)
    run("convert", checkpoint, tmp_path / "out").assert_refused(str(tmp_path / "out"), "no space left")
    assert sorted(tmp_path.iterdir()) == [checkpoint]


@pytest.mark.parity
def test_write_that_stops_half_way(checkpoint: Path, tmp_path: Path) -> None:
    """A real short write: the process may not make files as large as the weights."""
    limit = 100 * 1024
    done = subprocess.run(
        [sys.executable, "-m", "beholder", "convert", str(checkpoint), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: cannot write {tmp_path / 'out'}: ")
    assert len(done.stderr.splitlines()) == 1 and "nothing was changed" in done.stderr
    assert sorted(tmp_path.iterdir()) == [checkpoint]


@pytest.mark.parity
def test_folder_of_somebody_else_is_not_replaced(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    run("convert", checkpoint, mine).assert_refused(str(mine), "choose another")
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    run("convert", checkpoint, checkpoint).assert_refused("both source and target")


def test_drawing_goes_nowhere_it_should_not(run: Run, bad_pictures: dict[str, Path], cat: Path) -> None:
    whole = bad_pictures["folder"] / "whole.png"
    before = whole.read_bytes()
    run("look", whole, "--out", whole).assert_refused("is the picture", "--out")
    run("look", cat, "--out", bad_pictures["text"] / "x.png").assert_refused("a part of the path is a file")
    run("look", cat, "--out", "seen.jpg").assert_refused("seen.jpg", ".png")
    assert whole.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", ("questions.jsonl line 2", "not JSON")),
        ('{"picture": "cat.jpg", "question": "What?"}', ("line 2", "answer")),
        ("[]", ("line 2", "a list, not an object")),
    ],
)
def test_file_of_questions_is_checked(run: Run, tmp_path: Path, line: str, said: tuple[str, ...]) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(f'{{"picture": "cat.jpg", "question": "What?", "answer": "a cat"}}\n{line}\n')
    run("eval", path).assert_refused(*said)


def test_control_characters_are_spelled_out(run: Run) -> None:
    run("show", "a\x1b[31m\nb").assert_refused("\\x1b[31m", "\\nb")
