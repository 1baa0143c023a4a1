"""Checks the habits that no common linter knows: cards are data, sizes have budgets, names decide nothing, bodies
are not copied, imports keep their direction, and no path of one computer is written down.

    python tools/lint_structure.py [ROOT]

Prints `file:line: [check] message` for each breach and exits 1. Advice is printed too, but does not fail.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_CONFIG_FIELDS = 20
MAX_FAMILY_LINES = 60  # of the first card of a family; advice
MAX_VARIANT_FIELDS = 6  # changed by one .but(...), its name aside; advice
MIN_COPIED_LINES = 8

PACKAGE = "beholder"
SRC = f"src/{PACKAGE}/"
CODE_FOLDERS = ("src", "tools", "recipes")  # where budgets and copies are looked at
TEXT_SUFFIXES = (".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".sh", ".cfg")
TEXT_FOLDERS = (*CODE_FOLDERS, "tests", "docs", ".ci")
NAMES_ALLOWED = (f"{SRC}cards/", f"{SRC}catalogue/", f"{SRC}weights/readers/", "recipes/", "tests/")
ABOVE_PARTS = {"cards", "catalogue", "cli", "evals", "generate", "model", "serve", "train", "weights"}
OPTIONAL = {
    *(
        "av",
        "diffusers",
        "fastapi",
        "gradio",
        "llguidance",
        "matplotlib",
        "onnxruntime",
        "peft",
        "pyarrow",
        "rapidocr",
        "ray",
        "resvg_py",
    ),
    *("soundfile", "tensorboard", "uvicorn"),
}
FORBIDDEN = {"transformers"}
SYSTEMS = f"{SRC}catalogue/systems.json"
PLAIN_WORDS = {
    *(
        "alpha",
        "clip",
        "closed",
        "dense",
        "frozen",
        "mini",
        "multimodal",
        "next",
        "omni",
        "seed",
        "slow",
        "speech",
    ),
    *("unified", "vary", "video", "vision"),
}


@dataclass(frozen=True)
class Source:
    """One Python file; `path` is relative to the root, with forward slashes."""

    path: str
    text: str
    tree: ast.Module

    @staticmethod
    def of(path: str, text: str) -> Source:
        return Source(path, text, ast.parse(text, path))


@dataclass(frozen=True, order=True)
class Finding:
    """One breach, or one piece of advice."""

    path: str
    line: int
    check: str
    message: str
    advice: bool = False

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.check}] {'advice: ' if self.advice else ''}{self.message}"


# --- cards are data

LOGIC: dict[type[ast.AST], str] = {
    **dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda), "a function"),
    **dict.fromkeys((ast.If, ast.IfExp, ast.Match, ast.BoolOp, ast.Compare), "a decision"),
    **dict.fromkeys(
        (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), "a loop"
    ),
    **dict.fromkeys((ast.Try, ast.With, ast.Raise, ast.Assert), "a statement that acts"),
    ast.ClassDef: "a class",
    ast.AugAssign: "a change in place",
}


def cards_are_data(source: Source) -> Iterator[Finding]:
    """No logic in a card: only constants, calls of constructors, and arithmetic on plain numbers."""
    if not _is_card(source):
        return
    for node in ast.walk(source.tree):
        what = LOGIC.get(type(node))
        if what is None and isinstance(node, ast.BinOp) and _names_in(node):
            what = f"arithmetic on {', '.join(_names_in(node))}"
        if what is not None:
            message = f"{what} in a card; write the value, or give a part a field for it"
            yield Finding(source.path, getattr(node, "lineno", 1), "cards", message)


def _is_card(source: Source) -> bool:
    exempt = (f"{SRC}cards/schema.py", f"{SRC}cards/__init__.py")
    return source.path.startswith(f"{SRC}cards/") and source.path not in exempt


def _names_in(node: ast.AST) -> list[str]:
    return sorted({inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)})


def card_sizes(source: Source) -> Iterator[Finding]:
    """Advice: a family's first card in 60 lines, a variant in 6 changed fields."""
    if not _is_card(source):
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id == "Card":
            lines = _num_lines(node)
            if lines > MAX_FAMILY_LINES:
                message = f"a card of {lines} lines (budget {MAX_FAMILY_LINES}); name its parts apart"
                yield Finding(source.path, node.lineno, "budget", message, advice=True)
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "but":
            fields = len([keyword for keyword in node.keywords if keyword.arg != "name"])
            if fields > MAX_VARIANT_FIELDS:
                message = (
                    f"a variant that changes {fields} fields (budget {MAX_VARIANT_FIELDS}); is it a family?"
                )
                yield Finding(source.path, node.lineno, "budget", message, advice=True)


# --- budgets


def budgets(source: Source) -> Iterator[Finding]:
    """Files, functions and config dataclasses stay small."""
    lines = len(source.text.splitlines())
    if lines > MAX_FILE_LINES:
        yield Finding(
            source.path, lines, "budget", f"{lines} lines (budget {MAX_FILE_LINES}); split the file"
        )
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _num_lines(node) > MAX_FUNCTION_LINES:
            message = f"{node.name} has {_num_lines(node)} lines (budget {MAX_FUNCTION_LINES}); split it"
            yield Finding(source.path, node.lineno, "budget", message)
        elif isinstance(node, ast.ClassDef) and _is_dataclass(node):
            fields = _num_fields(node)
            if fields > MAX_CONFIG_FIELDS:
                message = (
                    f"{node.name} has {fields} fields (budget {MAX_CONFIG_FIELDS}); make two parts of it"
                )
                yield Finding(source.path, node.lineno, "budget", message)


def _num_lines(node: ast.expr | ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _num_fields(node: ast.ClassDef) -> int:
    return sum(
        isinstance(item, ast.AnnAssign) and "ClassVar" not in ast.unparse(item.annotation)
        for item in node.body
    )


# --- systems are not recognised by name


def name_tests(words: frozenset[str]) -> Callable[[Source], Iterator[Finding]]:
    """A check that only cards, catalogue and readers compare with `words`, the names of systems."""

    def check(source: Source) -> Iterator[Finding]:
        if source.path.startswith(NAMES_ALLOWED):
            return
        for node in ast.walk(source.tree):
            for text in _compared_strings(node):
                if _names_a_system(text, words):
                    message = (
                        f"{text!r} is compared with; look names up exactly, and make the difference a field"
                    )
                    yield Finding(source.path, getattr(node, "lineno", 1), "name-test", message)

    return check


def _compared_strings(node: ast.AST) -> list[str]:
    """String literals that a comparison, a prefix test, or a `case` looks for."""
    methods = ("startswith", "endswith", "find", "count", "index", "removeprefix", "removesuffix")
    if isinstance(node, ast.Compare):
        return [text for side in (node.left, *node.comparators) for text in _literals(side)]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods:
        return [text for argument in node.args for text in _literals(argument)]
    return _literals(node.value) if isinstance(node, ast.MatchValue) else []


def _literals(node: ast.expr) -> list[str]:
    items = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    return [item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]


def _names_a_system(text: str, words: frozenset[str]) -> bool:
    name = text.lower().strip("-_. ").replace("_", "-")
    return name in words or re.split(r"[-.]", name)[0] in words


def system_words(root: Path, sources: Iterable[Source]) -> frozenset[str]:
    """Names of systems and families: modules of cards, and ids of the packaged catalogue."""
    words = {Path(source.path).stem.replace("_", "-") for source in sources if _is_card(source)}
    path = root / SYSTEMS
    if path.exists():
        words |= {str(row["id"]).lower() for row in json.loads(path.read_text(encoding="utf-8"))}
    words |= {family for word in words if len(family := re.split(r"[-.]", word)[0]) > 3}
    return frozenset(words - PLAIN_WORDS)


# --- bodies are not copied


def copies(sources: Iterable[Source]) -> Iterator[Finding]:
    """No two functions have the same body of 8 lines or more; names of locals and docstrings do not count."""
    seen: dict[str, tuple[str, int]] = {}
    for source in sources:
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if not body or (body[-1].end_lineno or 0) - body[0].lineno + 1 < MIN_COPIED_LINES:
                continue
            path, line = seen.setdefault(_shape(node, body), (source.path, node.lineno))
            if (path, line) != (source.path, node.lineno):
                message = f"{node.name} repeats the body at {path}:{line}; keep one, where both can reach it"
                yield Finding(source.path, node.lineno, "copy", message)


def _shape(function: ast.FunctionDef | ast.AsyncFunctionDef, body: list[ast.stmt]) -> str:
    """A dump of the body in which locals are numbered in the order they appear."""
    arguments = function.args
    local = {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    local |= {argument.arg for argument in (arguments.vararg, arguments.kwarg) if argument is not None}
    for statement in body:
        stored = (n for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        local |= {name.id for name in stored}
    numbers: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        name = match.group(1)
        return (
            f"Name(id={numbers.setdefault(name, f'#{len(numbers)}')!r}" if name in local else match.group(0)
        )

    return re.sub(r"Name\(id='(\w+)'", rename, "\n".join(ast.dump(statement) for statement in body))


# --- imports keep their direction


def imports(source: Source) -> Iterator[Finding]:
    """Optional packages are imported where used; cards need no torch, parts nothing that is above them."""
    if not source.path.startswith(SRC):
        return
    in_parts = source.path.startswith(f"{SRC}parts/")
    in_cards = _is_card(source)
    for module, line, at_top in _imported(source):
        package, _, rest = module.partition(".")
        area = rest.split(".")[0]
        if package in FORBIDDEN:
            message = f"{package} is never imported by the library"
        elif package in OPTIONAL and at_top:
            message = f"{package} is optional; import it inside the function that needs it"
        elif package == "torch" and at_top and in_cards:
            message = "a card holds data and needs no torch"
        elif package == PACKAGE and in_parts and area in ABOVE_PARTS:
            message = (
                f"parts know nothing of {PACKAGE}.{area}; move what both need to parts.blocks, or pass it in"
            )
        else:
            continue
        yield Finding(source.path, line, "import", message)


def light_package(sources: Iterable[Source]) -> Iterator[Finding]:
    """`import beholder` reaches no torch through top-level imports of the package's own modules."""
    by_module = {_module_name(source.path): source for source in sources if source.path.startswith(SRC)}
    waiting = [(PACKAGE, [PACKAGE])]
    visited = {PACKAGE}
    while waiting:
        name, chain = waiting.pop()
        source = by_module.get(name)
        for module, line, at_top in _imported(source) if source is not None else ():
            if not at_top:
                continue
            if module.split(".")[0] == "torch" and source is not None:
                message = f"`import {PACKAGE}` would import torch, by {' -> '.join(chain)}; import it later"
                yield Finding(source.path, line, "import", message)
            for parent in _with_parents(module):
                if parent in by_module and parent not in visited:
                    visited.add(parent)
                    waiting.append((parent, [*chain, parent]))


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _module_name(path: str) -> str:
    return path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imported(source: Source) -> Iterator[tuple[str, int, bool]]:
    """(module, line, runs when the file is imported) of each import that is not for type checkers alone."""

    def visit(node: ast.AST, at_top: bool) -> Iterator[tuple[str, int, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, child.lineno, at_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = _absolute(source.path, child)
                yield base, child.lineno, at_top
                if base.split(".")[0] == PACKAGE:
                    yield from ((f"{base}.{alias.name}", child.lineno, at_top) for alias in child.names)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                yield from (found for branch in child.orelse for found in visit(branch, at_top))
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, at_top and not inside)

    yield from visit(source.tree, True)


def _absolute(path: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = path.removeprefix("src/").split("/")[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


# --- no path of one computer

MACHINE_PATH = re.compile(r"(?<![\w./<>$}~-])/(?:work|root|tmp|home|Users|mnt|scratch)/[\w.-]+")


def machine_paths(path: str, text: str) -> Iterator[Finding]:
    """Paths that exist on one computer only."""
    for line, content in enumerate(text.splitlines(), start=1):
        for match in MACHINE_PATH.finditer(content):
            message = f"{match.group(0)!r} exists on one computer only; use a path given by the caller"
            yield Finding(path, line, "path", message)


# --- the whole tree

FILE_CHECKS = (cards_are_data, card_sizes, budgets, imports)
TREE_CHECKS = (copies, light_package)


def python_sources(root: Path) -> tuple[list[Source], list[Finding]]:
    """The Python files of the library, the tools and the recipes, and those that are not Python."""
    sources, broken = [], []
    for path in (path for folder in CODE_FOLDERS for path in sorted((root / folder).rglob("*.py"))):
        name = path.relative_to(root).as_posix()
        try:
            sources.append(Source.of(name, path.read_text(encoding="utf-8")))
        except SyntaxError as error:
            broken.append(Finding(name, error.lineno or 1, "syntax", error.msg))
    return sources, broken


def text_files(root: Path) -> Iterator[Path]:
    """Texts of the project that people write: the root's own files and the known folders."""
    yield from sorted(path for path in root.iterdir() if path.is_file() and _is_text(path))
    for folder in TEXT_FOLDERS:
        yield from sorted(path for path in (root / folder).rglob("*") if path.is_file() and _is_text(path))


def _is_text(path: Path) -> bool:
    return path.suffix in TEXT_SUFFIXES or path.name in ("Makefile", "run", "make_oracle")


def lint(root: Path) -> list[Finding]:
    """Everything found under the root of the repository, in order of place."""
    sources, found = python_sources(root)
    checks = (*FILE_CHECKS, name_tests(system_words(root, sources)))
    found += [finding for source in sources for check in checks for finding in check(source)]
    found += [finding for check in TREE_CHECKS for finding in check(sources)]
    for path in text_files(root):
        found += machine_paths(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
    return sorted(set(found))


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    findings = lint(root)
    for finding in findings:
        print(finding)
    breaches = sum(not finding.advice for finding in findings)
    print(f"structure: {breaches} breaches" if breaches else "structure: all checks passed")
    return 1 if breaches else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
