"""One checksummed `.pth` state dict to safetensors, in a child process that can load nothing but tensors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from beholder.errors import WeightsError

SECONDS = 600


def convert_pickle(path: str | Path, sha256: str, target: str | Path) -> Path:
    """Write the tensors of the pickle `path` to the safetensors file `target`; only `pull` does this.

    The file must have the digest that its card names. Raises `WeightsError` for another digest, or a file
    that holds more than a state dict.
    """
    from beholder.packages import sha256_of

    path, target = Path(path), Path(target)
    got = sha256_of(path)
    if got != sha256:
        raise WeightsError(f"{path} has sha256 {got}, expected {sha256}; it was not opened")
    command = [sys.executable, "-m", "beholder.weights.pickles", str(path), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise WeightsError(f"{path}: not converted within {SECONDS} seconds") from None
    if done.returncode:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise WeightsError(f"{path}: cannot be converted ({reason})")
    return target


def main(source: str, target: str) -> None:
    """The child: read a state dict with `weights_only`, write it as safetensors."""
    import torch

    from beholder.weights.files import write_safetensors

    state = torch.load(source, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise SystemExit("it is not a state dict: names with tensors")
    write_safetensors(target, state)


if __name__ == "__main__":
    main(*sys.argv[1:])
