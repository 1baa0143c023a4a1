"""Each check of the structure lint finds its breach and leaves its good twin alone."""

import textwrap
from pathlib import Path

import lint_structure as lint
import pytest

CARD = "src/beholder/cards/example.py"
PART = "src/beholder/parts/vision/example.py"
WORDS = frozenset({"llava", "llava-1.5", "qwen2"})


def source(path, text):
    return lint.Source.of(path, textwrap.dedent(text))


def found(check, path, text):
    return [(finding.line, finding.message) for finding in check(source(path, text))]


@pytest.mark.parametrize(
    "line",
    [
        "def size(): return 3",
        "class Own(Card): pass",
        "if BIG: A = 3",
        "A = 3 if BIG else 4",
        "for i in (1, 2): pass",
        "A = tuple(i for i in (1, 2))",
        "A = lambda: 3",
        "A = BASE + 1",
        "A = vit.WIDTH * 4",
        "A += 1",
        "A = BASE or OTHER",
    ],
)
def test_logic_in_a_card_is_found(line):
    assert [at for at, _ in found(lint.cards_are_data, CARD, line)][:1] == [1]


@pytest.mark.parametrize(
    "line",
    [
        "from beholder.cards.schema import Card",
        'A = Card(name="a", parts=(Mlp(depth=2), *SHARED), scale=-1.0, context=8 * 1024, rate=1e-3 / 2)',
        'B = A.but(name="b", language=llama.BIG)',
    ],
)
def test_data_in_a_card_passes(line):
    assert not found(lint.cards_are_data, CARD, line)


def test_logic_outside_cards_passes():
    for path in (PART, "src/beholder/cards/schema.py", "src/beholder/cards/__init__.py"):
        assert not found(lint.cards_are_data, path, "def size(): return 3")


def test_large_cards_and_wide_variants_get_advice_that_does_not_fail():
    fields = [f"f{i}={i}" for i in range(lint.MAX_VARIANT_FIELDS)]
    long = "A = Card(\n" + "1,\n" * lint.MAX_FAMILY_LINES + ")"
    wide = f"B = A.but(name='b', {', '.join([*fields, 'extra=1'])})"
    for text in (long, wide):
        (finding,) = lint.card_sizes(source(CARD, text))
        assert finding.advice and "advice" in str(finding)
    assert not found(lint.card_sizes, CARD, f"B = A.but(name='b', {', '.join(fields)})\nA = Card(\n1,\n)")


def config(fields):
    return "@dataclass(frozen=True)\nclass C:\n" + "".join(f"    f{i}: int\n" for i in range(fields))


def test_budget_of_files():
    assert found(lint.budgets, PART, "x = 1\n" * (lint.MAX_FILE_LINES + 1))
    assert not found(lint.budgets, PART, "x = 1\n" * lint.MAX_FILE_LINES)


def test_budget_of_functions():
    assert (
        "61 lines" in found(lint.budgets, PART, "def f():\n" + "    x = 1\n" * lint.MAX_FUNCTION_LINES)[0][1]
    )
    assert not found(lint.budgets, PART, "def f():\n" + "    x = 1\n" * (lint.MAX_FUNCTION_LINES - 1))


def test_budget_of_config_dataclasses():
    assert "21 fields" in found(lint.budgets, PART, config(lint.MAX_CONFIG_FIELDS + 1))[0][1]
    assert not found(lint.budgets, PART, config(lint.MAX_CONFIG_FIELDS) + "    shared: ClassVar[int] = 1\n")


@pytest.mark.parametrize(
    "line",
    [
        'ok = "llava" in name',
        'ok = name == "llava-1.5"',
        'ok = name in ("other", "LLaVA_next")',
        'ok = name.startswith("qwen2")',
        'match name:\n    case "llava": pass',
    ],
)
def test_name_tests_are_found(line):
    assert found(lint.name_tests(WORDS), PART, line)


def test_exact_tables_and_other_words_pass():
    check = lint.name_tests(WORDS)
    assert not found(check, PART, 'TABLE = {"llava": read}\nreader = TABLE[name]\nok = mode == "bicubic"')
    assert not found(check, "src/beholder/weights/readers/llava.py", 'ok = kind == "llava"')


def test_words_come_from_cards_and_catalogue(tmp_path):
    catalogue = tmp_path / lint.SYSTEMS
    catalogue.parent.mkdir(parents=True)
    catalogue.write_text('[{"id": "mantis-8b"}, {"id": "vision-x"}]')
    words = lint.system_words(tmp_path, [source("src/beholder/cards/pali_gemma.py", ""), source(PART, "")])
    assert words == {"pali-gemma", "pali", "mantis-8b", "mantis", "vision-x"}


LONG = """
def {name}({argument}):
    '''{name}.'''
    total = 0
    for item in {argument}:
        if item > 3:
            total += item
        elif item < 0:
            total -= item
        else:
            total *= {number}
    return total
"""


def test_copied_bodies_are_found_under_other_names():
    first = source(PART, LONG.format(name="add", argument="items", number=2))
    renamed = source("src/beholder/train/loop.py", LONG.format(name="sums", argument="values", number=2))
    (finding,) = lint.copies([first, renamed])
    assert (finding.path, finding.line) == ("src/beholder/train/loop.py", 2)
    assert f"{PART}:2" in finding.message


def test_other_numbers_and_short_bodies_are_no_copies():
    other = source(CARD, LONG.format(name="sums", argument="values", number=3))
    short = "def f(x):\n    y = x\n    return y\n"
    assert not list(lint.copies([source(PART, LONG.format(name="add", argument="items", number=2)), other]))
    assert not list(lint.copies([source(PART, short), source(CARD, short)]))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (PART, "import fastapi"),
        (PART, "try:\n    import av\nexcept ImportError:\n    av = None"),
        (PART, "def f():\n    import transformers"),
        (PART, "from transformers.models import llava"),
        (CARD, "from torch import nn"),
        (PART, "from beholder.model import build"),
        (PART, "from beholder import weights"),
        (PART, "from ...train import loop"),
        (PART, "def f():\n    from beholder.generate import engine"),
    ],
)
def test_wrong_imports_are_found(path, line):
    assert found(lint.imports, path, line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (PART, "def f():\n    import fastapi"),
        (PART, "import torch\nfrom beholder.parts import blocks\nfrom ..blocks import mlp"),
        (PART, "if TYPE_CHECKING:\n    import av\n    from beholder.model import Model"),
        (CARD, "from beholder.parts.vision import vit"),
        ("src/beholder/train/loop.py", "from beholder.model import build"),
        ("tests/test_export.py", "import transformers"),
    ],
)
def test_right_imports_pass(path, line):
    assert not found(lint.imports, path, line)


def test_importing_the_package_reaches_no_torch():
    heavy = source("src/beholder/model.py", "import numpy\nimport torch")
    direct = source(
        "src/beholder/__init__.py", "from beholder.errors import BeholderError\nfrom beholder import model"
    )
    lazy = source(
        "src/beholder/__init__.py", "def load(name):\n    from beholder import model\n    return model"
    )
    (finding,) = lint.light_package([direct, heavy])
    assert (finding.path, finding.line) == ("src/beholder/model.py", 2)
    assert "beholder -> beholder.model" in finding.message
    assert not list(lint.light_package([lazy, heavy]))


def test_paths_of_one_computer_are_found():
    for folder in ("work", "tmp", "root", "home", "Users"):
        line = "out = " + repr(f"/{folder}/somebody/out")
        assert [finding.line for finding in lint.machine_paths("a.py", f"x = 1\n{line}")] == [2]


def test_relative_paths_and_addresses_pass():
    text = "docs/work/a.md  src/tmp/b.py  https://example.org/home/page  $HOME/tmp/x  ../root/c"
    assert not list(lint.machine_paths("a.md", text))


def test_lint_of_a_tree_prints_place_and_fails(tmp_path, capsys):
    card = tmp_path / CARD
    card.parent.mkdir(parents=True)
    card.write_text('A = Card(name="a")\n')
    assert lint.main([str(tmp_path)]) == 0
    card.write_text("A = BASE + 1\n")
    (card.parent / "broken.py").write_text("def f(:\n")
    assert lint.main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert f"{CARD}:1: [cards] arithmetic on BASE" in printed
    assert "broken.py:1: [syntax]" in printed


def test_every_file_of_this_project_is_read():
    root = Path(lint.__file__).resolve().parent.parent
    names = {path.relative_to(root).as_posix() for path in lint.text_files(root)}
    assert {"Makefile", ".ci/run", "README.md", "tools/make_oracle", "pyproject.toml"} <= names
