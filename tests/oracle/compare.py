"""Compare tensors computed by a library under test with the recorded references of one family.

    python compare.py FAMILY_DIR TENSORS.safetensors [--map MAP.json] [--tolerance 1e-4] [--only PREFIX,...]
    python compare.py FAMILY_DIR --list

TENSORS.safetensors holds the library's tensors, computed from FAMILY_DIR's checkpoint and inputs.safetensors.
Name them like the tensors of FAMILY_DIR/reference.safetensors (`--list` prints those), e.g. `logits`,
`hidden_states.2`, `hook/model.vision_tower`, `layer/model.layers.0`, `gen/new_ids`. Where the names differ, give
a JSON object {library's name: reference name} with --map; names it does not mention are taken as they are.
Write the file with safetensors.torch.save_file or safetensors.numpy.save_file (bfloat16: torch only).

For every tensor this prints the largest absolute difference and that difference divided by the reference
tensor's standard deviation. Float tensors pass when the latter is within the tolerance; integer and boolean
tensors must be equal. Infinite or NaN values must sit at the same places. Tensors whose leading dimensions are
(batch, length) of an attention mask in inputs.safetensors are compared at unmasked positions only (--no-mask:
everywhere): `encoder*` and `hook/`, `layer/` tensors on the way of the encoder use `attention_mask`, and tensors
of the decoder in encoder-decoder models use `decoder_attention_mask`, where present. A reference whose standard
deviation is zero is compared with the tolerance as absolute bound.

The same functions can be imported: `compare_family(folder, {name: array})` returns a list of `Result`.

Exit status: 0 all within tolerance, 1 a difference beyond it (or a wrong shape, or nothing compared), 2 usage.
"""

import argparse
import json
import os
import sys
from dataclasses import dataclass

import numpy as np

DEFAULT_TOLERANCE = 1e-4


@dataclass
class Result:
    name: str
    shape: tuple
    max_abs: float
    relative: float  # max_abs / std of the reference; 0 or inf for integer tensors
    masked: int  # positions left out because they are padding
    problem: str = ""

    def passes(self, tolerance):
        return not self.problem and self.relative <= tolerance


def load(path):
    """name -> numpy array; 16-bit floats are widened to 32 bits."""
    try:
        from safetensors.torch import load_file
    except ImportError:
        from safetensors.numpy import load_file

        return load_file(path)
    import torch

    widened = (torch.bfloat16, torch.float16)
    return {name: (x.float() if x.dtype in widened else x).numpy() for name, x in load_file(path).items()}


def as_array(value):
    """A numpy array from an array or a torch tensor."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if "float" in str(value.dtype) else value).numpy()
    return np.asarray(value)


def padding_mask(name, shape, inputs):
    """The boolean (batch, length) mask of valid positions that applies to a tensor, or None."""
    if name.startswith("gen/"):
        return None  # generated ids and logits have no padding
    has_decoder = "decoder_input_ids" in inputs
    of_encoder = "encoder" in name.replace("decoder", "")
    keys = ["attention_mask"]
    if has_decoder and not of_encoder:
        keys = ["decoder_attention_mask"]
    for key in keys:
        mask = inputs.get(key)
        if mask is not None and mask.ndim == 2 and len(shape) >= 2 and tuple(shape[:2]) == mask.shape:
            mask = mask.astype(bool)
            return None if mask.all() else mask
    return None


def compare(name, actual, expected, mask=None):
    actual, expected = as_array(actual), as_array(expected)
    if actual.shape != expected.shape:
        return Result(
            name, expected.shape, np.inf, np.inf, 0, f"shape {actual.shape}, expected {expected.shape}"
        )
    shape, masked = expected.shape, 0
    if mask is not None:
        actual, expected, masked = actual[mask], expected[mask], int((~mask).sum())
    if expected.dtype.kind in "iub":
        different = int(np.count_nonzero(actual != expected))
        problem = f"{different} of {expected.size} values differ" if different else ""
        largest = np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0)
        return Result(name, shape, float(largest), np.inf if different else 0.0, masked, problem)
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    same_elsewhere = np.array_equal(actual[~finite], expected[~finite], equal_nan=True)
    if not same_elsewhere or not np.isfinite(actual[finite]).all():
        return Result(name, shape, np.inf, np.inf, masked, "infinite or NaN values at other places")
    largest = float(np.abs(actual[finite] - expected[finite]).max(initial=0.0))
    std = float(expected[finite].std()) if finite.any() else 0.0
    return Result(name, shape, largest, largest / std if std > 0 else largest, masked)


def compare_family(folder, tensors, name_map=None, use_mask=True):
    """Results for every tensor of `tensors` (name -> numpy or torch array), named as in the reference."""
    reference = load(os.path.join(folder, "reference.safetensors"))
    inputs = load(os.path.join(folder, "inputs.safetensors"))
    results = []
    for own_name, actual in tensors.items():
        name = (name_map or {}).get(own_name, own_name)
        if name not in reference:
            results.append(Result(name, (), np.inf, np.inf, 0, "no such reference tensor"))
            continue
        expected = reference[name]
        mask = padding_mask(name, expected.shape, inputs) if use_mask else None
        results.append(compare(name, actual, expected, mask))
    return results


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="The format of the files is described at the top of this script.",
    )
    parser.add_argument("family_dir", help="family folder written by make_oracle.py")
    parser.add_argument("tensors", nargs="?", help="safetensors file written by the library under test")
    parser.add_argument("--map", metavar="JSON", help="file with {library's tensor name: reference name}")
    parser.add_argument("--tolerance", type=float, default=DEFAULT_TOLERANCE, help="default: %(default)s")
    parser.add_argument("--only", metavar="PREFIXES", help="compare only reference names with these prefixes")
    parser.add_argument("--no-mask", action="store_true", help="compare padded positions as well")
    parser.add_argument("--list", action="store_true", help="print the reference tensors and stop")
    arguments = parser.parse_args()

    if arguments.list:
        for name, value in load(os.path.join(arguments.family_dir, "reference.safetensors")).items():
            print(f"{name}\t{value.dtype}\t{list(value.shape)}")
        return 0
    if not arguments.tensors:
        parser.error("the library's safetensors file is required")

    name_map = {}
    if arguments.map:
        with open(arguments.map) as file:
            name_map = json.load(file)
    results = compare_family(arguments.family_dir, load(arguments.tensors), name_map, not arguments.no_mask)
    if arguments.only:
        results = [result for result in results if result.name.startswith(tuple(arguments.only.split(",")))]
    failed = 0
    for result in results:
        ok = result.passes(arguments.tolerance)
        failed += not ok
        masked = f" ({result.masked} padded positions left out)" if result.masked else ""
        print(
            f"{'ok  ' if ok else 'FAIL'} {result.name} {list(result.shape)} max_abs={result.max_abs:.3e} "
            f"relative={result.relative:.3e}{masked} {result.problem}".rstrip()
        )
    print(f"{len(results) - failed}/{len(results)} within {arguments.tolerance:g}")
    return 0 if results and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
