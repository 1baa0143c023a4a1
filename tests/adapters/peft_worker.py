"""What the tests ask of the peft library, in the interpreter that has it: `peft_worker.py JOBS.json`.

A job is {"do": "open", "base", "adapter", "inputs", "out"}: scores of an adapter that we wrote; or {"do": "make", "base",
"kind", "settings", "adapter", "inputs", "out"}: an adapter that peft makes and writes, with its scores.
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def base_of(job):
    meta = json.loads(Path(job["base"], "meta.json").read_text())
    cls = getattr(transformers, meta["class_name"])
    return cls.from_pretrained(job["base"], attn_implementation="eager", dtype=torch.float32).eval()


def opened(job):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing adapter keys.*")
        warnings.filterwarnings("error", message=".*unexpected keys.*")
        return peft.PeftModel.from_pretrained(base_of(job), job["adapter"]).eval()


def made(job):
    settings = {**job["settings"], "task_type": job.get("task")}
    model = peft.get_peft_model(base_of(job), getattr(peft, job["kind"])(**settings)).eval()
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(job["adapter"])
    return model


def main():
    for job in json.loads(Path(sys.argv[1]).read_text()):
        model = {"open": opened, "make": made}[job["do"]](job)
        inputs = load_file(job["inputs"])
        with torch.no_grad():
            tensors = {"logits": model(**inputs).logits.float().contiguous()}
            if job.get("merge"):
                tensors["merged"] = model.merge_and_unload()(**inputs).logits.float().contiguous()
        save_file(tensors, job["out"])


if __name__ == "__main__":
    main()
