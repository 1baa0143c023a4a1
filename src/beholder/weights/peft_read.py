"""Folders that PEFT wrote, put on a model of ours. I inputs, O outputs, R rank, P prompts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from beholder.errors import UnknownName, WeightsError
from beholder.model import Model
from beholder.parts.adapters.apply import put_on
from beholder.parts.adapters.low_rank import Lora, LowRankLinear
from beholder.parts.adapters.prompts import PrefixFusion, PrefixTuning, PromptFusion, PromptTokens
from beholder.parts.adapters.scales import Scaled
from beholder.weights.files import open_weights
from beholder.weights.layout import Binding, claim_on_published, to_own
from beholder.weights.lazy import LazyTensor
from beholder.weights.peft_files import CONFIG, TENSORS, map_shapes
from beholder.weights.peft_names import KEY, OWN, PREFIX, Map, own_map

LAYERS = "languages.main.blocks.*"
LORA, SCALES, PROMPTS = "LORA", "IA3", ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING")
REFUSED = ("lora_embedding_A", "lora_embedding_B", ".lora_B.bias", ".lora_B.default.bias", "token_adapter")
ELSEWHERE = (
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
    "lora_bias",
    "alora_invocation_tokens",
)
PICKLED = "adapter_model.bin"

Modules = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Piece:
    """What one published map changes in one of our layers: s B A, and magnitudes of the rows that are True in `rows`."""

    a_RI: Tensor
    b_OR: Tensor
    scale: float
    rows: Tensor
    magnitudes_O: Tensor | None


@torch.no_grad()
def read_peft(
    model: Model, folder: Path, config: Mapping[str, Any], namings: Sequence[Sequence[Binding]]
) -> list[str]:
    """Put what a folder holds on a model, in place; gives the layers' names. namings: those of the published system's
    weights; ours are tried besides.

    Raises `WeightsError` for kinds that are not known, layers that the model lacks, and sizes that do not fit.
    """
    kind = str(config.get("peft_type"))
    if kind not in (LORA, SCALES, *PROMPTS):
        raise UnknownName(f"kind of adapter in {folder / CONFIG}", kind, (LORA, SCALES, *PROMPTS))
    for name in ELSEWHERE:
        if config.get(name):
            raise WeightsError(
                f"{folder / CONFIG}: {name} is set, which is not read; merge it with PEFT and load that"
            )
    if not (folder / TENSORS).is_file() and (folder / PICKLED).is_file():
        raise WeightsError(
            f"{folder} holds pickles; run beholder convert on {PICKLED} and name the result {TENSORS}"
        )
    tensors = open_weights(folder / TENSORS)
    if kind in PROMPTS:
        return _prompts(model, folder, kind, tensors)
    modules, rest = _by_module(folder, tensors)
    bindings, maps = _naming(model, folder, config, modules, namings)
    _check_targets(folder, config, modules)
    whole = _whole(model, folder, rest, bindings)
    read = _low_ranks if kind == LORA else _scales
    names = read(model, folder, config, modules, maps)
    for name, values in whole.items():
        parameter = model.get_parameter(name)
        parameter.copy_(values.to(parameter.dtype))
    return names


def _by_module(folder: Path, tensors: Mapping[str, LazyTensor]) -> tuple[Modules, dict[str, LazyTensor]]:
    """Adapters' tensors by published module and leaf, and the other tensors by published name."""
    modules: dict[str, dict[str, Tensor]] = defaultdict(dict)
    rest = {}
    for key, tensor in tensors.items():
        found = KEY.fullmatch(key)
        if any(mark in key for mark in REFUSED):
            raise WeightsError(
                f"{folder / TENSORS}: {key} is of a kind that is not read; merge it with PEFT and load that"
            )
        if found is not None:
            modules[found[1]][found[2]] = tensor.load(torch.float32)
        elif ".original_module." not in key:
            name = key.removeprefix(PREFIX).replace(".base_layer.", ".")
            rest[re.sub(r"\.modules_to_save(\.default)?\.", ".", name)] = tensor
    for module, leaves in modules.items():
        if ("lora_A" in leaves) != ("lora_B" in leaves):
            raise WeightsError(
                f"{folder / TENSORS}: {module} has one half of an adapter; copy the folder again"
            )
    return modules, rest


def _naming(
    model: Model,
    folder: Path,
    config: Mapping[str, Any],
    modules: Iterable[str],
    namings: Sequence[Sequence[Binding]],
) -> tuple[Sequence[Binding], dict[str, Map]]:
    """The naming under which most modules are layers of ours. Raises `WeightsError` where some are none."""
    shapes = map_shapes(model)
    best: tuple[Sequence[Binding], dict[str, Map]] = (OWN, {})
    for bindings in (*namings, OWN):
        found = {module: own_map(module, bindings, shapes) for module in modules}
        maps = {module: each for module, each in found.items() if each is not None}
        if len(maps) > len(best[1]):
            best = bindings, maps
    absent = sorted(set(modules) - best[1].keys())
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise WeightsError(
            f"{folder}: {model.card.name} has no linear layer {absent[0]}{more}; {_made_for(config)}"
        )
    return best


def _made_for(config: Mapping[str, Any]) -> str:
    base = config.get("base_model_name_or_path")
    return f"the adapter was made for {base!r}: load that first" if base else "load the model it was made for"


def _check_targets(folder: Path, config: Mapping[str, Any], modules: Modules) -> None:
    """Every target that the settings name has tensors."""
    targets = config.get("target_modules")
    for target in targets if isinstance(targets, list) else ():
        if not any(module == target or module.endswith(f".{target}") for module in modules):
            raise WeightsError(
                f"{folder / CONFIG} names the target {target}, but {TENSORS} has nothing for it; copy both again"
            )


def _low_ranks(
    model: Model, folder: Path, config: Mapping[str, Any], modules: Modules, maps: Mapping[str, Map]
) -> list[str]:
    pieces: dict[str, list[Piece]] = defaultdict(list)
    shapes = map_shapes(model)
    for module, leaves in modules.items():
        a_RI, b_OR, each = leaves["lora_A"], leaves["lora_B"], maps[module]
        rank = int(_pattern(config, "rank_pattern", module, config.get("r", 8)))
        alpha = float(_pattern(config, "alpha_pattern", module, config.get("lora_alpha", 8)))
        if a_RI.shape[0] != rank or b_OR.shape[1] != rank:
            raise WeightsError(
                f"{folder}: {module} has matrices of rank {a_RI.shape[0]} and {b_OR.shape[1]}, but {CONFIG} says {rank}"
            )
        inputs = shapes[f"{each.own[0]}.weight"][1]
        if a_RI.shape[1] != inputs or b_OR.shape[0] != len(each.rows):
            raise WeightsError(
                f"{folder}: the adapter of {module} is for {a_RI.shape[1]} inputs and {b_OR.shape[0]} outputs, the layer has "
                f"{inputs} and {len(each.rows)}; {_made_for(config)}"
            )
        scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
        lengths = leaves.get("lora_magnitude_vector")
        if bool(config.get("use_dora")) != (lengths is not None):
            raise WeightsError(
                f"{folder}: {module} and use_dora in {CONFIG} do not go together; copy both again"
            )
        own_lengths = [None] * len(each.own) if lengths is None else each.pieces(lengths.flatten())
        for number, (name, b) in enumerate(zip(each.own, each.pieces(b_OR), strict=True)):
            pieces[name].append(Piece(a_RI, b, scale, each.covers(number), own_lengths[number]))
    dropout, by_root = float(config.get("lora_dropout") or 0.0), bool(config.get("use_rslora"))
    joined = {name: _joined(parts) for name, parts in pieces.items()}
    groups: dict[tuple[int, float], list[str]] = defaultdict(list)
    for name, part in joined.items():
        groups[len(part.a_RI), part.scale].append(name)
    for (rank, scale), names in groups.items():
        alpha = scale * (rank**0.5 if by_root else rank)
        put_on(
            model,
            Lora(
                layers=tuple(names),
                rank=rank,
                alpha=alpha,
                dropout=dropout,
                by_root=by_root,
                magnitudes=bool(config.get("use_dora")),
            ),
        )
    for name, part in joined.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, LowRankLinear)
        layer.lora_a.copy_(part.a_RI)
        layer.lora_b.copy_(part.b_OR)
        if layer.lora_m is not None and part.magnitudes_O is not None:
            layer.lora_m.copy_(torch.where(part.rows, part.magnitudes_O, layer.lora_m.cpu()))
    return list(joined)


def _pattern(config: Mapping[str, Any], field: str, module: str, usual: Any) -> Any:
    """A number for one module: that of the pattern which its name ends with, as PEFT reads them."""
    patterns = config.get(field) or {}
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), usual)


def _joined(parts: Sequence[Piece]) -> Piece:
    """What several published maps change in one layer as one change, each with its own scale in B."""
    if len(parts) == 1:
        return parts[0]
    lengths_O = None
    if parts[0].magnitudes_O is not None:
        lengths_O = torch.stack(
            [part.magnitudes_O * part.rows for part in parts if part.magnitudes_O is not None]
        ).sum(0)
    a_RI = torch.cat([part.a_RI for part in parts])
    b_OR = torch.cat([part.scale * part.b_OR for part in parts], 1)
    return Piece(a_RI, b_OR, 1.0, torch.stack([part.rows for part in parts]).any(0), lengths_O)


def _scales(
    model: Model, folder: Path, config: Mapping[str, Any], modules: Modules, maps: Mapping[str, Map]
) -> list[str]:
    shapes = map_shapes(model)
    found: dict[bool, dict[str, Tensor]] = {True: {}, False: {}}
    for module, leaves in modules.items():
        factors, each = leaves["ia3_l"], maps[module]
        of_inputs = factors.shape[0] == 1 and factors.shape[1] > 1
        wanted = (1, shapes[f"{each.own[0]}.weight"][1]) if of_inputs else (len(each.rows), 1)
        if tuple(factors.shape) != wanted:
            raise WeightsError(
                f"{folder}: {module} has factors {tuple(factors.shape)}, not {wanted}; {_made_for(config)}"
            )
        own = [factors[0]] * len(each.own) if of_inputs else each.pieces(factors[:, 0])
        found[of_inputs] |= zip(each.own, own, strict=True)
    for of_inputs, layers in found.items():
        if layers:
            put_on(model, Scaled(layers=tuple(layers), inputs="*" if of_inputs else ""))
        for name, values in layers.items():
            model.get_parameter(f"{name}.ia3").copy_(values)
    return [name for layers in found.values() for name in layers]


def _prompts(model: Model, folder: Path, kind: str, tensors: Mapping[str, LazyTensor]) -> list[str]:
    if "prompt_embeddings" not in tensors:
        raise WeightsError(f"{folder / TENSORS} has no prompt_embeddings; copy the folder again")
    given = tensors["prompt_embeddings"].load(torch.float32)
    adapter = PrefixTuning if kind == "PREFIX_TUNING" else PromptTokens
    names = put_on(model, adapter(pattern=LAYERS, count=len(given)))
    (module,) = (each for each in model.adapters if isinstance(each, (PrefixFusion, PromptFusion)))
    want: list[nn.Parameter]
    if isinstance(module, PromptFusion):
        want = [module.prompt_tokens]
        pieces = [given]
    else:
        want = [
            module.get_parameter(f"layers.{number}.{leaf}")
            for number in module.layers
            for leaf in ("prefix_keys", "prefix_values")
        ]
        heads, _, channels = want[0].shape
        if given.shape[1] != len(want) * heads * channels:
            raise WeightsError(
                f"{folder}: prefixes of {given.shape[1]} values; {model.card.name} has {len(names)} layers, "
                f"{heads} heads of {channels} channels: {len(want) * heads * channels}"
            )
        pieces = list(given.view(len(given), len(want), heads, channels).permute(1, 2, 0, 3))
    for parameter, values in zip(want, pieces, strict=True):
        if parameter.shape != values.shape:
            raise WeightsError(
                f"{folder}: prompts of {values.shape[-1]} channels; {model.card.name} has {parameter.shape[-1]}"
            )
        parameter.copy_(values)
    return names


def _whole(
    model: Model, folder: Path, rest: Mapping[str, LazyTensor], bindings: Sequence[Binding]
) -> dict[str, Tensor]:
    """Modules that were trained as a whole, and biases, under our names."""
    if not rest:
        return {}
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    reached = {key: _owned(key, bindings, shapes) for key in rest}
    unknown = sorted(key for key, names in reached.items() if not names)
    if unknown:
        raise WeightsError(
            f"{folder / TENSORS}: {model.card.name} has no parameter {unknown[0]} ({len(unknown)} such)"
        )
    wanted = {name: shapes[name] for names in reached.values() for name in names}
    return {name: tensor.load(torch.float32) for name, tensor in to_own(rest, bindings, wanted).items()}


def _owned(key: str, bindings: Sequence[Binding], shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    claim = claim_on_published(key, bindings)
    return () if claim is None or any(name not in shapes for name in claim.own) else claim.own
