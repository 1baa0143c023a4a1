"""Vision transformers without an official implementation at hand: small references written from the papers, whose modules
have the publishers' names, and their weights through our layouts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.parts.blocks.transformer import Arrangement
from beholder.parts.vision import sizes
from beholder.parts.vision.vit import Take, ViT
from beholder.weights.layout import Binding, Layout, to_published
from beholder.weights.layouts import vision as layouts
from beholder.weights.lazy import lazy
from beholder.weights.load import load_state, state_tensors
from beholder.weights.open import open_official

DIM, HEADS, LAYERS, HIDDEN, PATCH, SIDE = 32, 4, 2, 48, 7, 3


def small(config: ViT, *, hidden: int = HIDDEN, **changes: object) -> ViT:
    """A published size at the width of the references below."""
    shrunk = config.but(image_size=PATCH * SIDE, patch=PATCH, dim=DIM, num_layers=LAYERS, **changes)
    return shrunk.but(**{"attention.num_heads": HEADS, "mlp.hidden": hidden})


class Reference(nn.Module):
    """Shared by all: patches by unfolding, and layers named by a prefix."""

    patch_weight = "patch_embed.proj.weight"

    def patches(self, pixels: Tensor) -> Tensor:
        weight = self.get_parameter(self.patch_weight).flatten(1)
        x = F.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2) @ weight.T
        bias = self.patch_weight.replace("weight", "bias")
        return x + self.get_parameter(bias) if bias in dict(self.named_parameters()) else x


def heads(x: Tensor) -> Tensor:
    return x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (heads(q) @ heads(k).transpose(-1, -2) / (DIM // HEADS) ** 0.5).softmax(-1)
    return (weights @ heads(v)).transpose(1, 2).flatten(2)


def turned(x: Tensor, side: int, reference: int) -> Tensor:
    """EVA-02's rotary positions (2303.11331) as complex numbers: rows turn the first half of a head's channels."""
    quarter = DIM // HEADS // 4
    rates = 10000.0 ** -(torch.arange(quarter) / quarter)
    places = torch.arange(side) / side * reference
    angles = torch.cat(
        (
            (places[:, None] * rates).repeat_interleave(side, 0),
            (places[:, None] * rates).repeat(side, 1),
        ),
        -1,
    )
    numbers = torch.view_as_complex(heads(x)[:, :, 1:].unflatten(-1, (-1, 2)).contiguous())
    y = torch.view_as_real(numbers * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
    return torch.cat((heads(x)[:, :, :1], y), 2).transpose(1, 2).flatten(2)


def linear(*shape: int, bias: bool = True) -> nn.Linear:
    return nn.Linear(*shape, bias=bias)


class EvaLayer(nn.Module):
    """EVA-01 (2211.07636), EVA-02 (sub-LN, SwiGLU, rotary) and EVA-02-E (norms behind), as EVA-CLIP names them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, two = kind, kind in ("02", "timm")
        self.norm1, self.norm2 = nn.LayerNorm(DIM, 1e-6), nn.LayerNorm(DIM, 1e-6)
        self.attn, self.mlp = nn.Module(), nn.Module()
        attn, mlp = self.attn, self.mlp
        if kind == "timm":
            attn.q_proj, attn.k_proj = linear(DIM, DIM), linear(DIM, DIM, bias=False)
            attn.v_proj, attn.norm = linear(DIM, DIM), nn.LayerNorm(DIM, 1e-6)
            mlp.fc1_g, mlp.fc1_x, mlp.fc2 = linear(DIM, HIDDEN), linear(DIM, HIDDEN), linear(HIDDEN, DIM)
            mlp.norm = nn.LayerNorm(HIDDEN, 1e-6)
        else:
            attn.q_bias, attn.v_bias = (nn.Parameter(torch.zeros(DIM)) for _ in range(2))
        if kind == "02":
            for part in "qkv":
                setattr(attn, f"{part}_proj", linear(DIM, DIM, bias=False))
            attn.inner_attn_ln = nn.LayerNorm(DIM, 1e-6)
            mlp.w1, mlp.w2, mlp.w3 = linear(DIM, HIDDEN), linear(DIM, HIDDEN), linear(HIDDEN, DIM)
            mlp.ffn_ln = nn.LayerNorm(HIDDEN, 1e-6)
        elif not two:
            attn.qkv = linear(DIM, 3 * DIM, bias=False)
            mlp.fc1, mlp.fc2 = linear(DIM, HIDDEN), linear(HIDDEN, DIM)
        attn.proj = linear(DIM, DIM)

    def attention(self, x: Tensor) -> Tensor:
        attn = self.attn
        if self.kind == "timm":
            q, k, v = attn.q_proj(x), attn.k_proj(x), attn.v_proj(x)
        elif self.kind == "02":
            q, k, v = attn.q_proj(x) + attn.q_bias, attn.k_proj(x), attn.v_proj(x) + attn.v_bias
        else:
            q, k, v = attn.qkv(x).chunk(3, -1)
            q, v = q + attn.q_bias, v + attn.v_bias
        if self.kind not in ("02", "timm"):
            return attn.proj(attended(q, k, v))
        norm = attn.norm if self.kind == "timm" else attn.inner_attn_ln
        return attn.proj(norm(attended(turned(q, SIDE, 16), turned(k, SIDE, 16), v)))

    def feed(self, x: Tensor) -> Tensor:
        mlp = self.mlp
        if self.kind == "timm":
            return mlp.fc2(mlp.norm(F.silu(mlp.fc1_g(x)) * mlp.fc1_x(x)))
        if self.kind == "02":
            return mlp.w3(mlp.ffn_ln(F.silu(mlp.w1(x)) * mlp.w2(x)))
        return mlp.fc2(F.gelu(mlp.fc1(x)))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "E":
            x = x + self.norm1(self.attention(x))
            return x + self.norm2(self.feed(x))
        x = x + self.attention(self.norm1(x))
        return x + self.feed(self.norm2(x))


class Eva(Reference):
    """A class token, a table of positions, the layers, a norm."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.pos_embed = nn.Parameter(torch.zeros(1, SIDE**2 + 1, DIM))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, DIM, PATCH, PATCH)
        self.blocks = nn.ModuleList(EvaLayer(kind) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(DIM, 1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        x = torch.cat((self.cls_token.expand(len(pixels), -1, -1), self.patches(pixels)), 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class OpenClip(Reference):
    """CLIP's encoder (2103.00020) with torch's own attention, as OpenAI and OpenCLIP name it."""

    patch_weight = "conv1.weight"

    def __init__(self) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(DIM))
        self.positional_embedding = nn.Parameter(torch.zeros(SIDE**2 + 1, DIM))
        self.conv1 = nn.Conv2d(3, DIM, PATCH, PATCH, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList()
        for _ in range(LAYERS):
            block = nn.Module()
            block.ln_1, block.ln_2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
            block.attn = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
            block.mlp = nn.Module()
            block.mlp.c_fc, block.mlp.c_proj = linear(DIM, HIDDEN), linear(HIDDEN, DIM)
            self.transformer.resblocks.append(block)

    def forward(self, pixels: Tensor) -> Tensor:
        front = self.class_embedding.expand(len(pixels), 1, -1)
        x = self.ln_pre(torch.cat((front, self.patches(pixels)), 1) + self.positional_embedding)
        for block in self.transformer.resblocks:
            y = block.ln_1(x)
            x = x + block.attn(y, y, y, need_weights=False)[0]
            x = x + block.mlp.c_proj(F.gelu(block.mlp.c_fc(block.ln_2(x))))
        return self.ln_post(x)


class Timm(Reference):
    """DINOv2's encoder (2304.07193) as its authors name it: registers after the class token, layer scales, gates or not."""

    def __init__(self, *, gated: bool, registers: str) -> None:
        super().__init__()
        self.gated, self.register_name = gated, registers
        self.cls_token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.pos_embed = nn.Parameter(torch.zeros(1, SIDE**2 + 1, DIM))
        if registers:
            setattr(self, registers, nn.Parameter(torch.zeros(1, 2, DIM)))
        if registers == "register_tokens":
            self.mask_token = nn.Parameter(torch.zeros(1, DIM))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, DIM, PATCH, PATCH)
        self.blocks = nn.ModuleList()
        for _ in range(LAYERS):
            block = nn.Module()
            block.norm1, block.norm2 = nn.LayerNorm(DIM, 1e-6), nn.LayerNorm(DIM, 1e-6)
            block.attn, block.mlp, block.ls1, block.ls2 = (nn.Module() for _ in range(4))
            block.attn.qkv, block.attn.proj = linear(DIM, 3 * DIM), linear(DIM, DIM)
            block.ls1.gamma, block.ls2.gamma = (nn.Parameter(torch.ones(DIM)) for _ in range(2))
            if gated:
                block.mlp.w12, block.mlp.w3 = linear(DIM, 2 * HIDDEN), linear(HIDDEN, DIM)
            else:
                block.mlp.fc1, block.mlp.fc2 = linear(DIM, HIDDEN), linear(HIDDEN, DIM)
            self.blocks.append(block)
        self.norm = nn.LayerNorm(DIM, 1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        x = torch.cat((self.cls_token.expand(len(pixels), -1, -1), self.patches(pixels)), 1) + self.pos_embed
        if self.register_name:
            extra = getattr(self, self.register_name).expand(len(pixels), -1, -1)
            x = torch.cat((x[:, :1], extra, x[:, 1:]), 1)
        for block in self.blocks:
            y = attended(*block.attn.qkv(block.norm1(x)).chunk(3, -1))
            x = x + block.ls1.gamma * block.attn.proj(y)
            y = block.norm2(x)
            if self.gated:
                gate, up = block.mlp.w12(y).chunk(2, -1)
                y = block.mlp.w3(F.silu(gate) * up)
            else:
                y = block.mlp.fc2(F.gelu(block.mlp.fc1(y)))
            x = x + block.ls2.gamma * y
        return self.norm(x)


class InternVit(Reference):
    """InternViT (2312.14238) as OpenGVLab names it: queries and keys normed over all channels, RMSNorm."""

    patch_weight = "embeddings.patch_embedding.weight"

    def __init__(self) -> None:
        super().__init__()
        self.embeddings, self.encoder = nn.Module(), nn.Module()
        self.embeddings.class_embedding = nn.Parameter(torch.zeros(1, 1, DIM))
        self.embeddings.position_embedding = nn.Parameter(torch.zeros(1, SIDE**2 + 1, DIM))
        self.embeddings.patch_embedding = nn.Conv2d(3, DIM, PATCH, PATCH)
        self.encoder.layers = nn.ModuleList()
        for _ in range(LAYERS):
            layer = nn.Module()
            layer.attn, layer.mlp = nn.Module(), nn.Module()
            layer.norm1, layer.norm2 = (nn.RMSNorm(DIM, 1e-6) for _ in range(2))
            layer.attn.q_norm, layer.attn.k_norm = (nn.RMSNorm(DIM, 1e-6) for _ in range(2))
            layer.attn.qkv, layer.attn.proj = linear(DIM, 3 * DIM, bias=False), linear(DIM, DIM)
            layer.mlp.fc1, layer.mlp.fc2 = linear(DIM, HIDDEN), linear(HIDDEN, DIM)
            layer.ls1, layer.ls2 = (nn.Parameter(torch.ones(DIM)) for _ in range(2))
            self.encoder.layers.append(layer)

    def forward(self, pixels: Tensor) -> Tensor:
        inner = self.embeddings
        x = torch.cat((inner.class_embedding.expand(len(pixels), -1, -1), self.patches(pixels)), 1)
        x = x + inner.position_embedding
        for layer in self.encoder.layers:
            q, k, v = layer.attn.qkv(layer.norm1(x)).chunk(3, -1)
            y = attended(layer.attn.q_norm(q), layer.attn.k_norm(k), v)
            x = x + layer.ls1 * layer.attn.proj(y)
            x = x + layer.ls2 * layer.mlp.fc2(F.gelu(layer.mlp.fc1(layer.norm2(x))))
        return x


class Aimv2(Reference):
    """AIMv2 (2411.14402) as Apple names it: patches normed before positions, RMSNorm, SwiGLU, no biases."""

    patch_weight = "preprocessor.patchifier.proj.weight"

    def __init__(self) -> None:
        super().__init__()
        self.preprocessor, self.trunk = nn.Module(), nn.Module()
        self.preprocessor.pos_embed = nn.Parameter(torch.zeros(1, SIDE**2, DIM))
        self.preprocessor.patchifier = nn.Module()
        self.preprocessor.patchifier.proj = nn.Conv2d(3, DIM, PATCH, PATCH)
        self.preprocessor.patchifier.norm = nn.RMSNorm(DIM, 1e-5)
        self.trunk.blocks = nn.ModuleList()
        for _ in range(LAYERS):
            block = nn.Module()
            block.attn, block.mlp = nn.Module(), nn.Module()
            block.norm_1, block.norm_2 = (nn.RMSNorm(DIM, 1e-5) for _ in range(2))
            block.attn.qkv, block.attn.proj = linear(DIM, 3 * DIM, bias=False), linear(DIM, DIM, bias=False)
            block.mlp.fc1, block.mlp.fc3 = (linear(DIM, HIDDEN, bias=False) for _ in range(2))
            block.mlp.fc2 = linear(HIDDEN, DIM, bias=False)
            self.trunk.blocks.append(block)
        self.trunk.post_trunk_norm = nn.RMSNorm(DIM, 1e-5)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.preprocessor.patchifier.norm(self.patches(pixels)) + self.preprocessor.pos_embed
        for block in self.trunk.blocks:
            x = x + block.attn.proj(attended(*block.attn.qkv(block.norm_1(x)).chunk(3, -1)))
            y = block.norm_2(x)
            x = x + block.mlp.fc2(F.silu(block.mlp.fc1(y)) * block.mlp.fc3(y))
        return self.trunk.post_trunk_norm(x)


class Pixtral(Reference):
    """Pixtral's encoder (2410.07073) as Mistral names it: of the frequencies rows have the even ones, columns the odd."""

    patch_weight = "patch_conv.weight"

    def __init__(self) -> None:
        super().__init__()
        self.patch_conv = nn.Conv2d(3, DIM, PATCH, PATCH, bias=False)
        self.ln_pre = nn.RMSNorm(DIM, 1e-5)
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList()
        for _ in range(LAYERS):
            layer = nn.Module()
            layer.attention, layer.feed_forward = nn.Module(), nn.Module()
            layer.attention_norm, layer.ffn_norm = (nn.RMSNorm(DIM, 1e-5) for _ in range(2))
            for part in "qkvo":
                setattr(layer.attention, f"w{part}", linear(DIM, DIM, bias=False))
            layer.feed_forward.w1, layer.feed_forward.w3 = (linear(DIM, HIDDEN, bias=False) for _ in range(2))
            layer.feed_forward.w2 = linear(HIDDEN, DIM, bias=False)
            self.transformer.layers.append(layer)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.ln_pre(self.patches(pixels))
        rates = 10000.0 ** -(torch.arange(0, DIM // HEADS, 2) / (DIM // HEADS))
        places = torch.arange(SIDE)[:, None]
        by_row = (places * rates[::2]).repeat_interleave(SIDE, 0)
        angles = torch.cat((by_row, (places * rates[1::2]).repeat(SIDE, 1)), -1)

        def turn(x: Tensor) -> Tensor:
            numbers = torch.view_as_complex(heads(x).unflatten(-1, (-1, 2)).contiguous())
            y = torch.view_as_real(numbers * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
            return y.transpose(1, 2).flatten(2)

        for layer in self.transformer.layers:
            y, attn, mlp = layer.attention_norm(x), layer.attention, layer.feed_forward
            x = x + attn.wo(attended(turn(attn.wq(y)), turn(attn.wk(y)), attn.wv(y)))
            y = layer.ffn_norm(x)
            x = x + mlp.w2(F.silu(mlp.w1(y)) * mlp.w3(y))
        return x


DINOV2 = sizes.DINOV2_B_14
CASES: Mapping[str, tuple[Callable[[], Reference], ViT, Layout]] = {
    "OpenCLIP": (OpenClip, small(sizes.OPEN_CLIP_H_14, take=Take()), layouts.OPEN_CLIP),
    "EVA-CLIP": (lambda: Eva("01"), small(sizes.EVA_CLIP_G_14), layouts.EVA_CLIP),
    "EVA-02-CLIP": (lambda: Eva("02"), small(sizes.EVA02_CLIP_L_14), layouts.EVA02_CLIP),
    "EVA-02-CLIP E": (lambda: Eva("E"), small(sizes.EVA02_CLIP_E_14), layouts.EVA02_CLIP_E),
    "timm EVA-02": (lambda: Eva("timm"), small(sizes.EVA02_CLIP_L_14), layouts.EVA02_TIMM),
    "timm ViT": (
        lambda: Timm(gated=False, registers=""),
        small(sizes.VIT_B_16, arrangement=Arrangement(layer_scale=1.0)),
        layouts.TIMM_VIT,
    ),
    "timm registers": (
        lambda: Timm(gated=False, registers="reg_token"),
        small(DINOV2, registers=2, mask_token=False),
        layouts.TIMM_VIT,
    ),
    "DINOv2": (
        lambda: Timm(gated=False, registers="register_tokens"),
        small(DINOV2, registers=2),
        layouts.DINOV2_ORIGINAL,
    ),
    "DINOv2 giant": (
        lambda: Timm(gated=True, registers="register_tokens"),
        small(sizes.DINOV2_G_14, registers=2),
        layouts.DINOV2_ORIGINAL_GATED,
    ),
    "InternViT": (InternVit, small(sizes.INTERN_VIT_6B_224), layouts.INTERN_VIT),
    "AIMv2": (Aimv2, small(sizes.AIMV2_L_14), layouts.AIMV2_ORIGINAL),
    "Pixtral": (Pixtral, small(sizes.PIXTRAL), layouts.PIXTRAL_ORIGINAL),
}


def random_state(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter away from its start value."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return {name: value.detach() for name, value in module.named_parameters()}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_publishers_names_and_numbers(name: str) -> None:
    build, config, layout = CASES[name]
    reference = build().eval()
    published = random_state(reference)
    model, binding = config.build().eval(), Binding("visual.", "", layout, {"num_heads": HEADS})
    load_state(model, {f"visual.{key}": lazy(key, value) for key, value in published.items()}, (binding,))
    pixels = torch.randn(2, 3, PATCH * SIDE, PATCH * SIDE)
    want = reference(pixels)
    packed = model(list(pixels))
    patches = torch.stack(packed.split())
    assert float((patches - want[:, config.front :]).abs().max() / want.std()) < 1e-5
    if config.pool is not None:
        assert packed.pooled_VD is not None
        assert float((packed.pooled_VD - want[:, 0]).abs().max() / want.std()) < 1e-5
    back = to_published(state_tensors(model), (binding,))
    assert {key.removeprefix("visual.") for key in back} == set(published)
    assert all(torch.equal(back[f"visual.{key}"].load(), value) for key, value in published.items())


def test_rotary_tables_in_files_of_eva_are_dropped() -> None:
    model = CASES["EVA-02-CLIP"][1].build()
    published = random_state(Eva("02"))
    published |= {
        f"{prefix}rope.freqs_{table}": torch.zeros(9, 8)
        for prefix in ("", "blocks.0.attn.", "blocks.1.attn.")
        for table in ("cos", "sin")
    }
    tensors = {key: lazy(key, value) for key, value in published.items()}
    load_state(model, tensors, (Binding("", "", layouts.EVA02_CLIP),))


def test_an_encoder_out_of_masked_pretraining(oracle: Callable[[str], Path], tmp_path: Path) -> None:
    """MAE's releases hold a decoder besides, which is left out."""
    folder = oracle("vit_mae_enc")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["ViTMAEForPreTraining"]}))
    weights = {f"vit.{key}": value for key, value in load_file(folder / "model.safetensors").items()}
    decoder = {
        "decoder.mask_token": torch.zeros(1, 1, 8),
        "decoder.decoder_layers.0.norm.weight": torch.ones(8),
    }
    save_file(weights | decoder, tmp_path / "model.safetensors")
    ours, theirs = (open_official(path).model.state_dict() for path in (tmp_path, folder))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_queries_keys_and_values_of_qwen_vl_are_together_by_head() -> None:
    """Rows of the joined matrix: for each head its queries, keys, values."""
    config = small(sizes.QWEN_VL)
    model = config.build()
    random_state(model)
    binding = Binding("", "", layouts.QWEN_VL, {"num_heads": HEADS})
    published = to_published(state_tensors(model), (binding,))
    joined = published["transformer.resblocks.1.attn.in_proj.weight"].load().view(HEADS, 3, DIM // HEADS, DIM)
    attn = model.blocks[1].attn
    for number, part in enumerate((attn.q, attn.k, attn.v)):
        assert torch.equal(joined[:, number].flatten(0, 1), part.weight)
    assert published["positional_embedding"].shape == (SIDE**2, DIM)


def test_a_projection_of_openclip_is_the_other_way_round() -> None:
    rows = torch.arange(6.0).view(2, 3)
    binding = Binding("visual.", "connector.", layouts.OPEN_CLIP_PROJECTION)
    assert torch.equal(
        to_published({"connector.linear.weight": rows}, (binding,))["visual.proj"].load(), rows.T
    )


def _all_layouts() -> Iterator[Layout]:
    yield from (value for value in vars(layouts).values() if isinstance(value, Layout))
    yield from (layouts.beit(shared=shared, mean=mean) for shared in (False, True) for mean in (False, True))


def test_layouts_publish_each_parameter_once() -> None:
    for layout in _all_layouts():
        targets = [target for rule in layout.parsed for target in rule.targets]
        assert len(targets) == len(set(targets)), layout.name
