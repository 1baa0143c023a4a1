"""Measures transformers for `bench_beside.py`: names of measures come in, seconds go out, a line each.

Runs in a Python that has transformers; SmolLM2-135M and SmolVLM-256M's tower in bf16, random weights.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, StaticCache
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionTransformer

CONTEXT, PROMPT, STEPS = 128, 664, 8


def text_model() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).to(torch.bfloat16).eval()


def decoding(model: LlamaForCausalLM, rows: int) -> Callable[[], float]:
    """Seconds of one step of so many rows behind `CONTEXT` tokens."""
    ids = torch.arange(rows * CONTEXT).view(rows, CONTEXT) % 1000

    def measure() -> float:
        cache = DynamicCache()
        if rows > 1:
            cache = StaticCache(config=model.config, max_cache_len=CONTEXT + STEPS + 2)
        model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        token = torch.full((rows, 1), 7)
        seconds = []
        for step in range(STEPS):
            place = torch.tensor([CONTEXT + step])
            start = time.perf_counter()
            model(token, past_key_values=cache, use_cache=True, cache_position=place, logits_to_keep=1)
            seconds.append(time.perf_counter() - start)
        return sum(seconds[1:]) / (STEPS - 1)

    return measure


def timed(work: Callable[[], object]) -> Callable[[], float]:
    def measure() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return measure


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    torch.set_grad_enabled(False)
    model = text_model()
    vision = Idefics3VisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        image_size=512,
        patch_size=16,
        attn_implementation="sdpa",
    )
    tower = Idefics3VisionTransformer(vision).to(torch.bfloat16).eval()
    tile = torch.randn(1, 3, 512, 512).to(torch.bfloat16)
    prompt = torch.arange(PROMPT)[None] % 1000
    measures = {
        "batch 1": decoding(model, 1),
        "batch 8": decoding(model, 8),
        "prompt": timed(lambda: model(prompt, use_cache=True, logits_to_keep=1)),
        "tile": timed(lambda: tower(tile)),
    }
    for line in sys.stdin:
        print(measures[line.strip()](), flush=True)


if __name__ == "__main__":
    main()
