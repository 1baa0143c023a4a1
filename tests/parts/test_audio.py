"""Encoders of sound: against formulas written out here, at their published sizes, and with padding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError
from beholder.model import Batch, build
from beholder.parts.audio import sizes
from beholder.parts.audio.attention import ExtraKeyAttention, GatedAttention, RelativeAttention
from beholder.parts.audio.conformer import TimeConv
from beholder.parts.audio.transformer import SignalTransformer
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.relative import RelativeBuckets
from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.connectors.projections import Pooled
from beholder.parts.contracts import LanguageInputs
from beholder.parts.heads.labels import Ctc, collapsed
from beholder.parts.language.text_encoder import TextEncoder
from beholder.weights.layout import Binding, Layout, to_own, to_published
from beholder.weights.layouts import audio as layouts
from beholder.weights.lazy import lazy

# V views, T tokens, D width, H heads, K head width

Weights = Mapping[str, Tensor]


def randomised(module: nn.Module) -> nn.Module:
    """The module with every parameter drawn, so that nothing is one or zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
            parameter += 0.2
    return module.eval()


def published(module: nn.Module, layout: Layout, **numbers: int) -> dict[str, Tensor]:
    """The module's parameters under the publisher's names; reading them again gives the module's."""
    bindings = (Binding("", "", layout, numbers),)
    state = module.state_dict()
    theirs = {name: tensor.load() for name, tensor in to_published(state, bindings).items()}
    shapes = {name: tuple(values.shape) for name, values in state.items()}
    again = to_own({name: lazy(name, values) for name, values in theirs.items()}, bindings, shapes)
    assert all(torch.equal(again[name].load(), values) for name, values in state.items())
    return theirs


def affine(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return (
        centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * w[f"{name}.weight"]
        + w[f"{name}.bias"]
    )


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def heads_of(x_TD: Tensor, heads: int) -> Tensor:
    return x_TD.view(len(x_TD), heads, -1).transpose(0, 1)


# BEATs


def bucket(distance: int, buckets: int, farthest: int) -> int:
    """Of a key so many places after its query (1910.10683, section 2.1, both ways)."""
    half, far = buckets // 2, abs(distance)
    place = far
    if far >= half // 2:
        share = math.log(far / (half // 2)) / math.log(farthest / (half // 2))
        place = min(half - 1, half // 2 + int(share * (half - half // 2)))
    return place + (half if distance > 0 else 0)


def beats_patches(w: Weights, view_MF: Tensor) -> Tensor:
    """16 x 16 patches in the order of time, then frequency, normed and brought to the width."""
    kernel = w["patch_embedding.weight"][:, 0]
    tokens = []
    for time in range(view_MF.shape[1] // 16):
        for band in range(view_MF.shape[0] // 16):
            patch = view_MF[16 * band : 16 * band + 16, 16 * time : 16 * time + 16].T
            tokens.append((kernel * patch).sum((1, 2)))
    return affine(w, "post_extract_proj", layer_norm(w, "layer_norm", torch.stack(tokens), 1e-5))


def beats_positions(w: Weights, x_TD: Tensor, kernel: int, groups: int) -> Tensor:
    """A convolution over so many neighbours whose weights have a learned length for each place in the kernel."""
    raw, lengths = w["encoder.pos_conv.0.weight_v"], w["encoder.pos_conv.0.weight_g"][0, 0]
    weight = raw / raw.square().sum((0, 1)).sqrt() * lengths
    share = x_TD.shape[1] // groups
    y_TD = torch.zeros_like(x_TD) + w["encoder.pos_conv.0.bias"]
    for token in range(len(x_TD)):
        for place in range(kernel):
            source = token + place - kernel // 2
            if 0 <= source < len(x_TD):
                for group in range(groups):
                    own = slice(group * share, (group + 1) * share)
                    y_TD[token, own] += weight[own, :, place] @ x_TD[source, own]
    return gelu(y_TD)


def beats_layer(w: Weights, layer: str, x_TD: Tensor, bias_HTT: Tensor, alpha: float) -> Tensor:
    """Gated relative bias (2110.13900, section 3.3) and deep norm (2203.00555)."""
    heads = len(bias_HTT)
    q, k, v = (heads_of(affine(w, f"{layer}.self_attn.{name}_proj", x_TD), heads) for name in "qkv")
    gates = affine(w, f"{layer}.self_attn.grep_linear", q)
    update, reset = gates[..., :4].sum(-1).sigmoid(), gates[..., 4:].sum(-1).sigmoid()
    weight_HT = update * (reset * w[f"{layer}.self_attn.grep_a"][0, :, 0] - 1) + 2
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]) + weight_HT[..., None] * bias_HTT
    mixed = (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)
    x_TD = alpha * x_TD + affine(w, f"{layer}.self_attn.out_proj", mixed)
    x_TD = layer_norm(w, f"{layer}.self_attn_layer_norm", x_TD, 1e-5)
    inner = affine(w, f"{layer}.fc2", gelu(affine(w, f"{layer}.fc1", x_TD)))
    return layer_norm(w, f"{layer}.final_layer_norm", alpha * x_TD + inner, 1e-5)


def test_beats_equals_its_formulas() -> None:
    config = sizes.BEATS.tiny().but(size=(32, 80), arrangement=sizes.BEATS.arrangement.but(skip=4**0.25))
    model = randomised(config.build())
    w = published(model, layouts.beats(2))
    view = torch.randn(1, 32, 80)
    with torch.no_grad():
        x_TD = beats_patches(w, view[0])
        x_TD = x_TD + beats_positions(w, x_TD, 16, 4)
        x_TD = layer_norm(w, "encoder.layer_norm", x_TD, 1e-5)
        table = w["encoder.layers.0.self_attn.relative_attention_bias.weight"]
        assert config.attention.relative is not None
        numbers = (config.attention.relative.buckets, config.attention.relative.farthest)
        count = range(len(x_TD))
        bias_TTH = torch.stack([torch.stack([table[bucket(j - i, *numbers)] for j in count]) for i in count])
        for layer in range(2):
            x_TD = beats_layer(w, f"encoder.layers.{layer}", x_TD, bias_TTH.permute(2, 0, 1), 4**0.25)
        packed = model([view])
    assert packed.grids == ((5, 2, 1),)
    torch.testing.assert_close(packed.tokens_ND, x_TD, rtol=1e-4, atol=1e-5)


def test_beats_files_hold_the_shared_bias_once_for_each_layer() -> None:
    model = sizes.BEATS.tiny().build()
    w = published(model, layouts.beats(2))
    first = "encoder.layers.0.self_attn.relative_attention_bias.weight"
    w[first.replace("0", "1")] = w[first].clone()
    shapes = {name: tuple(values.shape) for name, values in model.state_dict().items()}
    own = to_own({k: lazy(k, v) for k, v in w.items()}, (Binding("", "", layouts.beats(2)),), shapes)
    assert torch.equal(own["bias.weight"].load(), w[first])


# VITA


def plane_conv(w: Weights, name: str, x_CTM: Tensor) -> Tensor:
    """3 x 3 at every second place of both axes, and what is negative cut off."""
    kernel = w[f"{name}.weight"]
    rows = []
    for time in range((x_CTM.shape[1] - 3) // 2 + 1):
        cuts = [
            x_CTM[:, 2 * time : 2 * time + 3, 2 * m : 2 * m + 3] for m in range((x_CTM.shape[2] - 3) // 2 + 1)
        ]
        rows.append(torch.stack([(kernel * cut).sum((1, 2, 3)) + w[f"{name}.bias"] for cut in cuts], 1))
    return torch.stack(rows, 1).clamp(min=0)


def test_vita_encoder_equals_its_formulas() -> None:
    config = sizes.VITA_AUDIO.tiny()
    model = randomised(config.build())
    model.stem.mean.normal_()
    model.stem.inverse_std.uniform_(0.5, 2.0)
    w = published(model, layouts.VITA_AUDIO)
    view = torch.randn(1, 32, 50)
    with torch.no_grad():
        x_CTM = ((view[0].T - w["global_cmvn.mean"]) * w["global_cmvn.istd"])[None]
        for place in (0, 2):
            x_CTM = plane_conv(w, f"enc.0.core.conv.{place}", x_CTM)
        x_TD = affine(w, "enc.0.core.out.0", x_CTM.permute(1, 0, 2).flatten(1))
        x_TD = layer_norm(w, "enc.1.embed.1", affine(w, "enc.1.embed.0", x_TD), 1e-5).clamp(min=0) * 32
        count = len(x_TD)
        waves = torch.zeros(count, 32)
        for place in range(count):
            for pair in range(16):
                angle = place / 10000 ** (2 * pair / 32)
                waves[place, 2 * pair], waves[place, 2 * pair + 1] = math.sin(angle), math.cos(angle)
        for layer in range(2):
            name = f"enc.1.encoders.{layer}."
            y_TD = layer_norm(w, f"{name}norm1", x_TD, 1e-5)
            q, k, v = (heads_of(affine(w, f"{name}self_attn.linear_{letter}", y_TD), 4) for letter in "qkv")
            places = heads_of(waves @ w[f"{name}self_attn.linear_pos.weight"].T, 4)
            content = (q + w[f"{name}self_attn.pos_bias_u"][:, None]) @ k.transpose(1, 2)
            place_scores = (q + w[f"{name}self_attn.pos_bias_v"][:, None]) @ places.transpose(1, 2)
            weights = ((content + place_scores) / math.sqrt(8)).softmax(-1)
            x_TD = x_TD + affine(w, f"{name}self_attn.linear_out", (weights @ v).transpose(0, 1).flatten(1))
            y_TD = affine(w, f"{name}feed_forward.w_1", layer_norm(w, f"{name}norm2", x_TD, 1e-5)).clamp(
                min=0
            )
            x_TD = x_TD + affine(w, f"{name}feed_forward.w_2", y_TD)
        x_TD = layer_norm(w, "enc.1.after_norm", x_TD, 1e-5)
        packed = model([view])
    assert packed.grids == ((1, 1, 11),)
    torch.testing.assert_close(packed.tokens_ND, x_TD, rtol=1e-3, atol=1e-4)


# ImageBind


def trunk(w: Weights, prefix: str, x_TD: Tensor, heads: int, *, causal: bool = False) -> Tensor:
    """Pre-norm layers, whose attention may see one more key."""
    for layer in range(2):
        name = f"{prefix}blocks.{layer}."
        y_TD = layer_norm(w, f"{name}norm_1", x_TD, 1e-6)
        joined = y_TD @ w[f"{name}attn.in_proj_weight"].T + w[f"{name}attn.in_proj_bias"]
        q, k, v = joined.chunk(3, -1)
        if f"{name}attn.bias_k" in w:
            k, v = torch.cat((k, w[f"{name}attn.bias_k"][0])), torch.cat((v, w[f"{name}attn.bias_v"][0]))
        q, k, v = (heads_of(x, heads) for x in (q, k, v))
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        if causal:
            scores = scores + torch.full(scores.shape[1:], -torch.inf).triu(1)
        x_TD = x_TD + affine(w, f"{name}attn.out_proj", (scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
        y_TD = layer_norm(w, f"{name}norm_2", x_TD, 1e-6)
        x_TD = x_TD + affine(w, f"{name}mlp.fc2", gelu(affine(w, f"{name}mlp.fc1", y_TD)))
    return x_TD


IMAGEBIND = {
    "vision": (sizes.IMAGEBIND_VISION, "rgbt_stem.proj.1.weight", None, 2),
    "audio": (sizes.IMAGEBIND_AUDIO, "rgbt_stem.proj.weight", 20.0, 2),
    "thermal": (sizes.IMAGEBIND_THERMAL, "rgbt_stem.proj.weight", 10.0, 2),
    "depth": (sizes.IMAGEBIND_DEPTH, "depth_stem.proj.weight", 5.0, 2),
    "imu": (sizes.IMAGEBIND_IMU, "imu_stem.proj.weight", 5.0, 3),
}


@pytest.mark.parametrize("modality", IMAGEBIND)
def test_imagebind_trunks_equal_their_formulas(modality: str) -> None:
    full, patch_name, scale, place = IMAGEBIND[modality]
    config = full.tiny()
    encoder, connector = (
        randomised(config.build()),
        Pooled(width=16, unit=True, scale=scale).build(32, 16).eval(),
    )
    w = published(encoder, layouts.imagebind(modality), positions=config.table_rows, dim=32, inputs=48)
    w |= published(connector, layouts.imagebind_vector(modality))
    stem, head = f"modality_preprocessors.{modality}.", f"modality_heads.{modality}."
    channels = 3 if modality == "vision" else 1
    view = torch.randn(channels, *config.size)
    assert config.stem.patch[0] * config.stem.patch[1] == 48 or modality != "imu"
    (rows, columns), (down, across) = config.stem.patch, config.stem.stride
    cuts = view.unfold(1, rows, down).unfold(2, columns, across).permute(1, 2, 0, 3, 4).flatten(0, 1)
    kernel = w[stem + patch_name]
    kernel = kernel.sum(2) if modality == "vision" else kernel.view(32, 1, rows, columns)
    with torch.no_grad():
        x_TD = cuts.flatten(1) @ kernel.flatten(1).T
        if modality != "vision":
            x_TD = layer_norm(w, stem + patch_name.split(".")[0] + ".norm_layer", x_TD, 1e-5)
        helper = "" if modality == "imu" else "pos_embedding_helper."
        x_TD = torch.cat((w[f"{stem}cls_token"][0], x_TD)) + w[f"{stem}{helper}pos_embed"][0]
        if modality == "vision":
            x_TD = layer_norm(w, "modality_trunks.vision.pre_transformer_layer.0", x_TD, 1e-6)
        x_TD = trunk(w, f"modality_trunks.{modality}.", x_TD, 4)
        vector_D = w[f"{head}{place}.weight"] @ layer_norm(w, f"{head}0", x_TD, 1e-6)[0]
        vector_D = vector_D / vector_D.norm()
        if scale is not None:
            vector_D = vector_D * w[f"modality_postprocessors.{modality}.1.log_logit_scale"].exp()
            assert float(vector_D.norm()) == pytest.approx(scale, rel=1e-5)
        got_VD = connector(encoder([view])).tokens_ND
    torch.testing.assert_close(got_VD[0], vector_D, rtol=1e-4, atol=1e-4)


def test_imagebind_reads_clips_of_two_frames() -> None:
    encoder = randomised(sizes.IMAGEBIND_VISION.tiny().build())
    still = torch.randn(3, 42, 42)
    clip = torch.stack((still, still), 1)
    with torch.no_grad():
        assert torch.equal(encoder([still]).tokens_ND, encoder([clip]).tokens_ND)


def test_imagebind_text_equals_its_formulas() -> None:
    config: TextEncoder = sizes.IMAGEBIND_TEXT.tiny()
    tower = randomised(config.build())
    w = published(tower, layouts.IMAGEBIND_TEXT, positions=config.context)
    ids = torch.tensor([[1, 7, 3, 9, 0, 0]])
    with torch.no_grad():
        x_TD = w["modality_preprocessors.text.token_embedding.weight"][ids[0]]
        x_TD = trunk(
            w,
            "modality_trunks.text.",
            x_TD + w["modality_preprocessors.text.pos_embed"][0, :6],
            4,
            causal=True,
        )
        x_D = (
            layer_norm(w, "modality_heads.text.proj.0", x_TD[3], 1e-6)
            @ w["modality_heads.text.proj.1.weight"].T
        )
        visibility = Visibility.causal(1, 6)
        got = tower(LanguageInputs(ids, tower.embed(ids), visibility.blocks_BT, visibility)).pooled_BD
    torch.testing.assert_close(got[0], x_D, rtol=1e-4, atol=1e-4)


# Padding, batches, errors

ENCODERS = [name for name, value in vars(sizes).items() if isinstance(value, SignalTransformer)]


def own_size(name: str) -> Any:
    return getattr(sizes, name)


@pytest.mark.parametrize("name", ENCODERS)
def test_tiny_encoders_give_the_grids_they_foretell(name: str) -> None:
    config: SignalTransformer = own_size(name).tiny()
    view = torch.randn(3 if name == "IMAGEBIND_VISION" else 1, *config.size)
    model = config.build().eval()
    assert sum(values.numel() for values in model.parameters()) < 150_000
    with torch.no_grad():
        packed = model([view, view])
    assert packed.grids == (config.grid(config.size),) * 2
    assert packed.tokens_ND.shape == (2 * config.grid(config.size).num_tokens, 32)
    assert packed.tokens_ND.isfinite().all()


@pytest.mark.parametrize("name", ["WAV2VEC2_LARGE_LV60", "HUBERT_XLARGE", "WAVLM_LARGE"])
def test_padding_changes_nothing_where_norms_see_one_token(name: str) -> None:
    config: SignalTransformer = own_size(name).tiny()
    model = randomised(config.build())
    sounds = [torch.randn(1, 1, count) for count in (400, 333)]
    padded = [F.pad(sound, (0, 400 - sound.shape[-1]), value=3.0) for sound in sounds]
    with torch.no_grad():
        alone, together = model(sounds), model(padded, [400, 333])
    assert alone.grids == together.grids and alone.grids[0] != alone.grids[1]
    torch.testing.assert_close(alone.tokens_ND, together.tokens_ND, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["WAV2VEC2_BASE", "WAVLM_BASE", "WHISPER_TINY", "QWEN2_AUDIO", "BEATS", "VITA_AUDIO"]
)
def test_no_view_changes_another(name: str) -> None:
    config: SignalTransformer = own_size(name).tiny()
    model = randomised(config.build())
    rows, full = config.size
    views = [torch.randn(1, rows, full) for _ in range(3)]
    columns = [full, full // 2, 3 * full // 4]
    with torch.no_grad():
        together = model(views, columns).split()
        for view, number, tokens in zip(views, columns, together, strict=True):
            assert len(tokens) == config.filled(config.size, number)
            torch.testing.assert_close(model([view], [number]).tokens_ND, tokens, rtol=1e-4, atol=1e-4)


def test_taps_hold_the_depths_asked_for() -> None:
    config = sizes.WAVLM_BASE.tiny().but(taps=(0, 1, 2))
    model = randomised(config.build())
    view = torch.randn(1, 1, 400)
    with torch.no_grad():
        packed = model([view], [300])
        short = config.but(num_layers=1, taps=()).build().eval()
        short.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("blocks.1.")})
        torch.testing.assert_close(packed.taps[1].tokens_ND, short([view], [300]).tokens_ND)
    assert set(packed.taps) == {0, 1, 2} and packed.taps[0].grids == packed.grids
    assert torch.equal(packed.taps[2].tokens_ND, packed.tokens_ND)


def test_every_parameter_in_use_gets_a_gradient() -> None:
    for name in ("WAVLM_BASE", "BEATS", "WHISPER_TINY", "AST", "IMAGEBIND_AUDIO"):
        config: SignalTransformer = own_size(name).tiny()
        model = config.build()
        packed = model([torch.randn(1, *config.size)])
        (packed.tokens_ND if packed.pooled_VD is None else packed.pooled_VD).square().sum().backward()
        without = {key for key, values in model.named_parameters() if values.grad is None}
        assert without == model.unused_parameters(pooled=True), name


@pytest.mark.parametrize(
    "size, message",
    [((64, 3000), "rows"), ((80, 3001), "positions"), ((80, 0), "too short")],
)
def test_views_that_do_not_fit_are_errors(size: tuple[int, int], message: str) -> None:
    with pytest.raises(BeholderError, match=message):
        sizes.WHISPER_TINY.grid(size)


def test_settings_that_nothing_reads_are_errors() -> None:
    with pytest.raises(BeholderError, match="an arrangement of their own"):
        sizes.WAV2VEC2_BASE.but(conv=TimeConv(), arrangement=Arrangement("post"))
    with pytest.raises(BeholderError, match="RelativeAttention does not read rotary"):
        RelativeAttention(4, rotary=Rotary())
    with pytest.raises(BeholderError, match="ExtraKeyAttention does not read qk_norm"):
        ExtraKeyAttention(4, qk_norm=Norm())
    for relative in (None, RelativeBuckets(shared=False)):
        with pytest.raises(BeholderError, match="that all layers share"):
            GatedAttention(4, relative=relative)


def test_settings_that_do_not_fit_are_errors() -> None:
    with pytest.raises(BeholderError, match="depths"):
        sizes.WHISPER_TINY.but(taps=(5,))
    with pytest.raises(BeholderError, match="1023"):
        sizes.AST.grid((128, 1023))
    with pytest.raises(BeholderError, match="each convolution"):
        sizes.WAV2VEC2_BASE.but(**{"stem.kernels": (3, 3)})


# Letters


def test_a_path_of_letters_is_collapsed() -> None:
    assert collapsed([0, 5, 5, 0, 5, 7, 7, 0]) == [5, 5, 7]
    assert collapsed([1, 1], blank=1) == []


def test_letters_are_scored_on_the_tokens_of_each_sound() -> None:
    branch = Branch((sizes.WAV2VEC2_LARGE_LV60.tiny(),), name="audio", modality="audio")
    model = build(Card(name="x", branches=(branch,), heads=(Ctc(dim=32, count=6),)), seed=0)
    views = [torch.randn(1, 1, 400), torch.randn(1, 1, 300)]
    with torch.no_grad():
        scores = model(Batch(views={"audio": views})).heads["ctc"]
    assert scores.tokens_ND.shape[1] == 6
    assert [len(part) for part in scores.split()] == [
        branch.encoders[0].grid((1, n)).num_tokens for n in (400, 300)
    ]
