"""Trains a small LLaVA with transformers for `bench_train.py`: batches' names come in, a line of JSON goes out for each step.

    PYTHON_WITH_TRANSFORMERS official_trainer.py FOLDER THREADS

First writes the model, random weights, into FOLDER/model and prints `ready`; the batches are read from FOLDER/batches.pt
when the first is asked for.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

PICTURE = 5  # the token that stands for features


def small_llava() -> LlavaForConditionalGeneration:
    """30 million parameters: 12 layers of 256 over 64 patches of a picture of 128 x 128, 6 of 384 over 24,000 words."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=12,
        num_attention_heads=4,
        image_size=128,
        patch_size=16,
    )
    text = LlamaConfig(
        vocab_size=24000,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=PICTURE,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=64,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    return LlavaForConditionalGeneration(config)


class Trainer:
    """One optimizer step after the other."""

    def __init__(
        self, model: LlavaForConditionalGeneration, batches: dict[str, list[tuple[torch.Tensor, ...]]]
    ) -> None:
        self.model, self.batches = model.train(), batches
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(self, name: str) -> dict[str, float]:
        began, used = time.perf_counter(), time.process_time()
        total = 0.0
        pieces = self.batches[name]
        for ids_BT, mask_BT, labels_BT, pixels in pieces:
            with torch.autocast("cpu", torch.bfloat16):
                loss = self.model(
                    input_ids=ids_BT,
                    attention_mask=mask_BT,
                    labels=labels_BT,
                    pixel_values=pixels,
                    use_cache=False,
                ).loss
            (loss / len(pieces)).backward()
            total += float(loss) / len(pieces)
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {
            "seconds": time.perf_counter() - began,
            "cpu": time.process_time() - used,
            "loss": total,
            "norm": norm,
        }


def main() -> None:
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    model = small_llava()
    model.save_pretrained(folder / "model")
    print("ready", flush=True)
    del model
    trainers: dict[str, Trainer] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in trainers:  # each from the same weights
            model = LlavaForConditionalGeneration.from_pretrained(
                folder / "model", attn_implementation="sdpa"
            )
            trainers = {name: Trainer(model, torch.load(folder / "batches.pt"))}
        print(json.dumps(trainers[name].step(name)), flush=True)


if __name__ == "__main__":
    main()
