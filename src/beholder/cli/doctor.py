"""`doctor`: what this computer has, what is missing, what it is for and how to get it. Quick: nothing heavy is imported
unless `--deep` asks for it.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beholder.cli.boundary import FAILED
from beholder.cli.gpus import driver_gpus, gpu_line, torch_gpus
from beholder.cli.names import DEFAULT
from beholder.cli.output import Json, bytes_text, console, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

CORE = {
    "torch": "every computation",
    "numpy": "media plans, and pictures on their way to tensors",
    "safetensors": "the format weights are written in",
    "gguf": "reads quantised weights",
    "tokenizers": "reads tokenizer.json",
    "pillow": "decodes pictures",
    "huggingface_hub": "fetches weights by hub id",
    "rich": "tables, progress and streamed text",
    "typer": "the command line",
}
# extra -> (what it is for, its packages), as in pyproject.toml
EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "serve": ("an HTTP server", ("fastapi", "uvicorn")),
    "ui": ("a page to try a model in a browser", ("gradio",)),
    "video": ("decodes clips", ("av",)),
    "audio": ("decodes sounds", ("soundfile",)),
    "train": (
        "curves of a run, parquet and Arrow data, and the icons mini is trained on",
        ("tensorboard", "pyarrow", "resvg_py"),
    ),
    "images": ("systems that make pictures by diffusion", ("diffusers",)),
    "ocr": ("reads text in pictures", ("rapidocr", "onnxruntime")),
    "scale": ("work over several machines", ("ray",)),
    "bench": ("plots of what was measured", ("matplotlib",)),
    "structured": ("answers that follow a JSON schema or grammar", ("llguidance",)),
    "dev": (
        "tests, linter, types",
        (
            *("pytest", "hypothesis", "ruff", "mypy", "pre-commit"),
            *("av", "soundfile", "llguidance", "matplotlib", "tensorboard", "pyarrow"),
        ),
    ),
}
CPU_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "amx_bf16",
    "asimd",
    "bf16",
    "sve",
)  # what kernels are chosen by
PROBE = 1024  # side of the matrices that --deep multiplies


def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Import torch too: threads, devices, speed of products.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Report what is installed, what is missing for what, the cache, and what the processor can do.

    Exit code 1 where a package that beholder cannot do without is missing.
    """
    report = examine()
    if deep and report["core"]["torch"]["version"]:
        report["torch"] = examine_torch()
    if as_json:
        print_json(report)
    else:
        console().print(_page(report))
    if not report["ok"]:
        raise typer.Exit(FAILED)


def version(package: str) -> str | None:
    """The installed version; None where it is missing."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def examine() -> dict[str, Any]:
    """Everything that can be told without heavy imports, JSON-ready."""
    from beholder import __version__

    core = {name: {"version": version(name), "for": reason} for name, reason in CORE.items()}
    return {
        "ok": sys.version_info >= (3, 11) and all(each["version"] for each in core.values()),
        "beholder": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "core": core,
        "extras": {name: _extra(name) for name in EXTRAS},
        "processor": _processor(),
        "gpus": driver_gpus(),
        "cache": _cache(),
        "models": _models(),
    }


def examine_torch() -> dict[str, Any]:
    """What torch sees, and how many products a second it does in float32 and bfloat16."""
    import torch

    return {
        "threads": torch.get_num_threads(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "gpus": torch_gpus(),
        "mps": torch.backends.mps.is_available(),
        "tflops": {name: _speed(name) for name in ("float32", "bfloat16")},
    }


def _speed(dtype: str) -> float:
    """10^12 operations a second of a matrix product on the CPU, the best of three."""
    import time

    import torch

    factor = torch.ones(PROBE, PROBE, dtype=getattr(torch, dtype))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        factor @ factor
        seconds.append(time.perf_counter() - start)
    return round(2 * PROBE**3 / min(seconds) / 1e12, 3)


def _extra(name: str) -> dict[str, Any]:
    reason, packages = EXTRAS[name]
    versions = {package: version(package) for package in packages}
    return {
        "for": reason,
        "installed": all(versions.values()),
        "packages": versions,
        "install": f'pip install "beholder[{name}]"',
    }


def _processor() -> dict[str, Any]:
    """Processors this process may use, memory in bytes, and the instruction sets that matter; None where unknown."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = None
    flags = _cpu_flags()
    return {
        "processors": usable,
        "memory": memory,
        "threads_set": os.environ.get("OMP_NUM_THREADS"),
        "instructions": None if flags is None else [flag for flag in CPU_FLAGS if flag in flags],
        "bf16": None if flags is None else any("bf16" in flag for flag in flags),
        "kernels": _kernels(),
    }


def _kernels() -> dict[str, Any]:
    """The instruction set of the compiled kernels, None without them, and a line that says so."""
    from beholder.native.library import describe

    chosen, line = describe()
    return {"set": chosen, "line": line}


def _cpu_flags() -> set[str] | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}


def _cache() -> dict[str, Any]:
    from beholder.packages import cache_folder

    folder = cache_folder()
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    return {"folder": str(folder), "bytes": _size(folder), "free": shutil.disk_usage(existing).free}


def _models() -> dict[str, Any]:
    """Models assembled in the cache by name; the default is always told of."""
    from beholder.packages import cache_folder

    found = {DEFAULT: {"pulled": False, "folder": None, "install": f"beholder pull {DEFAULT}"}}
    for folder in sorted((cache_folder() / "models").glob("*/beholder.json")):
        name = folder.parent.name.rpartition("-")[0] or folder.parent.name
        found[name] = {"pulled": True, "folder": str(folder.parent), "install": f"beholder pull {name}"}
    return found


def _size(folder: Path) -> int:
    """Bytes of all files under a folder; those that vanish or may not be read count nothing."""
    total = 0
    for where, _, files in os.walk(folder):
        for name in files:
            try:
                total += (Path(where) / name).lstat().st_size
            except OSError:
                continue
    return total


def _page(report: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    lines: list[tuple[str, str]] = [
        ("beholder", report["beholder"]),
        ("python", f"{report['python']} on {report['platform']}"),
    ]
    lines += [(name, each["version"] or f"MISSING ({each['for']})") for name, each in report["core"].items()]
    blocks: list[RenderableType] = [
        _grid(lines),
        Text("\nprocessor", style="bold"),
        _grid(_processor_lines(report)),
    ]
    cache = report["cache"]
    where = f"{cache['folder']} ({bytes_text(cache['bytes'])}, {bytes_text(cache['free'])} free)"
    models = [
        (name, each["folder"] if each["pulled"] else f"not pulled: {each['install']}")
        for name, each in report["models"].items()
    ]
    extras = [
        (name, f"{'yes' if each['installed'] else 'no ':3}  {each['for']}" + _remedy(each))
        for name, each in report["extras"].items()
    ]
    blocks += [Text("\nweights", style="bold"), _grid([("cache", where), *models])]
    return Group(*blocks, Text("\nextras", style="bold"), _grid(extras))


def _remedy(extra: dict[str, Any]) -> str:
    return "" if extra["installed"] else f": {extra['install']}"


def _processor_lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    processor = report["processor"]
    instructions, bf16 = processor["instructions"], processor["bf16"]
    lines = [
        ("processors", f"{processor['processors']} usable"),
        ("memory", "unknown" if processor["memory"] is None else bytes_text(processor["memory"])),
        ("instructions", "unknown" if instructions is None else ", ".join(instructions) or "none of note"),
        (
            "bf16 products",
            {None: "unknown", True: "in hardware", False: "emulated, slow: float32 is faster"}[bf16],
        ),
    ]
    lines.append(("compiled kernels", processor["kernels"]["line"]))
    if processor["threads_set"]:
        lines.append(("threads", f"OMP_NUM_THREADS={processor['threads_set']}"))
    if "torch" in report:
        deep = report["torch"]
        speeds = ", ".join(f"{speed} TFLOP/s in {dtype}" for dtype, speed in deep["tflops"].items())
        lines += [
            ("torch threads", f"{deep['threads']}, kernels {deep['kernels']}"),
            ("products", speeds),
            *((f"GPU cuda:{number}", gpu_line(gpu)) for number, gpu in enumerate(deep["gpus"])),
        ]
        lines += [] if deep["gpus"] else [("GPU", _no_gpu(report))]
    else:
        lines.append(("GPU", ", ".join(report["gpus"]) or "none that NVIDIA's driver tells of"))
    return lines


def _no_gpu(report: dict[str, Any]) -> str:
    """Why torch computes on none."""
    if report["torch"]["mps"]:
        return "Apple's (--device mps)"
    there = ", ".join(report["gpus"])
    return f"{there}, but this torch cannot use it; install one that is built for CUDA" if there else "none"


def _grid(rows: Iterable[tuple[str, str]]) -> RenderableType:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True, min_width=15)
    grid.add_column(overflow="fold")
    for label, fact in rows:
        grid.add_row(label, Text(fact))
    return Padding(grid, (0, 0, 0, 2))
