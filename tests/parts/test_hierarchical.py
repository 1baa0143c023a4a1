"""Convolutional nets and hierarchical vision transformers: grids, published sizes, and small references of the papers."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from beholder.config import from_data
from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Grid
from beholder.parts.vision import sizes_hierarchical as sizes
from beholder.parts.vision.convnets import BatchNorm, ChannelGate, ConvNorm, StandardConv, same_padding
from beholder.parts.vision.efficientnet import EfficientNet, EfficientNetLite
from beholder.parts.vision.focalnet import FocalNet
from beholder.parts.vision.nfnet import GAINS
from beholder.parts.vision.positions import offset_index
from beholder.parts.vision.resnet import ResNet
from beholder.parts.vision.swin import shift_mask
from beholder.parts.vision.vitdet import VitDet, offset_vectors
from beholder.parts.vision.windows import merge, partition
from beholder.weights.files import open_weights
from beholder.weights.layout import Binding, to_published
from beholder.weights.layouts import hierarchical as layouts
from beholder.weights.load import load_state, state_tensors
from beholder.weights.part import open_part
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_encoder

TINY = {
    "resnet": sizes.RESNET_50,
    "basic resnet": sizes.RESNET_18,
    "first stride, early": ResNet(stride="first", early=True, classes=5),
    "clip resnet": sizes.CLIP_RN50,
    "convnext": sizes.CONVNEXT_T.but(classes=5),
    "convnext v2": sizes.CONVNEXT_V2_T,
    "dinov3 convnext": sizes.DINOV3_CONVNEXT_T,
    "five stages": sizes.CONVNEXT_T.but(dims=(96, 192, 384, 768, 1536), depths=(3, 3, 9, 3, 3)),
    "efficientnet": sizes.EFFICIENTNET_B0.but(classes=5),
    "lite": EfficientNetLite(classes=10),
    "lite with mid stage": EfficientNetLite(mid_stage=5),
    "nf-resnet": sizes.NF_RESNET_50,
    "nfnet": sizes.NFNET_F0.but(classes=5),
    "swin": sizes.SWIN_T,
    "swin v2": sizes.SWIN_V2_T,
    "davit": sizes.DAVIT_B,
    "focalnet": sizes.FOCALNET_T,
    "large focalnet": sizes.FOCALNET_L,
    "hiera": sizes.HIERA_T,
    "sam 2": sizes.SAM2_HIERA_T,
    "sam": sizes.SAM_B,
    "vitdet": sizes.SAM_B.but(neck=0, spare=True, convolved=(0,)),
}
SQUARE_ONLY = ("clip resnet", "lite with mid stage", "sam")


def built(config):
    """With every parameter away from its start value, so that nothing is zero by chance."""
    model = config.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for name, buffer in model.named_buffers():
            if name.endswith((".mean", ".var")):
                buffer.add_(torch.rand_like(buffer))
    return model


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_views_of_unequal_sizes_equal_each_alone(name):
    config = TINY[name].tiny()
    model, side = built(config), config.image_size
    shapes = [(side, side)] * 2 if name in SQUARE_ONLY else [(side, side), (2 * side, side), (side, side)]
    views = [torch.randn(3, *shape) for shape in shapes]
    packed = model(views)
    assert packed.grids == tuple(config.grid(shape) for shape in shapes)
    assert packed.tokens_ND.shape[1] == config.out_dim
    assert tuple(packed.taps) == config.taps
    for index, view in enumerate(views):
        alone = model([view])
        assert torch.allclose(alone.tokens_ND, packed.split()[index], atol=1e-4)
        for number, tap in packed.taps.items():
            assert tap.grids[index] == config.grids(shapes[index])[config.taps.index(number)]
            assert torch.allclose(alone.taps[number].tokens_ND, tap.split()[index], atol=1e-4)
        if packed.pooled_VD is not None:
            assert torch.allclose(alone.pooled_VD[0], packed.pooled_VD[index], atol=1e-4)


@pytest.mark.parametrize("name", TINY)
def test_unused_parameters_are_exactly_those_without_a_gradient(name):
    config = TINY[name].tiny()
    model = built(config)
    packed = model([torch.randn(3, config.image_size, config.image_size)])
    for pooled, output in ((False, packed.tokens_ND), (True, packed.pooled_VD)):
        if output is not None:
            model.zero_grad()
            output.pow(2).sum().backward(retain_graph=True)
            without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
            assert without == model.unused_parameters(pooled=pooled)


@pytest.mark.parametrize("name", TINY)
def test_settings_are_data(name):
    for config in (TINY[name], TINY[name].tiny()):
        assert from_data(json.loads(json.dumps(config.to_data()))) == config


# Official classes (transformers 5.23) built from the published configs: exact. With a classifier of 1000 classes where True.
COUNTS = {
    "RESNET_18": (11_689_512, True),
    "RESNET_34": (21_797_672, True),
    "RESNET_50": (25_557_032, True),
    "RESNET_101": (44_549_160, True),
    "RESNET_152": (60_192_808, True),
    "CONVNEXT_T": (28_589_128, True),
    "CONVNEXT_S": (50_223_688, True),
    "CONVNEXT_B": (88_591_464, True),
    "CONVNEXT_L": (197_767_336, True),
    "CONVNEXT_XL": (350_196_968, True),
    "CLIP_CONVNEXT_XXL": (846_471_016, True),
    "CONVNEXT_V2_T": (28_635_496, True),
    "CONVNEXT_V2_B": (88_717_800, True),
    "CONVNEXT_V2_L": (197_956_840, True),
    "CONVNEXT_V2_H": (660_289_640, True),
    "EFFICIENTNET_B0": (5_288_548, True),
    "EFFICIENTNET_B1": (7_794_184, True),
    "EFFICIENTNET_B2": (9_109_994, True),
    "EFFICIENTNET_B3": (12_233_232, True),
    "EFFICIENTNET_B4": (19_341_616, True),
    "EFFICIENTNET_B5": (30_389_784, True),
    "EFFICIENTNET_B6": (43_040_704, True),
    "EFFICIENTNET_B7": (66_347_960, True),
    "SWIN_T": (28_288_354, True),
    "SWIN_S": (49_606_258, True),
    "SWIN_B": (87_768_224, True),
    "SWIN_B_384": (87_903_584, True),
    "SWIN_L": (196_532_476, True),
    "SWIN_V2_T": (28_347_154, True),
    "SWIN_V2_S": (49_728_418, True),
    "SWIN_V2_B": (87_918_816, True),
    "SWIN_V2_L": (196_739_932, True),
    "DAVIT_B": (90_368_000, False),
    "DAVIT_L": (360_632_320, False),
    "FOCALNET_T_SRF": (28_427_116, True),
    "FOCALNET_T": (28_647_928, True),
    "FOCALNET_L": (207_281_248, True),
    "HIERA_T": (27_910_216, True),
    "HIERA_S": (35_008_072, True),
    "HIERA_B": (51_524_968, True),
    "HIERA_B_PLUS": (69_896_616, True),
    "HIERA_L": (213_739_912, True),
    "HIERA_H": (672_779_752, True),
    "SAM2_HIERA_T": (27_219_136, False),
    "SAM2_HIERA_S": (34_316_992, False),
    "SAM2_HIERA_B_PLUS": (69_106_816, False),
    "SAM2_HIERA_L": (212_703_280, False),
    "SAM_B": (89_670_912, False),
    "SAM_L": (308_278_272, False),
    "SAM_H": (637_026_048, False),
}
# Millions as published: open_clip docs/model_profile.csv, less the projection behind ConvNeXt's trunk; 2102.06171 table 6.
MILLIONS = {
    "CLIP_RN50": (38.32, 2, 0),
    "CLIP_RN101": (56.26, 2, 0),
    "CLIP_RN50X4": (87.14, 2, 0),
    "CLIP_RN50X16": (167.33, 2, 0),
    "CLIP_RN50X64": (420.38, 2, 0),
    "CLIP_CONVNEXT_B": (88.22, 2, 1024 * 640),
    "CLIP_CONVNEXT_L_320": (199.77, 2, 1536 * 1536 + 1536 + 1536 * 768),
    "CLIP_CONVNEXT_XXL": (846.54, 2, 3072 * 1024),
    "NFNET_F0": (71.5, 1, 3073 * 1000),
    "NFNET_F1": (132.6, 1, 3073 * 1000),
    "NFNET_F2": (193.8, 1, 3073 * 1000),
    "NFNET_F3": (254.9, 1, 3073 * 1000),
    "NFNET_F4": (316.1, 1, 3073 * 1000),
    "NFNET_F5": (377.2, 1, 3073 * 1000),
    "NFNET_F6": (438.4, 1, 3073 * 1000),
}


def count(config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in config.build().parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_published_sizes_have_exactly_the_official_parameters(name):
    want, classifies = COUNTS[name]
    config = getattr(sizes, name)
    assert count(config.but(classes=1000) if classifies else config) == want


@pytest.mark.parametrize("name", MILLIONS)
def test_published_sizes_round_to_the_published_millions(name):
    want, digits, rest = MILLIONS[name]
    assert round((count(getattr(sizes, name)) + rest) / 1e6, digits) == want


def test_efficientnet_lite0_is_the_published_size():
    """4.65 million parameters (official EfficientNet-Lite table: 4.7M), classifier included."""
    config = EfficientNetLite(classes=1000)
    assert count(config) == 4_652_008
    assert [config.channels(stage) for stage in range(1, 8)] == [16, 24, 40, 80, 112, 192, 320]
    assert [config.but(depth=1.2).repeats(stage) for stage in range(1, 8)] == [1, 3, 3, 4, 4, 5, 1]


@pytest.mark.parametrize(
    ("config", "size", "words"),
    [
        (sizes.CLIP_RN50, (224, 256), "places of 224x224 pixels, not 256x224"),
        (sizes.SAM_B, (512, 512), "takes 1024x1024 pixels, not 512x512"),
        (sizes.HIERA_T, (224, 230), "does not divide into windows of 32 pixels"),
        (sizes.SWIN_T, (0, 224), "too small"),
        (sizes.CONVNEXT_T, (31, 224), "224x31 pixels is too small"),
        (EfficientNetLite(image_size=64, mid_stage=5), (64, 96), "not 96x64"),
    ],
)
def test_views_an_encoder_cannot_take(config, size, words):
    with pytest.raises(BeholderError, match=words):
        config.grid(size)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: EfficientNetLite(image_size=100, mid_stage=5),
            BeholderError,
            "100 pixels per side must divide by 32",
        ),
        (lambda: ResNet(stride="last"), UnknownName, "middle"),
        (lambda: sizes.NFNET_F0.but(act="gelu_new"), UnknownName, "gelu"),
        (lambda: sizes.SWIN_T.but(heads=(3, 6)), BeholderError, "unequal counts of stages"),
        (lambda: sizes.DAVIT_B.but(groups=(1,)), BeholderError, "unequal counts of stages"),
        (lambda: sizes.FOCALNET_T.but(levels=(3,)), BeholderError, "unequal counts of stages"),
        (lambda: sizes.HIERA_T.but(windows=(8,)), BeholderError, "unequal counts of stages"),
        (lambda: sizes.SAM_B.but(window=0), BeholderError, "give their size"),
        (lambda: sizes.SAM_B.but(image_size=8), BeholderError, "less than one patch of 16"),
        (
            lambda: sizes.SWIN_T.but(width=100).build(),
            BeholderError,
            "width 100 does not divide into 3 heads",
        ),
    ],
)
def test_settings_that_do_not_fit(make, error, words):
    with pytest.raises(error, match=words):
        make()


# --- what they are made of


@settings(deadline=None)
@given(st.integers(1, 40), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]))
def test_same_padding(size, kernel, stride):
    """TensorFlow's rule: ceil(size / stride) outputs, the odd element of padding goes behind."""
    before, after = same_padding(size, kernel, stride)
    outputs = math.ceil(size / stride)
    assert before + after == max((outputs - 1) * stride + kernel - size, 0)
    assert after - before in (0, 1)
    assert (size + before + after - kernel) // stride + 1 == outputs


@pytest.mark.parametrize("padding", ["even", "same", "behind"])
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize(("kernel", "stride", "groups"), [(3, 2, 1), (5, 2, 6), (3, 1, 6)])
@torch.no_grad()
def test_conv_norm_equals_convolution_then_batch_norm(padding, size, kernel, stride, groups):
    layer = ConvNorm(6, 12, kernel, stride, groups, norm=BatchNorm(eps=1e-3), padding=padding)
    norm = nn.BatchNorm2d(12, eps=1e-3).eval()
    for tensor in (layer.scale, layer.bias, layer.mean):
        tensor.copy_(torch.randn(12))
    layer.var.copy_(torch.rand(12) + 0.1)
    for ours, theirs in (
        ("scale", "weight"),
        ("bias", "bias"),
        ("mean", "running_mean"),
        ("var", "running_var"),
    ):
        getattr(norm, theirs).copy_(getattr(layer, ours))
    x, half = torch.randn(2, 6, *size), kernel // 2
    before_after = {"even": (half, half), "behind": (half - 1, half)}
    rows, columns = (before_after.get(padding) or same_padding(n, kernel, stride) for n in size)
    padded = F.pad(x, (*columns, *rows))
    want = norm(F.conv2d(padded, layer.weight, None, stride, groups=groups))
    assert torch.allclose(layer(x), want, atol=1e-4)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
@settings(deadline=None)
def test_windows_are_cut_and_put_together_again(height, width, window):
    x = torch.arange(2.0 * height * width * 3).view(2, height, width, 3)
    windows = partition(x, window)
    assert windows.shape[1:] == (window, window, 3)
    assert torch.equal(merge(windows, (height, width)), x)


def test_offsets_and_shifted_neighbours():
    index = offset_index(2, 3)
    places = [(row, column) for row in range(2) for column in range(3)]
    for i, (row, column) in enumerate(places):
        for j, (other_row, other_column) in enumerate(places):
            assert index[i, j] == (row - other_row + 1) * 5 + column - other_column + 2
    size, window, shift = (8, 12), 4, 2
    near = shift_mask(size, window, shift)
    numbers = torch.arange(8 * 12).view(1, 8, 12, 1)
    rolled = partition(numbers.roll((-shift, -shift), (1, 2)), window).flatten(1)
    for number, mask in zip(rolled, near, strict=True):
        rows, columns = number // 12, number % 12
        close = ((rows[:, None] - rows).abs() < window) & ((columns[:, None] - columns).abs() < window)
        assert torch.equal(mask, close)


def test_offset_vectors_of_another_length():
    table = torch.arange(5.0)[:, None]
    assert offset_vectors(table, 3)[:, :, 0].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    resized = F.interpolate(table.T[None], 7, mode="linear")[0].T
    assert torch.equal(offset_vectors(table, 4)[3], resized[[6, 5, 4, 3]])


@torch.no_grad()
def test_efficientnet_tokens_and_mid_stage():
    config = EfficientNetLite(mid_stage=5).tiny()
    model = built(config)
    packed = model([torch.randn(3, 64, 64), torch.randn(3, 64, 64)])
    assert packed.grids == (Grid(1, 2, 2),) * 2
    assert packed.tokens_ND.shape == (8, config.out_dim)
    assert config.out_dim == 32 + config.channels(5) * 4
    with pytest.raises(BeholderError, match="without its classifier"):
        model.classify(torch.randn(1, 3, 64, 64))
    classes = built(EfficientNetLite(classes=10).tiny())
    pixels = torch.randn(2, 3, 64, 64)
    tokens = classes(list(pixels)).tokens_ND.view(2, 4, -1).mean(1)
    assert torch.allclose(classes.classify(pixels), classes.classifier(tokens), atol=1e-5)


# transformers: convert_efficientnet_to_pytorch.py `dw_padding`
EVEN = ((), (16,), (5, 8, 16), (5, 18), (6,), (13, 27), (31,), (18,))


@pytest.mark.parametrize("number", range(8))
def test_official_padding_lists_are_same_padding_at_the_published_size(number):
    config = getattr(sizes, f"EFFICIENTNET_B{number}")
    side, even = -(-config.image_size // 2), []
    for stage, start in zip(config.stages, (0, *config.stage_ends), strict=False):
        if stage.stride > 1:
            even += [start] * (side % 2)
            side = -(-side // 2)
    assert config.image_size % 2 == 0
    assert config.but(even=tuple(even)).sides(config.image_size) == config.sides(config.image_size)
    assert tuple(even) == EVEN[number]


# --- small references of the papers, with plain operations


def plain_conv_norm(layer, x):
    return F.batch_norm(
        F.conv2d(x, layer.weight, None, layer.stride, layer.weight.shape[-1] // 2),
        layer.mean,
        layer.var,
        layer.scale,
        layer.bias,
        eps=1e-5,
    )


@torch.no_grad()
def test_clip_resnet_equals_the_formulas():
    """2103.00020 section 2.4: three convolutions and a mean in front, means before strided convolutions, and one round of
    multi-head attention in which the mean asks.
    """
    config = sizes.CLIP_RN50.tiny().but(depths=(1, 2, 1, 1))
    model = built(config)
    x = pixels = torch.randn(2, 3, 64, 64)
    for layer in model.stem:
        x = plain_conv_norm(layer, x).relu()
    x = F.avg_pool2d(x, 2)
    for number, stage in enumerate(model.stages):
        for index, block in enumerate(stage):
            step = 2 if number and index == 0 else 1
            y = plain_conv_norm(block.layers[1], plain_conv_norm(block.layers[0], x).relu()).relu()
            y = plain_conv_norm(block.layers[2], F.avg_pool2d(y, step))
            x = (y + (plain_conv_norm(block.shortcut, F.avg_pool2d(x, step)) if block.shortcut else x)).relu()
    cells = x.flatten(2).permute(2, 0, 1)
    cells = torch.cat((cells.mean(0, keepdim=True), cells)) + model.pool.positions[:, None]
    attn = model.pool.attn
    want, _ = F.multi_head_attention_forward(
        cells[:1],
        cells,
        cells,
        config.dim,
        config.pool_heads,
        None,
        torch.cat((attn.q.bias, attn.k.bias, attn.v.bias)),
        None,
        None,
        False,
        0.0,
        attn.out.weight,
        attn.out.bias,
        use_separate_proj_weight=True,
        q_proj_weight=attn.q.weight,
        k_proj_weight=attn.k.weight,
        v_proj_weight=attn.v.weight,
    )
    packed = model(list(pixels))
    assert torch.allclose(packed.tokens_ND, x.flatten(2).transpose(1, 2).flatten(0, 1), atol=1e-4)
    assert torch.allclose(packed.pooled_VD, want[0], atol=1e-4)


def plain_standard_conv(layer, x, stride):
    """Weights w = gain (w - mean) / (deviation sqrt(fan-in)), one output at a time."""
    kernels = []
    for weight, gain in zip(layer.weight, layer.gain, strict=True):
        fan_in = weight.numel()
        kernels.append(gain * (weight - weight.mean()) / (weight.var(correction=0).sqrt() * fan_in**0.5))
    kernel = layer.weight.shape[-1]
    rows, columns = (same_padding(n, kernel, stride) for n in x.shape[-2:])
    return F.conv2d(
        F.pad(x, (*columns, *rows)), torch.stack(kernels), layer.bias, stride, groups=layer.groups
    )


@pytest.mark.parametrize("name", ["nf-resnet", "nfnet"])
@torch.no_grad()
def test_nfnet_equals_the_formulas(name):
    """2102.06171 section 2: h + alpha f(h / beta), beta the deviation that variances of 1 and alpha^2 add up to."""
    config = TINY[name].tiny()
    model = built(config)
    gain, alpha = GAINS[config.act], 0.2

    def act(x):
        return {"relu": F.relu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh")}[config.act](x) * gain

    x = pixels = torch.randn(2, 3, 64, 64)
    strides = (2, 1, 1, 2) if config.deep_stem else (2,)
    for number, (layer, stride) in enumerate(zip(model.stem, strides, strict=True)):
        x = plain_standard_conv(layer, act(x) if number else x, stride)
    if not config.deep_stem:
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-math.inf), 3, 2)
    variance = 1.0
    for number, stage in enumerate(model.stages):
        for index, block in enumerate(stage):
            stride = 2 if number and index == 0 else 1
            y, shortcut = act(x) / math.sqrt(variance), x
            if block.shortcut is not None:
                pooled = F.avg_pool2d(y, 2) if config.averages and stride == 2 else y
                shortcut = plain_standard_conv(block.shortcut, pooled, 1 if config.averages else stride)
            for place, layer in enumerate(block.layers):
                y = plain_standard_conv(layer, act(y) if place else y, stride if place == 1 else 1)
            if block.gate is not None:
                means = y.mean((2, 3))
                y = 2 * y * block.gate.up(block.gate.down(means).relu()).sigmoid()[..., None, None]
            x = shortcut + alpha * block.gain * y
            variance = (1.0 if index == 0 else variance) + alpha**2
    x = act(plain_standard_conv(model.last, x, 1) if config.head else x)
    packed = model(list(pixels))
    want = x.flatten(2).transpose(1, 2).flatten(0, 1)
    assert (packed.tokens_ND - want).abs().max() / want.std() < 1e-4
    assert torch.allclose(packed.pooled_VD, x.mean((2, 3)), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_gates_and_gains_keep_the_variance():
    x = torch.randn(64, 32, 9, 9)
    for name, gain in GAINS.items():
        kept = {"relu": F.relu, "silu": F.silu}.get(name, F.gelu)(x) * gain
        assert abs(float(kept.var()) - 1) < 0.02
    layer = StandardConv(32, 48, 3)
    assert abs(float(layer(x)[..., 1:-1, 1:-1].var()) - 1) < 0.1
    gate = ChannelGate(32, 8, F.relu)
    gate.up.weight.zero_()
    gate.up.bias.zero_()
    assert torch.allclose(2 * gate(x), x)


@pytest.mark.parametrize(
    "config",
    [
        FocalNet(levels=(3, 2, 2, 2)).tiny(),
        FocalNet(overlap=True, after=True, scaled=True, norm_modulated=True, mean_levels=True).tiny(),
    ],
)
@torch.no_grad()
def test_focalnet_equals_the_formulas(config):
    """2203.11926 equations 4 to 7 in channels-first form: z_l = gelu(depthwise(z_l-1)), the last level the mean of the map."""
    model = built(config)
    pixels = torch.randn(2, 3, 64, 64)

    def norm(layer, x):
        mean, var = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * layer.weight[:, None, None] + layer.bias[:, None, None]

    def linear(layer, x):
        return torch.einsum("vchw,dc->vdhw", x, layer.weight) + layer.bias[:, None, None]

    def modulate(block, x):
        dim, levels = x.shape[1], len(block.surroundings)
        query, z, gates = linear(block.split, x).split((dim, dim, levels + 1), 1)
        total = 0
        for level, layer in enumerate(block.surroundings):
            kernel = 3 + 2 * level
            assert layer.weight.shape == (dim, 1, kernel, kernel)
            z = F.gelu(F.conv2d(z, layer.weight, None, 1, kernel // 2, groups=dim))
            total = total + gates[:, level, None] * z
        total = total + gates[:, levels, None] * F.gelu(z.mean((2, 3), keepdim=True))
        y = query * linear(block.mix, total / (levels + 1 if config.mean_levels else 1))
        return linear(block.out, norm(block.norm, y) if config.norm_modulated else y)

    def step(layer, x, stage):
        _, stride, padding = config.step(stage)
        return norm(layer.norm, F.conv2d(x, layer.conv.weight, layer.conv.bias, stride, padding))

    x = step(model.stem, pixels, 0)
    for number, stage in enumerate(model.stages):
        x = step(stage.down, x, number) if number else x
        for block in stage.blocks:
            for place, f in (
                (1, lambda x, block=block: modulate(block.mixer, x)),
                (2, lambda x, block=block: linear(block.mlp.down, F.gelu(linear(block.mlp.up, x)))),
            ):
                layer = getattr(block, f"norm{place}")
                y = norm(layer, f(x)) if config.after else f(norm(layer, x))
                x = x + y * (getattr(block, f"scale{place}")[:, None, None] if config.scaled else 1)
        assert torch.allclose(
            model([*pixels]).taps[number + 1].tokens_ND, x.permute(0, 2, 3, 1).flatten(0, 2), atol=1e-3
        )
    want = norm(model.norm, x).permute(0, 2, 3, 1).flatten(0, 2)
    assert torch.allclose(model([*pixels]).tokens_ND, want, atol=1e-4)


# --- names, and encoders inside systems


@pytest.mark.parametrize(
    ("config", "layout", "expected"),
    [
        (sizes.SAM_B, layouts.SEGMENT_ANYTHING, {"pos_embed", "blocks.0.attn.rel_pos_h", "neck.3.bias"}),
        (sizes.SAM2_HIERA_T, layouts.SEGMENT_ANYTHING_2, {"trunk.pos_embed_window", "neck.convs.3.conv.bias"}),
        (sizes.DAVIT_B, layouts.FLORENCE_2, {"convs.0.proj.bias", "blocks.2.0.channel_block.ffn.fn.net.fc1.bias"}),
        (sizes.CLIP_RN50, layouts.CLIP_RESNET, {"conv1.weight", "layer1.0.downsample.1.running_var", "attnpool.c_proj.bias"}),
        (sizes.RESNET_50.but(classes=10), layouts.TORCHVISION_RESNET, {"conv1.weight", "layer4.0.bn3.bias", "fc.weight"}),
        (sizes.CONVNEXT_V2_T.but(classes=10), layouts.TIMM_CONVNEXT, {"stem.1.bias", "stages.0.blocks.0.mlp.grn.weight"}),
        (sizes.CLIP_CONVNEXT_L, layouts.TIMM_CONVNEXT, {"stages.3.downsample.1.weight", "stages.0.blocks.0.gamma"}),
        (sizes.NFNET_F0.but(classes=10), layouts.TIMM_NFNET, {"stem.conv4.gain", "stages.1.0.downsample.conv.bias"}),
        (sizes.FOCALNET_L, layouts.FOCALNET, {"encoder.stages.0.layers.0.modulation.focal_layers.3.0.weight"}),
    ],
)  # fmt: skip
@torch.no_grad()
def test_published_names_and_back(config, layout, expected):
    """Names that no recorded checkpoint has: all parameters are published under them, and read again."""
    model = built(config.tiny())
    numbers = {"table": 4, "width": 16, "background": 3, "window": 8}
    naming = (Binding("visual.", "", layout, numbers),)
    published = to_published(state_tensors(model), naming)
    assert {f"visual.{name}" for name in expected} <= set(published)
    again = config.tiny().build()
    load_state(again, published, naming)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


INSIDE = {
    "sam": ("vision_config", "sam_vision_model", "vision_encoder.", "hook/vision_encoder/last_hidden_state"),
    "sam_hq": ("vision_config", "sam_hq_vision_model", "vision_encoder.", "hook/vision_encoder/last_hidden_state"),
    "sam2": ("vision_config", "sam2_vision_model", "vision_encoder.", "hook/vision_encoder.neck/0.1"),
    "got_ocr2": ("vision_config", "got_ocr2_vision", "vision_tower.", "hook/model.vision_tower/last_hidden_state"),
    "florence2": ("vision_config", "florence_vision", "model.vision_tower.", "hook/model.vision_tower/last_hidden_state"),
    "deepseek_vl_hybrid": (
        "high_res_vision_config",
        "sam_vision_model",
        "model.high_res_vision_model.vision_encoder.",
        "hook/model.high_res_vision_model/last_hidden_state",
    ),
    "donut": ("encoder", "donut-swin", "encoder.", "hook/encoder/last_hidden_state"),
}  # fmt: skip


@pytest.mark.parametrize("family", INSIDE)
@pytest.mark.filterwarnings("error::UserWarning")
@torch.no_grad()
def test_encoders_inside_systems_equal_the_official_ones(family, oracle):
    """One part of a system's checkpoint, found by its prefix."""
    folder = oracle(family)
    key, kind, prefix, recorded = INSIDE[family]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    read = read_encoder(Fields(config).part(key, kind))
    model = open_part(folder, read, prefix)
    inputs = open_weights(folder / "inputs.safetensors")
    pixels = inputs["high_res_pixel_values" if "high_res_pixel_values" in inputs else "pixel_values"].load()
    reference = open_weights(folder / "reference.safetensors")
    packed = model(list(pixels.flatten(0, -4)))
    stages = {recorded: packed.tokens_ND}
    for number, stage in packed.taps.items():
        for name in (f"vision_hidden_states.{number}", f"hook/vision_encoder.neck/0.{4 - number}"):
            if name in reference and ("neck" in name) == (family == "sam2"):
                stages[name] = stage.tokens_ND
    for name, ours in stages.items():
        theirs = reference[name].load()
        if theirs.ndim == 4 and theirs.shape[1] == ours.shape[1] and "hidden_states" not in name:
            theirs = theirs.permute(0, 2, 3, 1)
        error = (ours - theirs.reshape(ours.shape)).abs().max() / theirs.std()
        assert error < 1e-4, (name, float(error))
    exported = to_published(state_tensors(model), (Binding(prefix, "", read.layout, read.numbers),))
    part = {name: tensor for name, tensor in open_weights(folder).items() if name.startswith(prefix)}
    assert exported.keys() == part.keys()
    assert all(torch.equal(exported[name].load(), tensor.load()) for name, tensor in part.items())


@torch.no_grad()
def test_a_classifier_gives_the_official_scores(oracle):
    folder = oracle("resnet_cls")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = open_part(folder, read_encoder(Fields(config)), "")
    pixels = open_weights(folder / "inputs.safetensors")["pixel_values"].load()
    theirs = open_weights(folder / "reference.safetensors")["logits"].load()
    assert (model.classify(pixels) - theirs).abs().max() / theirs.std() < 1e-4


def test_damaged_settings_are_one_clear_line():
    for data, words in (
        ({"model_type": "resnet", "depths": [3, "4"]}, "depths is"),
        ({"model_type": "resnet", "depths": [4000, 4000]}, "8000 layers"),
        ({"model_type": "resnet", "layer_type": "wide"}, "unknown config.json: layer_type"),
        ({"model_type": "convnext", "image_size": [224, 192]}, "only squares"),
        ({"model_type": "swin", "use_absolute_embeddings": True}, "use_absolute_embeddings is True"),
        ({"model_type": "efficientnet", "hidden_dim": 1280}, "1280 scaled is 2560"),
        ({"model_type": "efficientnet", "in_channels": [32, 16]}, "in_channels"),
        (
            {"model_type": "hiera", "masked_unit_attention": [False, True, False, False]},
            "true up to some stage",
        ),
        ({"model_type": "hiera", "patch_stride": [2, 2]}, "patch_stride is"),
    ):
        with pytest.raises(BeholderError, match=words):
            read_encoder(Fields(data))


@pytest.mark.filterwarnings("error::UserWarning")
def test_files_for_classification_hold_the_model_under_its_name():
    data = {
        "model_type": "resnet",
        "architectures": ["ResNetForImageClassification"],
        "id2label": {"0": "a", "1": "b"},
    }
    read = read_encoder(Fields(data))
    assert read.config.classes == 2
    assert {"resnet.embedder.embedder.convolution.weight", "classifier.1.bias"} <= set(read.layout.rules)


def test_what_a_file_leaves_out():
    assert read_encoder(Fields({"model_type": "sam_vision_model"})).config == sizes.SAM_B
    assert read_encoder(Fields({"model_type": "florence_vision"})).config == sizes.DAVIT_B
    assert read_encoder(Fields({"model_type": "focalnet"})).config == sizes.FOCALNET_T_SRF
    b7 = sizes.EFFICIENTNET_B7.but(even=())
    assert read_encoder(Fields({"model_type": "efficientnet"})).config == b7
    sam2 = read_encoder(Fields({"model_type": "sam2_vision_model"}))
    assert sam2.config == sizes.SAM2_HIERA_T
    assert isinstance(read_encoder(Fields({"model_type": "vitdet"})).config, VitDet)
    assert isinstance(b7, EfficientNet)
