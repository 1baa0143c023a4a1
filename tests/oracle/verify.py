"""Reload every checkpoint of an oracle folder in a fresh process and compare with its recorded main output.

    python verify.py DIR [--only llama,clip]

This checks that files and references agree (transformers against transformers), not that transformers is right.
"""

import argparse
import json
import os
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore")

import torch
import transformers
from safetensors.torch import load_file

TOLERANCE = 1e-5
SPECIAL_CALLS = {"vilt", "vilt_vqa", "blip_2_itm", "emu3_vq"}  # not recorded with a plain forward


def largest_absolute(value):
    return value.float().nan_to_num(0, 0, 0).abs().max().item()


@torch.no_grad()
def deviation(folder, meta):
    """Largest difference from the recorded main output, relative to its largest value where that exceeds one."""
    model_class = getattr(transformers, meta["class_name"])
    attention = meta.get("attention", "eager")
    model = model_class.from_pretrained(folder, attn_implementation=attention, dtype=torch.float32).eval()
    torch.manual_seed(1234)
    outputs = model(**load_file(os.path.join(folder, "inputs.safetensors")))
    reference = load_file(os.path.join(folder, "reference.safetensors"))
    name = meta["main_output"]
    if name not in outputs:
        name = next(key for key in outputs.keys() if key in reference)
    scale = max(1.0, largest_absolute(reference[name].clamp(-1e4, 1e4)))
    return largest_absolute(outputs[name].float() - reference[name].float()) / scale


def main():
    parser = argparse.ArgumentParser(
        description="Check that saved checkpoints reproduce their recorded outputs."
    )
    parser.add_argument("dir", help="folder written by make_oracle.py")
    parser.add_argument(
        "--only", metavar="NAMES", help="comma-separated families (default: all in the folder)"
    )
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)

    names = arguments.only.split(",") if arguments.only else sorted(os.listdir(arguments.dir))
    checked, failed = 0, 0
    for name in names:
        folder = os.path.join(arguments.dir, name)
        if name in SPECIAL_CALLS:
            print(f"SKIP {name}: not recorded with a plain forward")
        if name in SPECIAL_CALLS or not os.path.exists(os.path.join(folder, "meta.json")):
            continue
        with open(os.path.join(folder, "meta.json")) as file:
            meta = json.load(file)
        checked += 1
        try:
            difference = deviation(folder, meta)
            problem = f"differs by {difference:.2e}" if not difference <= TOLERANCE else ""
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error)[:200]}"
        if problem:
            failed += 1
            print(f"FAIL {name}: {problem}")
    print(f"{checked - failed}/{checked} families reproduce their recorded output within {TOLERANCE:g}")
    return 1 if failed or not checked else 0


if __name__ == "__main__":
    raise SystemExit(main())
