"""Compiles the kernels into one library beside this file. Needs nothing but Python, so that the package's build can use it.

    python -m beholder.native.build

The library's name holds a hash of its sources: one that belongs to other sources is never loaded. `CXX` names the compiler.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-pthread")
LINKING = {"linux": ("-Wl,-Bsymbolic",)}  # its functions call each other, whatever else is loaded
AVX2 = ("-mavx2", "-mfma", "-mf16c")
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
# processor -> instruction set -> (which simd header, flags); each is the same step.cpp, and library.cpp chooses
SETS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "x86_64": {
        "avx2": ("AVX2", AVX2),
        "avx2_vnni": ("AVX2", (*AVX2, "-mavxvnni")),
        "avx512": ("AVX512", AVX512),
        "avx512_vnni": ("AVX512", (*AVX512, "-mavx512vnni")),
        "avx512_bf16": ("AVX512", (*AVX512, "-mavx512vnni", "-mavx512bf16")),
    },
    "aarch64": {"neon": ("NEON", ()), "neon_dot": ("NEON", ("-march=armv8.2-a+dotprod",))},
}
# processor -> source that is made for one instruction set alone -> flags
ALONE = {"x86_64": {"whole.cpp": (*AVX512, "-mavx512vnni", "-mavx512bf16")}}


class BuildError(RuntimeError):
    """The library cannot be made here; one line says why."""


def processor() -> str:
    """As `SETS` calls it; any other name has the portable kernels alone."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def sources() -> list[Path]:
    """What the library is made from."""
    return sorted(path for path in FOLDER.iterdir() if path.suffix in (".cpp", ".h"))


def library() -> Path:
    """Where the library that belongs to these sources is, or would be."""
    known = hashlib.sha256(repr((FLAGS, SETS, ALONE)).encode())
    for path in sources():
        known.update(path.name.encode() + b"\0" + path.read_bytes())
    return FOLDER / f"kernels-{processor()}-{known.hexdigest()[:16]}.so"


def compiler() -> str:
    """The compiler's command; raises `BuildError` where there is none."""
    if sys.platform == "win32":
        raise BuildError("the kernels need POSIX threads, which Windows has not")
    named = os.environ.get("CXX")
    found = [shutil.which(name) for name in ((named,) if named else COMPILERS)]
    if not any(found):
        raise BuildError(
            f"no C++ compiler: none of {', '.join((named,) if named else COMPILERS)} is installed"
        )
    return next(path for path in found if path)


def build() -> Path:
    """Compile the library, unless it is there, and remove those of other sources. Raises `BuildError`."""
    target = library()
    if target.exists():
        return target
    command = compiler()
    jobs: list[tuple[str, str, tuple[str, ...]]] = [("step.cpp", "portable", ("-DSTEP=step_portable",))]
    for name, (header, flags) in SETS.get(processor(), {}).items():
        jobs.append(("step.cpp", name, (f"-DSIMD_{header}", f"-DSTEP=step_{name}", *flags)))
    alone = {name for sources_of in ALONE.values() for name in sources_of}
    jobs += [(name, Path(name).stem, flags) for name, flags in ALONE.get(processor(), {}).items()]
    jobs += [
        (path.name, path.stem, ())
        for path in sources()
        if path.suffix == ".cpp" and path.name not in ("step.cpp", *alone)
    ]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = [Path(scratch) / f"{name}.o" for _, name, _ in jobs]
        done = [
            pool.submit(_run, (command, *FLAGS, *flags, "-c", str(FOLDER / source), "-o", str(made)))
            for (source, _, flags), made in zip(jobs, objects, strict=True)
        ]
        for job in done:
            job.result()
        linked = target.with_suffix(f".{os.getpid()}.tmp")
        _run(
            (
                command,
                "-shared",
                "-pthread",
                *LINKING.get(sys.platform, ()),
                *map(str, objects),
                "-o",
                str(linked),
            )
        )
        os.replace(linked, target)  # so that two builds at once do no harm
    for other in FOLDER.glob("kernels-*.so"):
        if other != target:
            other.unlink(missing_ok=True)
    return target


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line] or error.stderr.splitlines()
        raise BuildError(f"{command[0]} failed: {lines[0] if lines else error}") from error
    except OSError as error:
        raise BuildError(f"{command[0]} does not run: {error}") from error


def main() -> int:
    """Build and say where."""
    try:
        path = build()
    except BuildError as error:
        sys.stderr.write(f"not built: {error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
