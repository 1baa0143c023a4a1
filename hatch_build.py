"""Compiles the kernels of `beholder.native` when the package is built or installed; where that fails, a pure wheel is made."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags


class KernelsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the library beside its sources, and with them into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        if os.environ.get("BEHOLDER_NATIVE") == "0":
            self.app.display_info("kernels are not compiled: BEHOLDER_NATIVE=0")
            return
        build = runpy.run_path(str(Path(self.root) / "src/beholder/native/build.py"))
        try:
            library: Path = build["build"]()
        except build["BuildError"] as error:
            self.app.display_warning(f"kernels are not compiled, PyTorch will do their work: {error}")
            return
        build_data["artifacts"].append(library.relative_to(self.root).as_posix())
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"  # the library knows nothing of Python


def _platform() -> str:
    """This platform's most general tag: what was compiled here promises nothing about other systems' C libraries."""
    return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))
