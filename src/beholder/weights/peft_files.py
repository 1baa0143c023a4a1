"""Adapters in PEFT's form: `adapter_config.json` and `adapter_model.safetensors`, under names of the published model's modules.

LoRA with its scale, rsLoRA and DoRA, (IA)3, prompts and prefixes, and modules that were trained as a whole. I inputs,
O outputs, R rank, P prompts.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from beholder.errors import BeholderError, WeightsError
from beholder.files import atomic_folder
from beholder.model import Model
from beholder.parts.adapters.apply import adapters, linear_maps
from beholder.parts.adapters.low_rank import LowRankLinear
from beholder.parts.adapters.prompts import PrefixFusion, PromptFusion
from beholder.parts.adapters.scales import ScaledLinear
from beholder.weights.files import write_safetensors
from beholder.weights.layout import Binding, to_published
from beholder.weights.peft_names import OWN, PREFIX, Map, published_maps

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
Settings = dict[str, Any]


def write_peft(
    folder: str | Path,
    model: Model,
    *,
    bindings: Sequence[Binding] | None,
    base: str = "",
    also: Sequence[str] = (),
) -> Path:
    """Write a model's adapters. bindings: the naming of the published modules, ours where None. base: the published model's
    name or folder. also: patterns of parameters that were trained themselves.

    Raises `BeholderError` for kinds that PEFT does not know, and several at once.
    """
    config, tensors = _contents(model, bindings or OWN)
    if also:
        more, saved = _whole(model, bindings or OWN, also)
        tensors |= saved
        config |= more
    config |= {"base_model_name_or_path": base, "inference_mode": True, "revision": None}
    files = {CONFIG, TENSORS, "README.md"}

    def is_adapter(existing: Path) -> bool:
        return (existing / CONFIG).is_file() and {path.name for path in existing.iterdir()} <= files

    with atomic_folder(Path(folder), is_adapter) as target:
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (target / CONFIG).write_text(text, encoding="utf-8")
        write_safetensors(target / TENSORS, tensors, {"format": "pt"})
    return Path(folder)


def _contents(model: Model, bindings: Sequence[Binding]) -> tuple[Settings, dict[str, Tensor]]:
    kinds = {layer.kind for layer in adapters(model).values()} | {adapter.kind for adapter in model.standing}
    if not kinds:
        raise BeholderError(f"{model.card.name} has no adapters to save; save the model itself")
    if len(kinds) > 1:
        raise BeholderError(
            f"PEFT keeps one kind of adapter in a folder, not {', '.join(sorted(kinds))}; use form='own'"
        )
    (kind,) = kinds
    if kind == "lora":
        return _low_ranks(model, bindings)
    if kind == "ia3":
        return _scales(model, bindings)
    for module in model.adapters:
        if isinstance(module, (PromptFusion, PrefixFusion)):
            return _prompts(model, module)
    raise BeholderError(f"PEFT has no {kind} adapters of this form; use form='own'")


def map_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Of every weight that a layout may speak of, those of packed maps too."""
    maps: dict[str, Any] = linear_maps(model)
    return {f"{name}.weight": (each.out_features, each.in_features) for name, each in maps.items()}


def _maps(model: Model, bindings: Sequence[Binding]) -> list[Map]:
    """The published maps that any adapted layer is in, each once."""
    found: dict[str, Map] = {}
    shapes = map_shapes(model)
    for name in adapters(model):
        for each in published_maps(name, bindings, shapes):
            found.setdefault(each.module, each)
    return list(found.values())


def _low_ranks(model: Model, bindings: Sequence[Binding]) -> tuple[Settings, dict[str, Tensor]]:
    layers = {name: layer for name, layer in adapters(model).items() if isinstance(layer, LowRankLinear)}
    by_root = all(layer.config.by_root for layer in layers.values())
    with_lengths = {layer.lora_m is not None for layer in layers.values()}
    if len(with_lengths) > 1:
        raise BeholderError("PEFT keeps adapters with magnitudes (DoRA) and without apart; use form='own'")
    (magnitudes,) = with_lengths
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, float] = {}
    alphas: dict[str, float] = {}
    turned = False
    for each in _maps(model, bindings):
        own = [layers.get(name) for name in each.own]
        scales = {layer.scaling for layer in own if layer is not None}
        scale = scales.pop() if len(scales) == 1 else 1.0
        a_RI, b_OR = _joined(each, own, folded=scale == 1.0)
        rank = len(a_RI)
        ranks[each.module] = rank
        alphas[each.module] = scale * (math.sqrt(rank) if by_root else rank)
        tensors[f"{PREFIX}{each.module}.lora_A.weight"] = a_RI
        tensors[f"{PREFIX}{each.module}.lora_B.weight"] = each.published(b_OR).contiguous()
        turned = turned or each.turned
        if magnitudes:
            tensors[f"{PREFIX}{each.module}.lora_magnitude_vector"] = each.published(
                _lengths(model, each, own)
            )
    usual, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    dropouts = {layer.config.dropout for layer in layers.values()}
    config = {
        "peft_type": "LORA",
        "target_modules": sorted(ranks),
        "r": int(usual),
        "lora_alpha": _number(alpha),
        "rank_pattern": {re.escape(name): int(value) for name, value in ranks.items() if value != usual},
        "alpha_pattern": {
            re.escape(name): _number(value) for name, value in alphas.items() if value != alpha
        },
        "lora_dropout": max(dropouts),
        "use_rslora": by_root,
        "use_dora": magnitudes,
        "fan_in_fan_out": turned,
        "bias": "none",
        "modules_to_save": None,
        "task_type": None,
    }
    return config, tensors


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _joined(each: Map, own: Sequence[LowRankLinear | None], *, folded: bool) -> tuple[Tensor, Tensor]:
    """A and B of several of our layers as those of one map: ranks follow each other, and each acts on its layer's rows."""
    present = [layer for layer in own if layer is not None]
    a_RI = torch.cat([layer.lora_a.detach().float().cpu() for layer in present])
    b_OR = torch.zeros(sum(each.counts), len(a_RI))
    row = column = 0
    for layer, count in zip(own, each.counts, strict=True):
        if layer is not None:
            rank, scale = len(layer.lora_a), layer.scaling if folded else 1.0
            b_OR[row : row + count, column : column + rank] = layer.lora_b.detach().float().cpu() * scale
            column += rank
        row += count
    return a_RI.contiguous(), b_OR


def _lengths(model: Model, each: Map, own: Sequence[LowRankLinear | None]) -> Tensor:
    """DoRA's magnitudes of all rows; of layers without an adapter those that change nothing."""
    found = []
    for name, layer in zip(each.own, own, strict=True):
        if layer is not None and layer.lora_m is not None:
            found.append(layer.lora_m.detach().float().cpu())
        else:
            weight: Any = model.get_submodule(name).weight
            found.append(weight.detach().float().cpu().norm(dim=1))
    return torch.cat(found)


def _scales(model: Model, bindings: Sequence[Binding]) -> tuple[Settings, dict[str, Tensor]]:
    layers, tensors, of_inputs, turned = adapters(model), {}, [], False
    maps = _maps(model, bindings)
    for each in maps:
        own = [layers.get(name) for name in each.own]
        whole = [layer for layer in own if isinstance(layer, ScaledLinear)]
        inputs = {layer.of_inputs for layer in whole}
        if True in inputs and (len(each.own) > 1 or len(each.rows) < sum(each.counts)):
            raise WeightsError(
                f"{each.module} is several maps of ours whose inputs are scaled apart; use form='own'"
            )
        if True in inputs:
            of_inputs.append(each.module)
            tensors[f"{PREFIX}{each.module}.ia3_l"] = whole[0].ia3.detach().float()[None].contiguous()
        else:
            factors = [
                torch.ones(count) if not isinstance(layer, ScaledLinear) else layer.ia3.detach().float().cpu()
                for layer, count in zip(own, each.counts, strict=True)
            ]
            tensors[f"{PREFIX}{each.module}.ia3_l"] = each.published(torch.cat(factors))[:, None].contiguous()
        turned = turned or each.turned
    config = {
        "peft_type": "IA3",
        "target_modules": sorted(each.module for each in maps),
        "feedforward_modules": sorted(of_inputs),
        "fan_in_fan_out": turned,
        "modules_to_save": None,
        "task_type": None,
    }
    return config, tensors


@torch.no_grad()
def _prompts(model: Model, module: PromptFusion | PrefixFusion) -> tuple[Settings, dict[str, Tensor]]:
    """What stands in front of words; what makes it while training is not kept."""
    main: Any = model.card.main
    if isinstance(module, PromptFusion):
        tokens = module.tokens().float()
        heads, width = main.layers[0].mixer.num_heads, tokens.shape[1]
        config: Settings = {"peft_type": "PROMPT_TUNING", "prompt_tuning_init": "RANDOM"}
    else:
        given = module.keys_values()
        if len(given) < main.num_layers or len({keys.shape for keys, _ in given}) > 1:
            raise BeholderError("PEFT's prefixes stand in all layers and have one size; use form='own'")
        both_L2JPK = torch.stack([torch.stack(pair) for pair in given]).float()
        tokens = both_L2JPK.permute(3, 0, 1, 2, 4).flatten(1)
        heads, width = both_L2JPK.shape[2], both_L2JPK.shape[2] * both_L2JPK.shape[4]
        config = {"peft_type": "PREFIX_TUNING", "prefix_projection": False, "encoder_hidden_size": width}
    config |= {
        "num_virtual_tokens": len(tokens),
        "token_dim": width,
        "num_attention_heads": heads,
        "num_layers": main.num_layers,
        "num_transformer_submodules": 1,
        "task_type": "CAUSAL_LM",
    }
    return config, {"prompt_embeddings": tokens.contiguous()}


def _whole(
    model: Model, bindings: Sequence[Binding], also: Sequence[str]
) -> tuple[Settings, dict[str, Tensor]]:
    """Parameters that were trained themselves, with all others of their modules, as PEFT keeps modules whole; biases alone."""
    state = {name: parameter.detach() for name, parameter in model.named_parameters()}
    chosen = {name for name in state if any(fnmatchcase(name, pattern) for pattern in also)}
    chosen -= {f"{layer}.{leaf}" for layer, each in adapters(model).items() for leaf in each.leaves}
    if not chosen:
        raise BeholderError(f"no parameter matches {', '.join(map(repr, also))}; correct also=")
    adapted = adapters(model)
    if all(name.endswith(".bias") for name in chosen):
        published = to_published({name: state[name] for name in chosen}, bindings)
        inside = {each.module for each in _maps(model, bindings)}
        keys = {key: key.removesuffix("bias") + "base_layer.bias" for key in published if key[:-5] in inside}
        saved = {PREFIX + keys.get(key, key): tensor.load().contiguous() for key, tensor in published.items()}
        return {"bias": "all"}, saved
    owners = {name.rpartition(".")[0] for name in chosen}
    both = sorted(owners & adapted.keys())
    if both:
        raise BeholderError(
            f"{both[0]} has an adapter and was trained itself; PEFT keeps one of both, use form='own'"
        )
    whole = {name: value for name, value in state.items() if name.rpartition(".")[0] in owners}
    published = to_published(whole, bindings)
    alone = [key for key in published if key.rpartition(".")[2] not in ("weight", "bias")]
    if alone:
        raise BeholderError(
            f"{alone[0]} is no module's weight or bias, which PEFT cannot keep alone; use form='own'"
        )
    modules = sorted({key.rpartition(".")[0] for key in published})
    return {"modules_to_save": modules}, {
        PREFIX + key: tensor.load().contiguous() for key, tensor in published.items()
    }
