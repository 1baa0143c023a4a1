"""What layouts are written with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from beholder.weights.ops import Op, Pointwise, Split

Rules = dict[str, str | Op | None]
QKV = ("q", "k", "v")


def affine(pairs: dict[str, str]) -> Rules:
    """Rules for the weight and the bias of each named module: published name -> ours."""
    return {f"{key}.{leaf}": f"{own}.{leaf}" for key, own in pairs.items() for leaf in ("weight", "bias")}


def joined(key: str, own: str, parts: tuple[str, ...] = QKV, *, groups: int | str = 1) -> Rules:
    """Rules for maps published as one, `key` followed by `weight` and `bias`, and ours by parts."""
    return {
        f"{key}{leaf}": Split(tuple(f"{own}.{part}.{leaf}" for part in parts), groups=groups)
        for leaf in ("weight", "bias")
    }


def pointwise(pairs: Mapping[str, str]) -> Rules:
    """Rules for affine maps published as convolutions of one cell: published name -> ours."""
    rules: Rules = {f"{key}.weight": Pointwise(f"{own}.weight") for key, own in pairs.items()}
    return rules | {f"{key}.bias": f"{own}.bias" for key, own in pairs.items()}


def inside(rules: Mapping[str, str | Op | None], prefix: str, own: str) -> Rules:
    """The rules of a part that another part holds: `prefix` goes before published names, `own` before ours."""
    return {prefix + key: None if op is None else _moved(op, own) for key, op in rules.items()}


def _moved(op: Any, own: str) -> Any:
    """`op` with `own` before its names."""
    if isinstance(op, str):
        return own + op
    if isinstance(op, Split):
        return replace(op, into=tuple(_moved(piece, own) for piece in op.into))
    return replace(op, target=_moved(op.target, own))


def conv_norms(pairs: dict[str, tuple[str, str]], *, counted: bool = False) -> Rules:
    """Rules for convolutions with the batch norms behind them: own name -> (convolution, norm). counted: the number of
    training batches is kept, else dropped.
    """
    rules: Rules = {}
    for own, (convolution, norm) in pairs.items():
        rules[f"{convolution}.weight"] = f"{own}.weight"
        for leaf, own_leaf in (
            ("weight", "scale"),
            ("bias", "bias"),
            ("running_mean", "mean"),
            ("running_var", "var"),
        ):
            rules[f"{norm}.{leaf}"] = f"{own}.{own_leaf}"
        rules[f"{norm}.num_batches_tracked"] = f"{own}.count" if counted else None
    return rules
