"""Measures a GPU, with random weights in bf16: steps of answers, prompts, an encoder of pictures and many requests at a time,
beside transformers where that is installed.

    python tools/bench_gpu.py [--card smolvlm-256m] [--device cuda] [--rows 1 8 16] [--context 512] [--prompt 664] [--rounds 10]
                              [--out gpu.json]

Medians of interleaved rounds go to the screen and, with how they were measured, to a JSON file. `--tiny --device cpu` runs the
same on a processor in seconds, to see that it works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from beholder.bench import machine
from beholder.bench.made import byte_tokenizer
from beholder.cards import card
from beholder.engine import Engine, EngineSettings
from beholder.errors import BeholderError
from beholder.generate import steps
from beholder.generate.scheduler import Limits
from beholder.model import Batch, Model, build
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.state import State
from beholder.parts.vision.vit import ViT
from beholder.pipeline import Pipeline
from beholder.prompts import formats
from beholder.prompts.messages import user
from beholder.speed.gpu import runtime_of
from beholder.speed.graphs import FixedSteps

NEW = 32  # tokens of a round of steps
Work = Callable[[], Any]


class Bench:
    """One model on one device. figures: what was measured, name -> milliseconds, JSON-ready."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.device = options, torch.device(options.device)
        self.dtype = torch.float32 if options.tiny else torch.bfloat16
        self.figures: dict[str, dict[str, float]] = {}
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)  # drawn there, in its own type
        try:
            size = "tiny" if options.tiny else "full"
            self.model = build(card(options.card), size, device=self.device)
        finally:
            torch.set_default_dtype(before)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def measure(self, name: str, works: dict[str, Work], each: int = 1) -> None:
        """Rounds of all works in turn, after two that do not count. each: what a round's time is divided by."""
        seconds: dict[str, list[float]] = {work: [] for work in works}
        for number in range(self.options.rounds + 2):
            for work, run in works.items():
                self.wait()
                start = time.perf_counter()
                run()
                self.wait()
                if number >= 2:
                    seconds[work].append((time.perf_counter() - start) / each)
        self.figures[name] = {work: 1e3 * statistics.median(found) for work, found in seconds.items()}
        print(name, "  ".join(f"{work} {value:.3f} ms" for work, value in self.figures[name].items()))

    @torch.inference_mode()
    def read(self, rows: int) -> State:
        """A state that holds a prompt in each row."""
        context = self.options.context
        state = State(rows, capacity=context + NEW + 1)
        ids_BT = torch.arange(rows * context, device=self.device).view(rows, context) % 200 + 10
        self.model.read(Batch(ids_BT), {}, state)
        return state

    def decode(self, rows: int) -> None:
        """A step of so many rows: ordinary, of fixed shape, recorded, and recorded without the processor between steps."""
        model, works, context = self.model, dict[str, Work](), self.options.context

        def again(step: Callable[[list[int], State], Any], state: State) -> Work:
            def run() -> None:
                state.truncate([context] * rows)
                for _ in range(NEW):
                    step([7] * rows, state)

            return run

        works["ordinary"] = again(lambda ids, state: steps.advance(model, ids, state), self.read(rows))
        try:
            fixed, recorded = FixedSteps(model, recorded=False), FixedSteps.of(model)
        except BeholderError as error:
            print(error)
        else:
            for name, by in (("fixed", fixed), ("recorded", recorded)):
                state = self.read(rows)
                by.settle(state)
                works[name] = again(_settled(by), state)
            ahead = self.read(rows)
            recorded.settle(ahead)

            def run() -> None:
                ahead.truncate([context] * rows)
                recorded.settle(ahead)
                recorded.best([7] * rows, ahead, NEW)

            works["ahead"] = run
        works |= self._official_steps(rows)
        self.measure(f"step of {rows} rows behind {context} tokens", works, NEW)

    def prefill(self) -> None:
        """A prompt of text."""
        count = self.options.prompt
        ids_1T = torch.arange(count, device=self.device)[None] % 200 + 10
        works: dict[str, Work] = {
            "ours": lambda: steps.prefill(self.model, Batch(ids_1T), {}, State(1, capacity=count))
        }
        official = _official_language(self.model, self.device, self.dtype)
        if official is not None:

            @torch.inference_mode()
            def theirs() -> None:
                official(ids_1T, logits_to_keep=1)

            works["transformers"] = theirs
        self.measure(f"prompt of {count} tokens", works)

    def tower(self, pictures: int) -> None:
        """Views of one size, and of two, through the first encoder."""
        for branch in self.model.card.branches[:1]:
            encoder, config = self.model.branch(branch.name).vision, branch.encoders[0]
            if not isinstance(config, ViT):
                print(f"branch {branch.name} is a {type(config).__name__}; only a ViT is measured")
                continue
            size = config.image_size
            rows, columns = size if isinstance(size, tuple) else (size, size)
            views = [
                torch.rand(3, rows, columns, device=self.device, dtype=self.dtype) for _ in range(pictures)
            ]

            @torch.inference_mode()
            def run(encoder: Any = encoder, views: list[torch.Tensor] = views) -> None:
                encoder(views)

            works: dict[str, Work] = {"ours": run}
            official = _official_tower(config, self.device, self.dtype)
            if official is not None:

                @torch.inference_mode()
                def theirs(official: Any = official, views: list[torch.Tensor] = views) -> None:
                    official(torch.stack(views))

                works["transformers"] = theirs
            self.measure(f"encoder, {pictures} views of {rows} x {columns}", works)

    def crowd(self, requests: int) -> None:
        """Requests at once and one after the other, through the engine."""
        pipeline = Pipeline(self.model, byte_tokenizer(), chat=formats.PLAIN, runtime=runtime_of(self.model))
        asked = [[user(f"Story number {number}, told at length.")] for number in range(requests)]
        new = self.options.new
        settings = EngineSettings(Limits(rows=requests, budget=self.options.budget * 2**20), prefix_bytes=0)
        with Engine(pipeline, settings) as engine:

            def together() -> None:
                engine.answer(asked, max_tokens=new, min_tokens=new)

            def apart() -> None:
                for each in asked:
                    engine.answer([each], max_tokens=new, min_tokens=new)

            self.measure(f"{requests} requests of {new} tokens", {"together": together, "apart": apart})

    def _official_steps(self, rows: int) -> dict[str, Work]:
        """transformers' steps, with its prompt once in NEW + 1 tokens; on a GPU also with its static cache, compiled."""
        official = _official_language(self.model, self.device, self.dtype)
        if official is None:
            return {}
        context = self.options.context
        ids_BT = torch.arange(rows * context, device=self.device).view(rows, context) % 200 + 10
        limits = {"max_new_tokens": NEW + 1, "min_new_tokens": NEW + 1, "do_sample": False, "pad_token_id": 0}

        def answered(**more: Any) -> Work:
            @torch.inference_mode()
            def run() -> None:
                official.generate(ids_BT, attention_mask=torch.ones_like(ids_BT), **limits, **more)

            return run

        works = {"transformers": answered()}
        if self.device.type == "cuda":
            works["transformers static"] = answered(cache_implementation="static")
        return works


def _settled(by: FixedSteps) -> Callable[[list[int], State], Any]:
    def step(ids: list[int], state: State) -> None:
        by.settle(state)
        by.step(ids, state)

    return step


def _official_language(model: Model, device: torch.device, dtype: torch.dtype) -> Any:
    """A Llama of transformers of the same sizes; None where it is not installed or the decoder is another."""
    config = model.card.main
    attention, mlp = getattr(config, "attention", None), getattr(config, "mlp", None)
    if not isinstance(config, Decoder) or config.others or not getattr(mlp, "gated", False):
        return None
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        return None
    sizes = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.dim,
        intermediate_size=mlp.hidden,  # type: ignore[union-attr]
        num_hidden_layers=config.num_layers,
        num_attention_heads=attention.num_heads,  # type: ignore[union-attr]
        num_key_value_heads=attention.kv_heads,  # type: ignore[union-attr]
        tie_word_embeddings=config.tied,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(sizes).eval().to(device, dtype)


def _official_tower(config: ViT, device: torch.device, dtype: torch.dtype) -> Any:
    """A SigLIP encoder of transformers of the same sizes; None where it is not installed."""
    try:
        from transformers import SiglipVisionConfig, SiglipVisionModel
    except ImportError:
        return None
    size = config.image_size[0] if isinstance(config.image_size, tuple) else config.image_size
    sizes = SiglipVisionConfig(
        hidden_size=config.dim,
        intermediate_size=config.mlp.hidden,  # type: ignore[attr-defined]
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.attention.num_heads,
        image_size=size,
        patch_size=config.patch,
        attn_implementation="sdpa",
    )
    return SiglipVisionModel(sizes).eval().to(device, dtype)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--card", default="smolvlm-256m")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the card's tiny form, in float32")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--prompt", type=int, default=664)
    parser.add_argument("--pictures", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--budget", type=int, default=4096, help="MiB for what answers keep")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    bench = Bench(options)
    for rows in options.rows:
        bench.decode(rows)
    bench.prefill()
    for pictures in options.pictures:
        bench.tower(pictures)
    bench.crowd(options.requests)
    if options.out is not None:
        settings = {name: str(value) for name, value in vars(options).items() if name != "out"}
        ceilings = machine.ceilings(torch.get_num_threads(), bench.dtype, options.device)
        document = {"settings": settings, "machine": machine.describe(options.device), "ceilings": ceilings}
        document["milliseconds"] = bench.figures
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
