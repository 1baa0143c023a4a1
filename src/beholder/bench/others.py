"""Other libraries, measured in a process and an interpreter of their own, which need not have beholder: this file alone is run.

    python others.py transformers|llama.cpp

One JSON document a line on standard input (`do`: `open`, `round`), one on standard output for each. A document with `error` is
one line for people.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

HOW = {
    "transformers": "pip install transformers torch pillow",
    "llama_cpp": "pip install llama-cpp-python",
    "gguf": "pip install gguf",
}


class Problem(Exception):
    """Something that the person who measures can mend."""


def package(name: str) -> Any:
    """A package of this interpreter; imported by name, because beholder itself uses none of them."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        how = HOW.get(missing, "pip install " + missing)
        raise Problem(
            f"{missing} is not installed there; run {how}, or name another interpreter with --python"
        ) from None


def memory(key: str) -> int:
    """Bytes that this process takes now (`VmRSS`) or took at most (`VmHWM`); 0 where unknown."""
    try:
        with open("/proc/self/status") as file:  # noqa: PTH123
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(key))
    except (OSError, StopIteration):
        return 0


def forget_peak() -> None:
    """Begin to look for the most anew."""
    try:
        with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123
            file.write("5")
    except OSError:
        return


class Transformers:
    """Folders in the official layout and GGUF files. Requests that come together are one batch."""

    def __init__(self, given: dict[str, Any]) -> None:
        torch, transformers = package("torch"), package("transformers")
        if given.get("threads"):
            torch.set_num_threads(given["threads"])
        self.torch, self.transformers = torch, transformers
        start, path = memory("VmRSS"), given["path"]
        dtype = getattr(torch, given.get("dtype") or "bfloat16")
        if path.endswith(".gguf"):
            package("gguf")
            folder, kind = os.path.dirname(path), transformers.AutoModelForCausalLM  # noqa: PTH120
            options = {"gguf_file": os.path.basename(path)}  # noqa: PTH119
        else:
            if not os.path.isfile(os.path.join(path, "config.json")):  # noqa: PTH113, PTH118
                raise Problem("has no config.json there; give --model a folder in the official layout")
            folder, options, kind = path, {}, self._kind(path)
        self.model = (
            kind.from_pretrained(folder, dtype=dtype, **options).eval().to(given.get("device") or "cpu")
        )
        self.processor = self._processor(folder)
        held = {id(each): each for each in self.model.parameters()}
        self.facts = {
            "engine": "transformers",
            "version": transformers.__version__,
            "precision": str(dtype).split(".")[-1],
            "threads": torch.get_num_threads(),
            "memory": {
                "start": start,
                "loaded": memory("VmRSS"),
                "weights": sum(each.numel() * each.element_size() for each in held.values()),
            },
        }

    def _kind(self, folder: str) -> Any:
        config = self.transformers.AutoConfig.from_pretrained(folder)
        sees = getattr(config, "vision_config", None) is not None
        return (
            self.transformers.AutoModelForImageTextToText if sees else self.transformers.AutoModelForCausalLM
        )

    def _processor(self, folder: str) -> Any:
        try:
            return self.transformers.AutoProcessor.from_pretrained(folder)
        except (OSError, ValueError, ImportError):
            return None

    def _inputs(self, given: dict[str, Any], pictures: list[str]) -> dict[str, Any]:
        torch, count = self.torch, given["concurrency"]
        if not pictures:
            ids = torch.tensor([given["ids"]] * count, device=self.model.device)
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self.processor is None:
            raise Problem("has no processor of pictures in that folder; it cannot be asked about pictures")
        loaded = [package("PIL.Image").open(path).convert("RGB") for path in pictures]
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": given["question"]}]
            text = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
        else:
            mark = getattr(self.processor, "image_token", None) or "<image>"
            text = mark * len(pictures) + given["question"]
        inputs = self.processor(
            text=[text] * count, images=[loaded] * count, return_tensors="pt", padding=True
        ).to(self.model.device)
        return {
            name: value.to(self.model.dtype) if value.is_floating_point() else value
            for name, value in inputs.items()
        }

    def together(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        """Samples of requests that are answered together."""
        times: list[float] = []
        start = time.perf_counter()
        inputs = self._inputs(given, given["pictures"])
        media = time.perf_counter() - start

        def note(ids: Any, _: Any, **__: Any) -> Any:
            times.append(time.perf_counter() - start)
            return self.torch.zeros(len(ids), dtype=self.torch.bool, device=ids.device)

        with self.torch.inference_mode():
            self.model.generate(
                **inputs,
                max_new_tokens=given["new"],
                min_new_tokens=given["new"],
                do_sample=False,
                stopping_criteria=self.transformers.StoppingCriteriaList([note]),
            )
        prompt = inputs["input_ids"].shape[1]
        parts = {"media": media, "prefill": times[0] - media}
        sample = {"first": times[0], "last": times[-1], "prompt": prompt, "new": len(times), "parts": parts}
        return [sample] * given["concurrency"]


class LlamaCpp:
    """GGUF files of language models. Requests are answered one after the other."""

    def __init__(self, given: dict[str, Any]) -> None:
        library = package("llama_cpp")
        if not given["path"].endswith(".gguf"):
            raise Problem("opens .gguf files alone; give --model such a file")
        start, threads = memory("VmRSS"), given.get("threads") or os.cpu_count()
        try:
            self.model = library.Llama(
                given["path"],
                n_ctx=given["context"],
                n_threads=threads,
                n_threads_batch=threads,
                verbose=False,
            )
        except ValueError as error:
            raise Problem(f"cannot open the file: {error}") from None
        size = os.path.getsize(given["path"])  # noqa: PTH202
        told = {"start": start, "loaded": memory("VmRSS"), "weights": size}
        self.facts = {
            "engine": "llama.cpp",
            "version": library.__version__,
            "precision": "as in the file",
            "threads": threads,
            "memory": told,
        }

    def together(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        if given["pictures"]:
            raise Problem("is asked about text alone here; leave the pictures out")
        return [self._one(given) for _ in range(given["concurrency"])]

    def _one(self, given: dict[str, Any]) -> dict[str, Any]:
        times: list[float] = []
        start = time.perf_counter()
        self.model.reset()
        tokens = given["ids"]
        for _ in range(given["new"]):
            self.model.eval(tokens)
            tokens = [self.model.sample(temp=0.0)]
            times.append(time.perf_counter() - start)
        parts = {"prefill": times[0]}
        return {
            "first": times[0],
            "last": times[-1],
            "prompt": len(given["ids"]),
            "new": len(times),
            "parts": parts,
        }


class Rival:
    """What answers `serve`: a library, and the rounds it is asked for."""

    def __init__(self, library: Callable[[dict[str, Any]], Any]) -> None:
        self.library = library
        self.model: Any = None

    def open(self, given: dict[str, Any]) -> dict[str, Any]:
        self.model = self.library(given)
        return self.model.facts

    def round(self, given: dict[str, Any]) -> dict[str, Any]:
        forget_peak()
        samples: list[dict[str, Any]] = []
        start = time.perf_counter()
        while len(samples) < given["requests"]:
            samples += self.model.together(given)
        return {"seconds": time.perf_counter() - start, "samples": samples, "peak": memory("VmHWM")}


def serve(rival: Any) -> None:
    """Answer documents until there are no more. What libraries print goes to standard error."""
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        given = json.loads(line)
        try:
            answer = getattr(rival, given.pop("do"))(given)
        except Exception as error:  # noqa: BLE001  (whatever a library of others raises is told in one line)
            what = str(error).strip().split("\n")[0] or type(error).__name__
            answer = {
                "error": what if type(error).__name__ in ("Problem", "BeholderError") else f"failed: {what}"
            }
        told.write(json.dumps(answer) + "\n")
        told.flush()


if __name__ == "__main__":
    serve(Rival({"transformers": Transformers, "llama.cpp": LlamaCpp}[sys.argv[1]]))
