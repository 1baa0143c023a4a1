"""Parity oracle: tiny random-weight checkpoints in the Hugging Face layout, with recorded reference outputs.

    python make_oracle.py --out DIR [--only llama,clip] [--group vlm,vision] [--seed N] [--skip-done]
    python make_oracle.py --list

Writes one folder per family; README.md says what is in it. Needs the packages of requirements.txt.
"""

import argparse
import gc
import json
import os
import time
import traceback
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore")

import torch
import transformers

import families  # noqa: F401  (registers the families)
from core import FAMILIES
from recording import make_images, record_family, save_json


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Write tiny random-weight Hugging Face checkpoints and their reference outputs."
    )
    parser.add_argument("--out", metavar="DIR", help="folder to write to; one sub-folder per family")
    parser.add_argument("--only", metavar="NAMES", help="comma-separated families (default: all)")
    parser.add_argument("--group", metavar="GROUPS", help="comma-separated groups, e.g. vlm,vision")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and inputs (default: 0)")
    parser.add_argument(
        "--skip-done", action="store_true", help="skip families whose folder is already complete"
    )
    parser.add_argument("--list", action="store_true", help="print the families and their groups, and stop")
    arguments = parser.parse_args()
    if not arguments.list and not arguments.out:
        parser.error("--out is required")
    return arguments


def selected_families(arguments):
    names = arguments.only.split(",") if arguments.only else list(FAMILIES)
    unknown = [name for name in names if name not in FAMILIES]
    if unknown:
        raise SystemExit("unknown families: " + ", ".join(unknown))
    if arguments.group:
        groups = arguments.group.split(",")
        names = [name for name in names if FAMILIES[name]["group"] in groups]
    return names


def is_done(folder):
    try:
        with open(os.path.join(folder, "meta.json")) as file:
            return json.load(file)["status"] == "OK"
    except (OSError, ValueError, KeyError):
        return False


def record_or_report(name, seed, out):
    try:
        return record_family(name, seed, out)
    except Exception as error:
        meta = dict(
            family=name,
            group=FAMILIES[name]["group"],
            status="FAIL",
            notes=[f"{type(error).__name__}: {str(error)[:300]}", traceback.format_exc()[-1500:]],
        )
        folder = os.path.join(out, name)
        os.makedirs(folder, exist_ok=True)
        save_json(meta, os.path.join(folder, "meta.json"))
        return meta


def summary(meta):
    fields = [
        "time_s",
        "reload_max_diff",
        "gen_margin",
        "preprocess",
        "processor",
        "missing",
        "unexpected",
        "notes",
    ]
    return " ".join(f"{key}={meta[key]}" for key in fields if meta.get(key) not in (None, []))


def main():
    arguments = parse_arguments()
    if arguments.list:
        for name, entry in FAMILIES.items():
            print(f"{name}\t{entry['group']}")
        return 0
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)

    images_folder = os.path.join(arguments.out, "_images")
    os.makedirs(images_folder, exist_ok=True)
    for index, image in enumerate(make_images()):
        image.save(os.path.join(images_folder, f"{index}.png"))

    start = time.time()
    names = selected_families(arguments)
    succeeded = 0
    for name in names:
        if arguments.skip_done and is_done(os.path.join(arguments.out, name)):
            succeeded += 1
            continue
        meta = record_or_report(name, arguments.seed, arguments.out)
        succeeded += meta["status"] == "OK"
        print(f"{meta['status']:5s} {name:28s} {summary(meta)}", flush=True)
        gc.collect()
    print(f"{succeeded}/{len(names)} OK in {time.time() - start:.0f}s")
    return 0 if succeeded == len(names) else 1


if __name__ == "__main__":
    raise SystemExit(main())
