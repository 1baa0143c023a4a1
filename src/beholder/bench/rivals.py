"""Processes that are measured: other libraries, and beholder where several precisions are compared."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from beholder.bench.load import OtherPrograms
from beholder.bench.own import Contestant, Opening
from beholder.bench.rounds import Round, Workload
from beholder.errors import BeholderError, UnknownName

RIVALS = ("transformers", "llama.cpp")
RUNNER = Path(__file__).with_name("others.py")
TYPES = (
    "float32",
    "float16",
)  # that another library takes over from beholder; in place of others it has bfloat16

Prompt = Callable[[Workload], dict[str, Any]]  # what a library needs beside a workload: `ids`, `question`


class Process:
    """A contestant in a process of its own. name: for errors. prompt: what each round tells beside the workload."""

    def __init__(
        self, command: Sequence[str], opening: dict[str, Any], name: str, prompt: Prompt | None = None
    ) -> None:
        self.name, self._prompt = name, prompt
        self._complaints = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                text=True,
                start_new_session=True,  # Ctrl-C is this program's to answer
            )
        except OSError as error:
            raise BeholderError(
                f"{name}: cannot run {command[0]} ({error.strerror}); check --python"
            ) from None
        try:
            self.facts = self._tell({"do": "open"} | opening)
        except BaseException:
            self.close()
            raise

    def round(self, workload: Workload) -> Round:
        others = OtherPrograms([self._process.pid])
        more = {} if self._prompt is None else self._prompt(workload)
        data = self._tell({"do": "round"} | asdict(workload) | more)
        return Round.from_data(data, others.share())

    def work(self, workload: Workload) -> dict[str, Any]:
        return {} if self._prompt is not None else self._tell({"do": "work"} | asdict(workload))

    def prompt(self, workload: Workload) -> dict[str, Any]:
        return self._tell({"do": "prompt"} | asdict(workload))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._complaints):
            if stream is not None:
                stream.close()

    def _tell(self, document: dict[str, Any]) -> dict[str, Any]:
        """Its answer. Raises `BeholderError` with what it says is wrong, or its last words."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(document) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BeholderError(f"{self.name}: {answer['error']}")
        return answer

    def _ended(self) -> BeholderError:
        self._process.wait()
        self._complaints.seek(0)
        said = [line for line in self._complaints.read().splitlines() if line.strip()]
        return BeholderError(f"{self.name} ended: {said[-1].strip() if said else 'it said nothing'}")


def apart(opening: Opening) -> Process:
    """beholder itself."""
    name = f"beholder {opening.precision}"
    return Process([sys.executable, "-m", "beholder.bench.worker"], asdict(opening), name)


def check_rivals(names: Sequence[str]) -> None:
    """Raises `UnknownName` for a library that is not known."""
    for name in names:
        if name not in RIVALS:
            raise UnknownName("library to compare with", name, RIVALS)


def rival(name: str, python: str, opening: Opening, path: Path, context: int, first: Contestant) -> Process:
    """Another library with the weights of `path`, which is asked what `first` is. context: most tokens of a request."""
    kept = first.facts["precision"]
    given = {
        "path": str(path.resolve()),
        "device": opening.device,
        "threads": opening.threads,
        "dtype": kept if kept in TYPES else "bfloat16",
        "context": context,
    }
    process = Process([python, str(RUNNER), name], given, name, first.prompt)
    process.facts = {key: first.facts[key] for key in ("system", "weights", "device")} | process.facts
    return process
