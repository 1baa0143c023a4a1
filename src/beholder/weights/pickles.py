"""Checkpoints that are pickles (`.pth`, `.pt`, `.bin`, `.ckpt`) to safetensors, in a child process that can load nothing but
tensors. Nothing else in the library reads a pickle.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from beholder.errors import BeholderError, WeightsError
from beholder.files import atomic_folder

if TYPE_CHECKING:
    from torch import Tensor

SECONDS = 600  # for a file, and one more for every so many bytes
BYTES_A_SECOND = 20_000_000
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # where checkpoints hold their state dict
TENSOR = "tensor"  # the name of a tensor that is all that a file holds
PICKLE_INDEX = re.compile(r"(.+)\.(bin|pth|pt)\.index\.json")
# What training leaves beside weights
OF_TRAINING = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state).*|.*_optim_states.*")
COPIED = {".json", ".model", ".txt", ".jinja", ".tiktoken", ".yaml", ".yml", ".safetensors"}


class Converted(NamedTuple):
    """A pickle that was converted: its digest and size, how many tensors it held, and the keys beside them that were left."""

    source: Path
    target: Path
    sha256: str
    size: int
    tensors: int
    left_out: tuple[str, ...]


def convert_pickle(path: str | Path, sha256: str, target: str | Path) -> Path:
    """`tensors_of_pickle` of a file that must have the digest that its card names; raises `WeightsError` for another."""
    from beholder.packages import sha256_of

    got = sha256_of(Path(path))
    if got != sha256:
        raise WeightsError(f"{path} has sha256 {got}, expected {sha256}; it was not opened")
    return tensors_of_pickle(path, target).target


def tensors_of_pickle(path: str | Path, target: str | Path) -> Converted:
    """Write the tensors of the pickle `path` to the safetensors file `target`: those of the state dict under `state_dict`,
    `model_state_dict`, `model` or `module` where there is one, dicts in dicts joined by dots.

    Raises `WeightsError` for a file that holds anything but tensors there, or objects anywhere.
    """
    from beholder.packages import sha256_of

    path, target = Path(path), Path(target)
    digest, size = sha256_of(path), path.stat().st_size
    command = [sys.executable, "-m", "beholder.weights.pickles", str(path), str(target)]
    seconds = SECONDS + size // BYTES_A_SECOND
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise WeightsError(f"{path}: not converted within {seconds} seconds") from None
    if done.returncode:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise WeightsError(f"{path}: cannot be converted ({reason})")
    told = json.loads(done.stdout.splitlines()[-1])
    return Converted(path, target, digest, size, told["tensors"], tuple(told["left_out"]))


def convert_folder(
    source: str | Path, target: str | Path, *, tell: Callable[[Path], None] | None = None
) -> list[Converted]:
    """Write a folder like `source` with its pickles as safetensors, under their names but for the ending; settings and
    tokenizers are copied, and folders inside likewise. tell: is told of each file before it is opened.

    Raises `WeightsError` where there is no pickle, and as `tensors_of_pickle` does; then nothing is written.
    """
    source = Path(source)
    found: list[Converted] = []
    with atomic_folder(target) as temporary:
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            written = temporary / path.relative_to(source)
            if _is_weights(path):
                if tell is not None:
                    tell(path)
                written.parent.mkdir(parents=True, exist_ok=True)
                found.append(tensors_of_pickle(path, written.with_suffix(".safetensors")))
            elif path.suffix in COPIED:
                written.parent.mkdir(parents=True, exist_ok=True)
                _copy(path, written)
        if not found:
            raise WeightsError(f"{source}: holds no pickles to convert; name a folder with .bin, .pth or .pt")
    return [each._replace(target=Path(target) / each.target.relative_to(temporary)) for each in found]


def _is_weights(path: Path) -> bool:
    from beholder.weights.files import PICKLES

    return path.suffix in PICKLES and OF_TRAINING.fullmatch(path.name) is None


def _copy(path: Path, target: Path) -> None:
    """A file that is no pickle; an index of pickles becomes one of what they are converted to."""
    index = PICKLE_INDEX.fullmatch(path.name)
    if index is None:
        shutil.copyfile(path, target)
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {
            key: Path(name).with_suffix(".safetensors").name for key, name in content["weight_map"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise WeightsError(f"{path}: not an index of shards (no weight_map); download it again") from None
    text = json.dumps({**content, "weight_map": names}, indent=2) + "\n"
    (target.parent / f"{index[1]}.safetensors.index.json").write_text(text, encoding="utf-8")


def state_of(loaded: Any) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a loaded checkpoint by name (`tensor` where it is one alone), and the keys beside its state dict. Raises
    `BeholderError` for what is no state dict, naming what is in the way.
    """
    import torch

    state, left_out = loaded, []
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            left_out += [str(key) for key in state if key != wrapper]
            state = state[wrapper]
    if isinstance(state, torch.Tensor):
        return {TENSOR: state}, left_out
    if not isinstance(state, dict):
        raise BeholderError(f"it is not a state dict: names with tensors, but a {type(state).__name__}")
    tensors = dict(_flat(state, ""))
    others = [name for name, value in tensors.items() if not isinstance(value, torch.Tensor)]
    if others:
        what = ", ".join(f"{name} is a {type(tensors[name]).__name__}" for name in others[:3])
        raise BeholderError(f"it is not a state dict: names with tensors, but {what}")
    return tensors, left_out


def _flat(state: dict[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in state.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, name + ".")
        else:
            yield name, value


def main(source: str, target: str) -> None:
    """The child: read a state dict with `weights_only`, write it as safetensors, and tell what there was."""
    import pickle
    import zipfile

    import torch

    from beholder.weights.files import write_safetensors

    mapped = zipfile.is_zipfile(source)  # torch maps its newer files, and reads older ones whole
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, LookupError, TypeError) as error:
        what = re.search(r"GLOBAL (\S+)", str(error))
        if what:
            raise SystemExit(f"it holds {what[1]}, which is no tensor and may run code") from None
        (said, *_) = str(error).splitlines() or [type(error).__name__]
        raise SystemExit(f"it is damaged, or holds more than tensors: {said}") from None
    try:
        tensors, left_out = state_of(loaded)
        write_safetensors(target, tensors)
    except BeholderError as error:
        raise SystemExit(str(error)) from None
    sys.stdout.write(json.dumps({"tensors": len(tensors), "left_out": left_out}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
