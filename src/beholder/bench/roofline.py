"""What a system's work comes to: bytes that each token reads, products of encoders and prompt; and its share of what the
machine could do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from beholder.bench.rounds import Workload
from beholder.bench.watch import messages, question
from beholder.generate.room import Room
from beholder.generate.steps import encode
from beholder.model import Model
from beholder.native.library import operations
from beholder.parts.blocks.moe import ExpertsLayer
from beholder.parts.language.decoder import DecoderModel
from beholder.parts.language.state import State
from beholder.pipeline import Pipeline
from beholder.prompts.messages import parse
from beholder.segments import read_batch
from beholder.speed.compiled import CompiledSteps
from beholder.speed.linears import PackedLinear

UNBOUND = 2**62  # bytes


def nbytes(module: nn.Module) -> int:
    """Of parameters, buffers and packed maps; what is tied counts once."""
    tensors: dict[int, Tensor] = {id(each): each for each in (*module.parameters(), *module.buffers())}
    packed = sum(each.nbytes for each in module.modules() if isinstance(each, PackedLinear))
    return packed + sum(tensor.nbytes for tensor in tensors.values())


def held_bytes(pipeline: Pipeline) -> int:
    """Of all weights, those of compiled steps with them where they are not the model's own."""
    steps = pipeline.runtime.advance
    shared = not isinstance(steps, CompiledSteps) or steps.decoder.weights.shared
    return nbytes(pipeline.model) + (0 if shared else _compiled_bytes(pipeline))


def _compiled_bytes(pipeline: Pipeline) -> int:
    steps = pipeline.runtime.advance
    return steps.decoder.nbytes if isinstance(steps, CompiledSteps) else 0


def token_bytes(pipeline: Pipeline) -> dict[str, int] | None:
    """What one more token reads: `weights`, once for all answers that go on together, and `cache`, of each token before it.
    None where no decoder writes the words. Experts that a token does not choose are left out.
    """
    language = pipeline.model.language
    if not isinstance(language, DecoderModel):
        return None
    weights = _compiled_bytes(pipeline)
    if not weights:
        idle = sum(
            matrices.nbytes * (1 - layer.config.routing.active / layer.config.num_experts)
            for layer in language.modules()
            if isinstance(layer, ExpertsLayer)
            for matrices in (layer.gate, layer.up, layer.down)
            if matrices is not None
        )
        table = 0 if language.head is None else language.embedding.weight.nbytes
        weights = nbytes(language) - table - int(idle)
    return {"weights": weights, "cache": Room(pipeline.model, UNBOUND).per_token}


@torch.inference_mode()
def products(pipeline: Pipeline, workload: Workload) -> dict[str, int] | None:
    """Operations of `vision` (encoders and connectors) and `prefill` (the prompt) of one request: of products and of attention,
    without what is hidden causally; None where the system writes no text.
    """
    model = pipeline.model
    if not isinstance(model.language, DecoderModel) or pipeline.tokenizer is None:
        return None
    text = question(pipeline.tokenizer, workload.text, 0)
    prepared = pipeline.prepare([parse(messages(workload.pictures, text))])
    batch = read_batch(pipeline.card, prepared.batch)
    with _counter() as seen, operations() as of_vision:
        features = encode(model, batch)
    with _counter() as read, operations() as of_prompt:
        model.read(batch, features, State(rows=1, capacity=workload.text))
    return {
        "vision": seen.get_total_flops() + sum(of_vision),
        "prefill": read.get_total_flops() + sum(of_prompt),
    }


def _counter() -> FlopCounterMode:
    """Counts packed maps and a processor's attention too, whose operations torch's counter does not know."""

    def packed(x_shape: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
        rows = 1
        for size in x_shape[:-1]:
            rows *= size
        return 2 * rows * int(x_shape[-1]) * int(out_shape[-1])

    def attention(
        q_shape: Any, k_shape: Any, _v: Any, _p: float = 0.0, causal: bool = False, **__: Any
    ) -> int:
        queries, keys = int(q_shape[-2]), int(k_shape[-2])
        seen = queries * keys - (queries * (queries - 1) // 2 if causal else 0)
        return 4 * int(q_shape[0]) * int(q_shape[1]) * seen * int(q_shape[-1])

    known: dict[Any, Any] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,
        torch.ops.aten._weight_int8pack_mm: packed,
        torch.ops.aten._weight_int4pack_mm_for_cpu: packed,
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        known[torch.ops.mkldnn._linear_pointwise] = packed
    return FlopCounterMode(display=False, custom_mapping=known)


def shares(row: Mapping[str, Any], ceilings: Mapping[str, Any], concurrency: int) -> dict[str, float]:
    """Of what the machine could do, from a row's `token`, `parts`, `bytes_per_token` and `operations`: decode, of reading;
    vision and prefill, of products. Only what is known is told, and only of requests that come alone: others' steps are
    between those of several.
    """
    found: dict[str, float] = {}
    if concurrency != 1:
        return found
    read, spent = row.get("bytes_per_token"), row.get("token")
    if read and spent:
        context = row["prompt_tokens"] + row["new_tokens"] / 2
        needed = read["weights"] + context * read["cache"]
        found["decode"] = needed / ceilings["read"] / spent["median"]
    for name, count in (row.get("operations") or {}).items():
        seconds = row["parts"].get(name, 0.0)
        if count and seconds > 0:
            found[name] = count / ceilings["products"] / seconds
    return found


def model_type(model: Model) -> torch.dtype:
    """The type that most of the model's weights have; packed ones compute in bfloat16 unless they are float32."""
    counts: dict[torch.dtype, int] = {}
    for module in model.modules():
        if isinstance(module, PackedLinear):
            counts[module.dtype] = counts.get(module.dtype, 0) + module.nbytes
    for parameter in model.parameters():
        if parameter.is_floating_point():
            counts[parameter.dtype] = counts.get(parameter.dtype, 0) + parameter.nbytes
    return max(counts, key=lambda dtype: counts[dtype], default=torch.float32)
