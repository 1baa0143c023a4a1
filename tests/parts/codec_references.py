"""Tokenizers written once more from their papers, as plain functions of published tensors by their published names."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def convolve(w, key, x, **settings):
    return F.conv2d(x, w[f"{key}.weight"], w[f"{key}.bias"], **settings)


def group_norm(w, key, x, codes=None):
    """With codes: MoVQ's norm, scaled and shifted by maps of the code at each place."""
    if f"{key}.norm_layer.weight" not in w:
        return F.group_norm(x, 32, w[f"{key}.weight"], w[f"{key}.bias"], 1e-6)
    near = codes.repeat_interleave(x.shape[2] // codes.shape[2], 2)
    near = near.repeat_interleave(x.shape[3] // codes.shape[3], 3)
    y = F.group_norm(x, 32, w[f"{key}.norm_layer.weight"], w[f"{key}.norm_layer.bias"], 1e-6)
    return y * convolve(w, f"{key}.conv_y", near) + convolve(w, f"{key}.conv_b", near)


def swish(x):
    return x * torch.sigmoid(x)


def residual(w, key, x, codes=None):
    y = convolve(w, f"{key}.conv1", swish(group_norm(w, f"{key}.norm1", x, codes)), padding=1)
    y = convolve(w, f"{key}.conv2", swish(group_norm(w, f"{key}.norm2", y, codes)), padding=1)
    return y + (convolve(w, f"{key}.nin_shortcut", x) if f"{key}.nin_shortcut.weight" in w else x)


def attention(w, key, x, codes=None):
    y = group_norm(w, f"{key}.norm", x, codes)
    q, k, v = (convolve(w, f"{key}.{name}", y).flatten(2) for name in "qkv")
    weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / q.shape[1] ** 0.5, -1)
    y = torch.einsum("bij,bcj->bci", weights, v).view(x.shape)
    return x + convolve(w, f"{key}.proj_out", y)


TAMING = {
    "down": "encoder.down",
    "up": "decoder.up",
    "block": "block",
    "middle": ("block_1", "attn_1", "block_2"),
}
LLAMAGEN = {
    "down": "encoder.conv_blocks",
    "up": "decoder.conv_blocks",
    "block": "res",
    "middle": ("0", "1", "2"),
}


def levels_of(w, key):
    return sorted({int(name[len(key) + 1 :].split(".")[0]) for name in w if name.startswith(key + ".")})


def level(w, key, block, x, codes=None):
    for number in levels_of(w, f"{key}.{block}"):
        x = residual(w, f"{key}.{block}.{number}", x, codes)
        if f"{key}.attn.{number}.q.weight" in w:
            x = attention(w, f"{key}.attn.{number}", x, codes)
    return x


def middle(w, side, names, x, codes=None):
    first, attn, second = (f"{side}.mid.{name}" for name in names["middle"])
    return residual(w, second, attention(w, attn, residual(w, first, x, codes), codes), codes)


def vqgan_encoder(w, names, x):
    """VQ-GAN, table 7: halved at each level but the last by a convolution padded below and to the right."""
    x = convolve(w, "encoder.conv_in", x, padding=1)
    for number in levels_of(w, names["down"]):
        key = f"{names['down']}.{number}"
        x = level(w, key, names["block"], x)
        if f"{key}.downsample.conv.weight" in w:
            x = convolve(w, f"{key}.downsample.conv", F.pad(x, (0, 1, 0, 1)), stride=2)
    x = middle(w, "encoder", names, x)
    return convolve(w, "encoder.conv_out", swish(group_norm(w, "encoder.norm_out", x)), padding=1)


def vqgan_decoder(w, names, x, codes=None, *, reverse=True):
    x = middle(w, "decoder", names, convolve(w, "decoder.conv_in", x, padding=1), codes)
    order = levels_of(w, names["up"])
    for number in reversed(order) if reverse else order:
        key = f"{names['up']}.{number}"
        x = level(w, key, names["block"], x, codes)
        if f"{key}.upsample.conv.weight" in w:
            x = convolve(
                w, f"{key}.upsample.conv", x.repeat_interleave(2, 2).repeat_interleave(2, 3), padding=1
            )
    return convolve(w, "decoder.conv_out", swish(group_norm(w, "decoder.norm_out", x, codes)), padding=1)


def nearest(x_NC, table_KC):
    return torch.cdist(x_NC.double(), table_KC.double()).argmin(1)


def vit(w, key, x, heads):
    """ViT-VQGAN: pre-norm layers with tanh inside the MLP, a norm at the end."""
    for number in levels_of(w, f"{key}.transformer.layers"):
        own = f"{key}.transformer.layers.{number}"
        y = F.layer_norm(x, x.shape[-1:], w[f"{own}.0.norm.weight"], w[f"{own}.0.norm.bias"])
        q, k, v = (y @ w[f"{own}.0.fn.to_qkv.weight"].T).chunk(3, -1)
        q, k, v = (z.unflatten(-1, (heads, -1)) for z in (q, k, v))
        scores = torch.einsum("bihc,bjhc->bhij", q, k) / q.shape[-1] ** 0.5
        y = torch.einsum("bhij,bjhc->bihc", scores.softmax(-1), v).flatten(2)
        x = x + y @ w[f"{own}.0.fn.to_out.weight"].T + w[f"{own}.0.fn.to_out.bias"]
        y = F.layer_norm(x, x.shape[-1:], w[f"{own}.1.norm.weight"], w[f"{own}.1.norm.bias"])
        y = torch.tanh(y @ w[f"{own}.1.fn.net.0.weight"].T + w[f"{own}.1.fn.net.0.bias"])
        x = x + y @ w[f"{own}.1.fn.net.2.weight"].T + w[f"{own}.1.fn.net.2.bias"]
    return F.layer_norm(
        x, x.shape[-1:], w[f"{key}.transformer.norm.weight"], w[f"{key}.transformer.norm.bias"]
    )


class Sea:
    """SpeechTokenizer's SEANet with centred convolutions; layers are numbered as published."""

    def __init__(self, w, *, ratios, repeats, growth):
        self.w, self.ratios, self.repeats, self.growth = w, ratios, repeats, growth

    def normed(self, key):
        g, v = self.w[f"{key}.weight_g"], self.w[f"{key}.weight_v"]
        return g * v / v.pow(2).sum((1, 2), keepdim=True).sqrt()

    def conv(self, key, x, stride=1, dilation=1):
        weight = self.normed(f"{key}.conv.conv")
        total = (weight.shape[2] - 1) * dilation + 1 - stride
        right = total // 2
        x = F.pad(x, (total - right, right + -x.shape[-1] % stride), "reflect")
        return F.conv1d(x, weight, self.w[f"{key}.conv.conv.bias"], stride, dilation=dilation)

    def transposed(self, key, x, ratio):
        y = F.conv_transpose1d(
            x, self.normed(f"{key}.convtr.convtr"), self.w[f"{key}.convtr.convtr.bias"], ratio
        )
        right = ratio // 2
        return y[..., ratio - right : y.shape[-1] - right]

    def act(self, key, x):
        if f"{key}.alpha" in self.w:
            alpha = self.w[f"{key}.alpha"]
            return x + torch.sin(alpha * x) ** 2 / alpha
        return torch.where(x > 0, x, torch.expm1(x))

    def block(self, key, x, dilation):
        y = self.conv(f"{key}.block.1", self.act(f"{key}.block.0", x), dilation=dilation)
        y = self.conv(f"{key}.block.3", self.act(f"{key}.block.2", y))
        return self.conv(f"{key}.shortcut", x) + y

    def lstm_layer(self, key, x, suffix):
        """LSTM (1997) with gates in the order input, forget, cell, output; x is (T, B, C)."""
        weight_x, weight_h, bias_x, bias_h = (
            self.w[f"{key}.lstm.{name}_{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h = c = x.new_zeros(x.shape[1], weight_h.shape[1])
        outputs = []
        for step in reversed(x) if suffix.endswith("_reverse") else x:
            i, f, g, o = (step @ weight_x.T + bias_x + h @ weight_h.T + bias_h).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs[::-1] if suffix.endswith("_reverse") else outputs)

    def lstm(self, key, x):
        x = x.permute(2, 0, 1)
        y, number = x, 0
        while f"{key}.lstm.weight_ih_l{number}" in self.w:
            ways = [f"l{number}"]
            ways += [f"l{number}_reverse"] if f"{key}.lstm.weight_ih_l{number}_reverse" in self.w else []
            y = torch.cat([self.lstm_layer(key, y, way) for way in ways], -1)
            number += 1
        return (y + x.repeat(1, 1, y.shape[2] // x.shape[2])).permute(1, 2, 0)

    def encoder(self, x):
        x, at = self.conv("encoder.model.0", x), 1
        for ratio in reversed(self.ratios):
            for number in range(self.repeats):
                x, at = self.block(f"encoder.model.{at}", x, self.growth**number), at + 1
            x = self.conv(f"encoder.model.{at + 1}", self.act(f"encoder.model.{at}", x), ratio)
            at += 2
        x = self.lstm(f"encoder.model.{at}", x)
        return self.conv(f"encoder.model.{at + 2}", self.act(f"encoder.model.{at + 1}", x))

    def decoder(self, x):
        x, at = self.lstm("decoder.model.1", self.conv("decoder.model.0", x)), 2
        for ratio in self.ratios:
            x = self.transposed(f"decoder.model.{at + 1}", self.act(f"decoder.model.{at}", x), ratio)
            at += 2
            for number in range(self.repeats):
                x, at = self.block(f"decoder.model.{at}", x, self.growth**number), at + 1
        return self.conv(f"decoder.model.{at + 1}", self.act(f"decoder.model.{at}", x))


def seed_latents(w, queries_VQE):
    """What SEED quantizes, (V Q, D): two maps with a tanh between them."""
    x = torch.tanh(queries_VQE @ w["encode_task_layer.0.weight"].T + w["encode_task_layer.0.bias"])
    return (x @ w["encode_task_layer.2.weight"].T + w["encode_task_layer.2.bias"]).flatten(0, 1)


def seed_vector(w, codes_VTD, heads):
    """SEED's way back from code vectors: two maps, positions, pre-norm layers, a shrinking MLP on each token."""

    def linear(key, x):
        y = x @ w[f"{key}.weight"].T
        return y + w[f"{key}.bias"] if f"{key}.bias" in w else y

    x = (
        linear("decode_task_layer.2", torch.tanh(linear("decode_task_layer.0", codes_VTD)))
        + w["pos_embed_image"]
    )
    for number in levels_of(w, "blocks_image"):
        own = f"blocks_image.{number}"
        y = F.layer_norm(x, x.shape[-1:], w[f"{own}.norm1.weight"], w[f"{own}.norm1.bias"], 1e-6)
        q, k, v = (z.unflatten(-1, (heads, -1)) for z in linear(f"{own}.attn.qkv", y).chunk(3, -1))
        scores = torch.einsum("bihc,bjhc->bhij", q, k) / q.shape[-1] ** 0.5
        x = x + linear(f"{own}.attn.proj", torch.einsum("bhij,bjhc->bihc", scores.softmax(-1), v).flatten(2))
        y = F.layer_norm(x, x.shape[-1:], w[f"{own}.norm2.weight"], w[f"{own}.norm2.bias"], 1e-6)
        x = x + linear(f"{own}.mlp.fc2", F.gelu(linear(f"{own}.mlp.fc1", y)))
    numbers = levels_of(w, "image_down")
    for number in numbers:
        x = linear(f"image_down.{number}", x)
        x = x if number == numbers[-1] else x.clamp(min=0)
    return linear("distill_image_proj", x.flatten(1))


def causal_queries(w, features_VSE, heads):
    """BERT's post-norm layers over queries that see those before them and, in every other layer, all features."""

    def linear(key, x):
        return x @ w[f"{key}.weight"].T + w[f"{key}.bias"]

    def norm(key, x, eps=1e-12):
        return F.layer_norm(x, x.shape[-1:], w[f"{key}.weight"], w[f"{key}.bias"], eps)

    def attend(key, x, y, mask):
        q, k, v = (
            linear(f"{key}.self.{name}", z).unflatten(-1, (heads, -1))
            for name, z in (("query", x), ("key", y), ("value", y))
        )
        scores = torch.einsum("bihc,bjhc->bhij", q, k) / q.shape[-1] ** 0.5 + mask
        seen = torch.einsum("bhij,bjhc->bihc", scores.softmax(-1), v).flatten(2)
        return norm(f"{key}.output.LayerNorm", x + linear(f"{key}.output.dense", seen))

    memory = norm("ln_vision", features_VSE, 1e-5)
    x = norm("Qformer.bert.embeddings.LayerNorm", w["query_tokens"]).expand(len(memory), -1, -1)
    later = torch.full((x.shape[1], x.shape[1]), -torch.inf).triu(1)
    for number in levels_of(w, "Qformer.bert.encoder.layer"):
        own = f"Qformer.bert.encoder.layer.{number}"
        x = attend(f"{own}.attention", x, x, later)
        if number % 2 == 0:
            x = attend(f"{own}.crossattention", x, memory, torch.zeros(()))
        y = linear(f"{own}.output_query.dense", F.gelu(linear(f"{own}.intermediate_query.dense", x)))
        x = norm(f"{own}.output_query.LayerNorm", x + y)
    return x
