"""StripedHyena against its equations, under the names and shapes of togethercomputer/stripedhyena."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from beholder.model import Batch
from beholder.pipeline import load

STRIPED = {
    "model_type": "stripedhyena",
    "vocab_size": 40,
    "hidden_size": 16,
    "inner_mlp_size": 24,
    "num_layers": 3,
    "num_attention_heads": 4,
    "attn_layer_idxs": [1],
    "hyena_layer_idxs": [0, 2],
    "proj_groups": 2,
    "state_size": 3,
    "max_seqlen": 64,
}


def striped_weights() -> dict[str, Tensor]:
    """Random values under the names and shapes of togethercomputer/stripedhyena, stripedhyena/model.py."""
    torch.manual_seed(0)
    weights = {"embedding_layer.weight": torch.randn(40, 16), "unembed.weight": torch.randn(40, 16)}
    weights["norm.scale"] = torch.rand(16) + 0.5
    for layer in range(3):
        at = f"blocks.{layer}."
        for name in ("pre_norm.scale", "post_norm.scale"):
            weights[at + name] = torch.rand(16) + 0.5
        for name, shape in (("l1", (24, 16)), ("l2", (24, 16)), ("l3", (16, 24))):
            weights[f"{at}mlp.{name}.weight"] = torch.randn(shape) * 0.3
        if layer == 1:
            weights[at + "inner_mha_cls.Wqkv.weight"] = torch.randn(16 + 2 * 8, 16) * 0.3
            weights[at + "inner_mha_cls.out_proj.weight"] = torch.randn(16, 16) * 0.3
            weights[at + "inner_mha_cls.rotary_emb.inv_freq"] = 500000.0 ** -torch.tensor([0.0, 0.5])
            continue
        for name, rows in (("projections", 48), ("out_filter_dense", 16)):
            weights[f"{at}{name}.weight"] = torch.randn(rows, 16) * 0.3
            weights[f"{at}{name}.bias"] = torch.randn(rows) * 0.3
        weights[at + "filter.short_filter_weight"] = torch.randn(48, 1, 3)
        weights[at + "filter.short_filter_bias"] = torch.randn(48)
        weights[at + "filter.D"] = torch.randn(16)
        radius, angle = torch.rand(16, 3, 1) * 0.9, torch.rand(16, 3, 1) * 3
        weights[at + "filter.poles"] = torch.stack((radius * angle.cos(), radius * angle.sin()), -1)
        weights[at + "filter.residues"] = torch.randn(16, 3, 1, 2)
    return weights


def striped_logits(weights: dict[str, Tensor], ids: list[int]) -> Tensor:
    """The model by its equations: filters as convolutions by FFT (2302.10866), attention with rotary positions."""
    length = len(ids)
    x = weights["embedding_layer.weight"][ids]

    def rms(x: Tensor, scale: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * scale

    def turn(x: Tensor) -> Tensor:  # (T, 4)
        angles = torch.arange(length)[:, None] * 500000.0 ** -torch.tensor([0.0, 0.5])
        a, b = x[:, :2], x[:, 2:]
        return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), 1)

    def attention(x: Tensor, own: Callable[[str], Tensor]) -> Tensor:
        q, k, v = (x @ own("inner_mha_cls.Wqkv.weight").T).split([16, 8, 8], 1)
        heads = []
        for head in range(4):
            mine = slice(4 * (head // 2), 4 * (head // 2) + 4)
            scores = turn(q[:, 4 * head : 4 * head + 4]) @ turn(k[:, mine]).T / 2
            scores = scores.masked_fill(torch.ones(length, length).triu(1) > 0, -torch.inf)
            heads.append(scores.softmax(-1) @ v[:, mine])
        return torch.cat(heads, 1) @ own("inner_mha_cls.out_proj.weight").T

    def hyena(x: Tensor, own: Callable[[str], Tensor]) -> Tensor:
        z = x @ own("projections.weight").T + own("projections.bias")
        taps = own("filter.short_filter_weight")[:, 0]
        z = sum(F.pad(z, (0, 0, 2 - i, 0))[:length] * taps[:, i] for i in range(3)) + own(
            "filter.short_filter_bias"
        )
        x2, x1, v = (z.view(length, 4, 3, 4)[:, :, i].reshape(length, 16) for i in range(3))
        poles, residues = (
            torch.view_as_complex(own(f"filter.{name}"))[..., 0] for name in ("poles", "residues")
        )
        h = torch.stack([(residues * poles**t).real.sum(-1) for t in range(length)])
        u = x1 * v
        y = torch.fft.irfft(
            torch.fft.rfft(h, 2 * length, 0) * torch.fft.rfft(u, 2 * length, 0), 2 * length, 0
        )
        y = (y[:length] + u * own("filter.D")) * x2
        return y @ own("out_filter_dense.weight").T + own("out_filter_dense.bias")

    for layer in range(3):

        def own(name: str, layer: int = layer) -> Tensor:
            return weights[f"blocks.{layer}.{name}"]

        x = x + (attention if layer == 1 else hyena)(rms(x, own("pre_norm.scale")), own)
        y = rms(x, own("post_norm.scale"))
        gated = F.silu(y @ own("mlp.l1.weight").T) * (y @ own("mlp.l2.weight").T)
        x = x + gated @ own("mlp.l3.weight").T
    return rms(x, weights["norm.scale"]) @ weights["unembed.weight"].T


def test_striped_hyena_equals_its_equations(tmp_path: Path) -> None:
    weights = striped_weights()
    folder = tmp_path / "striped"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(STRIPED))
    save_file({f"backbone.{name}": values for name, values in weights.items()}, folder / "model.safetensors")
    pipeline = load(folder)
    ids = torch.randint(0, 40, (1, 13)).tolist()
    with torch.no_grad():
        got = pipeline.model(Batch(torch.tensor(ids))).heads["text"][0]
    want = striped_logits(weights, ids[0])
    assert (got - want).abs().max() < 1e-5 * want.std()
    pipeline.export(tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert {f"backbone.{name}" for name in weights if not name.endswith("inv_freq")} == set(written)
    assert all(
        torch.equal(values, weights[name.removeprefix("backbone.")]) for name, values in written.items()
    )
