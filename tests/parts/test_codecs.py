"""Tokenizers of pictures and sound: equal to the official implementations, or to their papers written once more."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from beholder.config import from_data
from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Grid
from beholder.parts.audio.sizes import HUBERT_BASE
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.codecs import sizes
from beholder.parts.codecs.contract import Codes
from beholder.parts.codecs.features import Seed, Units, merge_runs
from beholder.parts.codecs.quantizers import Codebooks
from beholder.parts.codecs.queries import QueryEncoder
from beholder.parts.codecs.seanet import SeaNet, SoundCodec
from beholder.parts.codecs.vit_vqgan import PatchTransformer, VitVqGan, grid_sinusoids
from beholder.parts.codecs.vqgan import VqGan
from beholder.parts.contracts import Packed
from beholder.parts.vision.sizes import EVA_CLIP_G_14_BLIP2
from beholder.weights.files import open_weights
from beholder.weights.layout import Binding, to_published
from beholder.weights.layouts import codecs as layouts
from beholder.weights.lazy import lazy
from beholder.weights.load import load_state, state_tensors
from beholder.weights.open import read_json
from beholder.weights.part import open_part
from beholder.weights.readers.codecs import read_codec
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Read
from tests.parts import codec_references as references
from tests.parts.test_vit_names import Eva, small

CODES = Codebooks(size=24, dim=8, pull=0.25, commit=1.0)
VQGAN = VqGan(CODES, channels=32, multipliers=(1, 1, 2), latent=16, attention=(2,))
SEA = SeaNet(filters=4, ratios=(3, 2), repeats=2, causal=False, lstm=2, both_ways=True)
SPEECH = SoundCodec(
    CODES.but(depth=3, averages="kmeans"), net=SEA, rate=600, semantic=12
)  # a second has 600 samples
SIDE = PatchTransformer(32, 2, Attention(3, head_dim=16, out_bias=True), FeedForward(48, act="tanh"))
SHAPES = [(16, 24), (16, 16), (16, 24)]


def pictures(shapes=SHAPES):
    return [torch.randn(3, *shape) for shape in shapes]


def built(config):
    """With every tensor away from its start value, so that nothing is zero or one by chance."""
    model = config.build().eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith(("running_var", "alpha")):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.15)
    return model


def published(model, layout, numbers=None):
    """The model's tensors under published names."""
    own = {name: lazy(name, tensor) for name, tensor in state_tensors(model).items()}
    return {key: t.load() for key, t in to_published(own, (Binding("", "", layout, numbers or {}),)).items()}


def close(ours, theirs, tolerance=1e-4):
    """As `beholder parity` compares."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.std()) <= tolerance


# --- against the official implementations


def official(folder, prefix="", inner=None):
    """The codec in a recorded folder, whose weights it gives back byte for byte, and its inputs and reference."""
    config = read_json(folder / "config.json")
    read = read_codec(Fields(config[inner] if inner else config))
    weights = {key: t for key, t in open_weights(folder).items() if key.startswith(prefix)}
    binding = (Binding(prefix, "", read.layout, read.numbers),)
    model = read.config.build().eval()
    load_state(model, weights, binding)
    back = to_published({name: lazy(name, t) for name, t in state_tensors(model).items()}, binding)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key].load(), weights[key].load()) for key in weights)
    tensors = {}
    for name in ("inputs", "reference"):
        tensors |= {key: t.load() for key, t in open_weights(folder / f"{name}.safetensors").items()}
    return model, tensors


@torch.no_grad()
def test_chameleon(oracle):
    """Latents are compared besides codes, since a nearest row hides small errors."""
    model, theirs = official(oracle("chameleon"), "model.vqmodel.", "vq_config")
    pixels, key = theirs["pixel_values"], "hook/model.vqmodel."
    assert close(model.encoded(pixels)[:, :, 0], theirs[f"{key}encoder"])
    quantized = model.quantizer(model.latents(list(pixels)).tokens_ND)
    assert torch.equal(quantized.ids_NQ[:, 0], theirs[f"{key}quantize/2"])
    assert close(quantized.vectors_ND, theirs[f"{key}quantize/0"].flatten(2)[0].T)
    assert quantized.loss.item() == pytest.approx(theirs[f"{key}quantize/1"].item())
    assert model.decoder is None
    with pytest.raises(BeholderError, match="without its decoder"):
        model.decode(model.encode(list(pixels)))


@torch.no_grad()
def test_janus(oracle):
    """The official decoder makes unit vectors of codes that it found without."""
    model, theirs = official(oracle("janus_vq"))
    pixels = theirs["pixel_values"]
    assert close(model.encoded(pixels)[:, :, 0], theirs["extra.latents"])
    codes = model.encode(list(pixels))
    assert torch.equal(codes.ids_NQ[:, 0], theirs["extra.codes"])
    assert close(torch.stack(model.decode(codes)), theirs["decoded_pixel_values"])
    quantized = model.quantizer(model.latents(list(pixels)).tokens_ND)
    assert close(quantized.vectors_ND, theirs["extra.quantized"].flatten(2).transpose(1, 2).flatten(0, 1))
    assert quantized.loss.item() == pytest.approx(theirs["extra.loss"].item())


@torch.no_grad()
def test_janus_within_the_whole_system(oracle):
    model, theirs = official(oracle("janus"), "model.vqmodel.", "vq_config")
    generator = torch.Generator().manual_seed(3)  # the pictures were drawn after 16 codes, and not recorded
    torch.randint(0, 16, (1, 16), generator=generator)
    pixels = torch.randn(1, 3, 8, 8, generator=generator)
    assert close(model.encoded(pixels)[:, :, 0], theirs["extra.vq_encode.last_hidden_state"])
    assert torch.equal(model.encode(list(pixels)).ids_NQ[:, 0], theirs["extra.vq_encode.image_tokens"])


@torch.no_grad()
def test_emu3(oracle):
    """Clips, and pictures as clips of equal frames, there and back."""
    model, theirs = official(oracle("emu3_vq"))
    clip = theirs["pixel_values"][0].transpose(0, 1)  # (3, frames, height, width)
    for view, key, back in ((clip, "", "pixels"), (clip[:, 0], "extra.", "extra.pixels")):
        assert close(model.encoded(view[None]).transpose(1, 2), theirs[f"{key}latents"])
        codes = model.encode([view])
        assert torch.equal(codes.ids_NQ[:, 0], theirs[f"{key}codes"].flatten())
        assert codes.grids == (Grid(theirs[f"{key}codes"][0].numel() // 16, 4, 4),)
        (again,) = model.decode(codes)
        assert again.shape == view.shape
        restored = theirs[back][0]
        assert close(again, restored.transpose(0, 1) if restored.ndim == 4 else restored)


@torch.no_grad()
def test_emu3_within_the_whole_system(oracle):
    model, theirs = official(oracle("emu3"), "vqmodel.", "vq_config")
    pixels = theirs["pixel_values"]
    assert close(model.encoded(pixels).transpose(1, 2), theirs["hook/model.vqmodel.encoder"])
    assert torch.equal(
        model.encode(list(pixels)).ids_NQ[:, 0], theirs["hook/model.vqmodel.quantize"].flatten()
    )


@pytest.mark.parametrize("family", ["encodec_causal", "encodec_stereo", "encodec_plain"])
@torch.no_grad()
def test_encodec_at_every_bandwidth(family, oracle):
    model, theirs = official(oracle(family))
    views = list(theirs["input_values"][:, :, None])
    bandwidths = [float(key.split("codes.")[1]) for key in theirs if key.startswith("extra.codes.")]
    for bandwidth in bandwidths:
        depth = model.config.depth_at(bandwidth)
        codes = model.encode(views, depth)
        want = theirs[f"extra.codes.{bandwidth:g}"]  # (pieces, V, Q, frames of the longest piece)
        assert depth == want.shape[2]
        lengths = [model.config.frames(count) for _, count in model.config.pieces(views[0].shape[-1])]
        pieces = [piece[..., :length] for piece, length in zip(want, lengths, strict=True)]
        assert torch.equal(torch.cat(pieces, -1).transpose(1, 2).flatten(0, 1), codes.ids_NQ)
        sounds = torch.stack(model.decode(codes))[:, :, 0]
        assert close(sounds, theirs[f"extra.audio.{bandwidth:g}"])
    if model.config.piece is None:
        latents = torch.stack(model.latents(views).split()).transpose(1, 2)
        assert close(latents, theirs["hook/encoder"])


@torch.no_grad()
def test_encodec_layer_by_layer(oracle):
    model, theirs = official(oracle("encodec"))
    x = model.embed(theirs["audio_codes"][0, 0].T).T[None]
    for number, layer in enumerate(model.decoder):
        x = layer(x)
        assert close(x, theirs[f"layer/decoder.layers.{number}"])


@torch.no_grad()
def test_encodec_under_older_names(oracle):
    """Released files name weight normalisation as torch did before parametrisations."""
    folder = oracle("encodec")
    model, _ = official(folder)
    new, old = layouts.NEW_WEIGHT_NORM, layouts.OLD_WEIGHT_NORM
    weights = {}
    for key, tensor in open_weights(folder).items():
        for before, after in zip(new, old, strict=True):
            key = key.replace(before, after)
        weights[key] = tensor
    again = model.config.build()
    load_state(again, weights, (Binding("", "", layouts.encodec(old)),))
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )


# --- against the papers


@pytest.mark.parametrize(
    ("config", "layout", "names"),
    [
        (VQGAN, layouts.TAMING, references.TAMING),
        (VQGAN.but(modulated=True, blocks=1), layouts.MOVQ, references.TAMING),
        (VQGAN.but(**{"quantizer.unit": "both"}), layouts.llamagen(3), references.LLAMAGEN),
        (VQGAN, layouts.janus(3), references.TAMING),
    ],
)
@torch.no_grad()
def test_vqgan_equals_the_paper(config, layout, names):
    model, pixels = built(config), torch.randn(2, 3, 16, 24)
    w = published(model, layout)
    latents = references.convolve(w, "quant_conv", references.vqgan_encoder(w, names, pixels))
    x, table = latents.permute(0, 2, 3, 1).flatten(0, 2), w["quantize.embedding.weight"]
    assert close(model.latents(list(pixels)).tokens_ND, x)
    if config.quantizer.unit:
        x, table = (t / t.norm(dim=1, keepdim=True) for t in (x, table))
    ids = references.nearest(x, table)
    codes = model.encode(list(pixels))
    assert torch.equal(codes.ids_NQ[:, 0], ids) and len(ids.unique()) > 4
    vectors = table[ids].view(2, 4, 6, -1).permute(0, 3, 1, 2)
    upwards = layout.name in ("LlamaGen VQ", "transformers Janus VQ")
    restored = references.vqgan_decoder(
        w, names, references.convolve(w, "post_quant_conv", vectors), vectors, reverse=not upwards
    )
    assert close(torch.stack(model.decode(codes)), restored)


@pytest.mark.parametrize("shared", [False, True])
@torch.no_grad()
def test_rq_vae_equals_the_paper(shared):
    """Codes of depth 3: each of what the ones before left, the sum of all is decoded (2203.01941, section 3.1)."""
    codes = Codebooks(24, 8, depth=3, shared=shared, averages="means", spare=True, pull=0.0, commit=1.0)
    model, pixels = built(VQGAN.but(quantizer=codes)), torch.randn(2, 3, 16, 16)
    w = published(model, layouts.RQ_VAE)
    latents = references.convolve(w, "quant_conv", references.vqgan_encoder(w, references.TAMING, pixels))
    x = latents.permute(0, 2, 3, 1).flatten(0, 2)
    total, ids, losses = torch.zeros_like(x), [], []
    for depth in range(3):
        table = w[f"quantizer.codebooks.{0 if shared else depth}.weight"]
        assert table.shape == (25, 8)
        ids.append(references.nearest(x - total, table[:-1]))
        total = total + table[ids[-1]]
        losses.append((x - total).pow(2).mean())
    restored, quantized = model(list(pixels))
    assert torch.equal(quantized.ids_NQ, torch.stack(ids, 1))
    assert quantized.loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)
    vectors = total.view(2, 4, 4, 8).permute(0, 3, 1, 2)
    want = references.vqgan_decoder(w, references.TAMING, references.convolve(w, "post_quant_conv", vectors))
    assert close(torch.stack(restored), want)
    assert close(torch.stack(model.decode(model.encode(list(pixels)))), want)


@pytest.mark.parametrize("channels", [3, 1])
@torch.no_grad()
def test_vit_vqgan_equals_the_paper(channels):
    """Pictures, and spectrograms of one channel; twice as wide as high."""
    codes = CODES.but(unit="both")
    config = VitVqGan(codes, SIDE, SIDE.but(num_layers=1), size=(16, 32), patch=4, channels=channels)
    model, pixels = built(config), torch.randn(2, channels, 16, 32)
    w = published(model, layouts.VIT_VQGAN, {"patches": 32})
    x = references.convolve(w, "encoder.to_patch_embedding.0", pixels, stride=4).flatten(2).transpose(1, 2)
    x = references.vit(w, "encoder", x + w["encoder.en_pos_embedding"], 3)
    x = (x @ w["pre_quant.weight"].T + w["pre_quant.bias"]).flatten(0, 1)
    assert close(model.latents(list(pixels)).tokens_ND, x)
    table = w["quantizer.embedding.weight"]
    table = table / table.norm(dim=1, keepdim=True)
    ids = references.nearest(x / x.norm(dim=1, keepdim=True), table)
    codes = model.encode(list(pixels))
    assert torch.equal(codes.ids_NQ[:, 0], ids)
    x = table[ids].view(2, 32, 8) @ w["post_quant.weight"].T + w["post_quant.bias"]
    x = references.vit(w, "decoder", x + w["decoder.de_pos_embedding"], 3)
    kernel, bias = w["decoder.to_pixel.1.weight"], w["decoder.to_pixel.1.bias"]
    want = torch.einsum("bijc,cdxy->bdixjy", x.view(2, 4, 8, 32), kernel).flatten(4, 5).flatten(2, 3)
    assert close(torch.stack(model.decode(codes)), want + bias[:, None, None])


def test_grid_sinusoids():
    """One place by hand: row 2, column 1 of a grid of 3 by 5."""
    table, rates = grid_sinusoids(3, 5, 8), torch.tensor([1.0, 0.01])
    want = [(1 * rates).sin(), (1 * rates).cos(), (2 * rates).sin(), (2 * rates).cos()]
    assert torch.allclose(table[2 * 5 + 1], torch.cat(want), atol=1e-6)


@pytest.mark.parametrize("act", ["elu", "snake"])
@torch.no_grad()
def test_speech_tokenizer_equals_the_paper(act):
    config = SPEECH.but(**{"net.act": act})
    model, waves = built(config), torch.randn(2, 1, 101)
    w = published(model, layouts.seanet(config.net))
    sea = references.Sea(w, ratios=(3, 2), repeats=2, growth=2)
    latents = sea.encoder(waves)
    views = list(waves[:, :, None])
    x = latents.transpose(1, 2).flatten(0, 1)
    assert close(model.latents(views).tokens_ND, x)
    rest, chosen = x, []
    codes = model.encode(views)
    for depth in range(3):
        table = w[f"quantizer.vq.layers.{depth}._codebook.embed"]
        ids = references.nearest(rest, table)
        assert torch.equal(codes.ids_NQ[:, depth], ids)
        chosen.append(table[ids])
        rest = rest - chosen[-1]
    semantic = chosen[0] @ w["transform.weight"].T + w["transform.bias"]
    assert close(model.meaning(codes.ids_NQ), semantic)
    want = sea.decoder(sum(chosen).view(2, 17, 8).transpose(1, 2))
    assert close(torch.stack(model.decode(codes))[:, :, 0], want[..., :101])
    with pytest.raises(BeholderError, match="without a semantic width"):
        built(config.but(semantic=None)).meaning(codes.ids_NQ)


@torch.no_grad()
def test_seed_equals_the_paper():
    config = Seed(
        CODES,
        dim_in=32,
        queries=4,
        num_layers=2,
        attention=Attention(4, qkv_bias=True, out_bias=True),
        mlp=FeedForward(48),
        reduce=(16, 8),
        out=24,
    )
    model, queries = built(config), torch.randn(3, 4, 32)
    w = published(model, layouts.SEED, {"queries": 4})
    views = list(queries.transpose(1, 2)[:, :, None])
    x = references.seed_latents(w, queries)
    assert close(model.latents(views).tokens_ND, x)
    ids = references.nearest(x, w["quantize.embedding.weight"])
    codes = model.encode(views)
    assert torch.equal(codes.ids_NQ[:, 0], ids)
    want = references.seed_vector(w, w["quantize.embedding.weight"][ids].view(3, 4, 8), 4)
    assert close(torch.stack(model.decode(codes)), want)
    with pytest.raises(BeholderError, match="3 features of a view; this codec takes 4"):
        model.encode([torch.randn(32, 1, 3)])
    with pytest.raises(BeholderError, match=r"views of \[2\] codes; a vector is made of 4"):
        model.decode(Codes(codes.ids_NQ[:2], (Grid(1, 1, 2),)))


@torch.no_grad()
def test_seed_with_its_causal_queries():
    heads = Attention(4, qkv_bias=True, out_bias=True)
    encoder = QueryEncoder(32, 24, 4, num_layers=3, attention=heads, mlp=FeedForward(48))
    config = Seed(CODES, encoder, dim_in=32, queries=4, num_layers=1, attention=heads, mlp=FeedForward(48))
    model, features = built(config), torch.randn(2, 7, 24)
    views = list(features.transpose(1, 2)[:, :, None])
    want = references.causal_queries(published(model, layouts.SEED, {"queries": 4}), features, 4)
    assert close(model.encoder(views).tokens_ND, want.flatten(0, 1))
    assert model.encode(views).grids == (Grid(1, 1, 4),) * 2
    seeing = built(encoder.but(causal=False))
    seeing.load_state_dict(model.encoder.state_dict())
    first, last = 0, 3  # the last query sees all before it either way, the first one none
    ours, theirs = (m(views).tokens_ND.view(2, 4, 32) for m in (model.encoder, seeing))
    assert not torch.allclose(ours[:, first], theirs[:, first], atol=1e-3)
    assert not torch.allclose(ours[:, last], theirs[:, last], atol=1e-3)  # for it reads what others became


@torch.no_grad()
def test_seed_whole(tmp_path):
    """Pictures through EVA's ViT without a norm behind, the causal queries and the codebook, under the release's names."""
    vision = small(EVA_CLIP_G_14_BLIP2)
    heads = Attention(4, qkv_bias=True, out_bias=True)
    encoder = QueryEncoder(32, queries=4, num_layers=3, attention=heads, mlp=FeedForward(48), vision=vision)
    config = Seed(CODES, encoder, dim_in=32, queries=4, num_layers=1, attention=heads, mlp=FeedForward(48))
    model, views = built(config), [torch.randn(3, vision.image_size, vision.image_size) for _ in range(2)]
    w = published(model, layouts.SEED, {"queries": 4})
    eva = Eva("01")
    eva.norm = torch.nn.Identity()
    tower = {key: value for key, value in w.items() if key.startswith("visual_encoder.")}
    eva.load_state_dict({key.removeprefix("visual_encoder."): value for key, value in tower.items()})
    features = eva(torch.stack(views))
    assert features.shape == (2, 1 + vision.side**2, 32)  # the class token is read too
    queries = references.causal_queries(w, features, 4)
    assert close(model.encoder(views).tokens_ND, queries.flatten(0, 1))
    codes = model.encode(views)
    ids = references.nearest(references.seed_latents(w, queries), w["quantize.embedding.weight"])
    assert torch.equal(codes.ids_NQ[:, 0], ids)
    assert codes.grids == (config.grid((vision.image_size,) * 2),) * 2 == (Grid(1, 1, 4),) * 2
    save_file({key: tensor.contiguous() for key, tensor in w.items()}, tmp_path / "model.safetensors")
    again = open_part(tmp_path, Read(config, layouts.SEED, {"queries": 4}), "")
    assert torch.equal(again.encode(views).ids_NQ, codes.ids_NQ)
    with pytest.raises(BeholderError, match="takes 21x21 pixels, not 28x28"):
        model.encode([torch.randn(3, 28, 28)])
    sketch = sizes.SEED.tiny()
    assert built(sketch).encode([torch.randn(3, 28, 28)]).ids_NQ.shape == (4, 1)


def test_gradients_reach_all_of_seed():
    model = built(sizes.SEED.tiny()).train()
    restored, quantized = model([torch.randn(3, 28, 28)])
    (restored[0].pow(2).mean() + quantized.loss).backward()
    unused = model.encoder.vision.unused_parameters(pooled=False)
    assert not unused
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]


@torch.no_grad()
def test_units_of_a_layer():
    """Features of a depth that the encoder gives apart."""
    encoder = HUBERT_BASE.tiny().but(taps=(1,))
    model = built(Units(Codebooks(5, encoder.dim), encoder, tap=1))
    wave = torch.randn(1, 1, 4000)
    features = model.encoder([wave]).taps[1].tokens_ND
    assert torch.equal(model.latents([wave]).tokens_ND, features)
    want = references.nearest(features, model.quantizer.codebooks[0].weight)
    assert torch.equal(model.encode([wave]).ids_NQ[:, 0], want)


@torch.no_grad()
def test_units():
    """Each frame becomes the number of its nearest centroid; runs are told once."""
    config = Units(Codebooks(5, 6))
    model = config.build()
    centroids = torch.randn(5, 6)
    load_state(model, {"cluster_centers_": lazy("c", centroids)}, (Binding("", "", layouts.UNITS),))
    order = torch.tensor([3, 3, 0, 4, 4, 4])
    frames = centroids[order] + 0.01 * torch.randn(6, 6)
    codes = model.encode([frames.T[:, None], frames[:2].T[:, None]])
    assert codes.ids_NQ[:, 0].tolist() == [3, 3, 0, 4, 4, 4, 3, 3]
    assert codes.grids == (Grid(1, 1, 6), Grid(1, 1, 2))
    ids, counts = merge_runs(codes.ids_NQ[:6, 0])
    assert (ids.tolist(), counts.tolist()) == ([3, 0, 4], [2, 1, 3])
    with pytest.raises(BeholderError, match="vocoder"):
        model.decode(codes)


@torch.no_grad()
def test_a_release_without_a_config_file_opens_by_its_size_and_names(tmp_path):
    """As taming-transformers published VQ-GAN: weights, of which the loss is left out."""
    model = built(VQGAN)
    weights = published(model, layouts.TAMING) | {"loss.logvar": torch.zeros(1)}
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, tmp_path / "model.safetensors")
    again = open_part(tmp_path, Read(VQGAN, layouts.TAMING), "")
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )


# --- what all codecs keep


ALL = {
    "vqgan": VQGAN,
    "rq": VQGAN.but(quantizer=CODES.but(depth=2, shared=True)),
    "movq": VQGAN.but(modulated=True),
    "clip": VqGan(CODES, channels=32, multipliers=(1, 1), blocks=1, latent=8, modulated=True, frames=4),
    "vit": VitVqGan(CODES, SIDE, SIDE, size=(16, 16), patch=4),
    "sound": SoundCodec(CODES.but(depth=2), net=SEA.but(causal=True, both_ways=False), rate=600),
    "pieces": SoundCodec(
        CODES.but(depth=2),
        net=SEA.but(norm="group", both_ways=False),
        loudness=True,
        channels=2,
        piece=60,
        step=50,
    ),
}
VIEWS = {
    "vit": [(3, 16, 16)] * 3,
    "clip": [(3, 16, 24), (3, 8, 16, 24), (3, 4, 16, 24)],
    "sound": [(1, 1, 61), (1, 1, 7), (1, 1, 60)],
    "pieces": [(2, 1, 130), (2, 1, 7), (2, 1, 58)],
}


def views_of(name):
    return [torch.randn(shape) for shape in VIEWS.get(name, [(3, 16, 24), (3, 8, 8), (3, 16, 24)])]


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_views_together_equal_each_alone(name):
    model, views = built(ALL[name]), views_of(name)
    codes = model.encode(views)
    assert codes.grids == tuple(ALL[name].grid(tuple(view.shape[1:])) for view in views)
    assert codes.ids_NQ.shape[1] == ALL[name].num_quantizers
    restored = model.decode(codes)
    assert model.embed(codes.ids_NQ).shape == (len(codes.ids_NQ), ALL[name].dim)
    for view, mine, again in zip(views, codes.split(), restored, strict=True):
        alone = model.encode([view])
        assert torch.equal(alone.ids_NQ, mine)
        assert again.shape == view.shape
        assert close(model.decode(alone)[0], again)


@pytest.mark.parametrize("name", ALL)
def test_training_reaches_every_parameter(name):
    model = built(ALL[name]).train()
    restored, quantized = model(views_of(name))
    (sum(view.pow(2).mean() for view in restored) + quantized.loss).backward()
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_tiny_and_data(name):
    config = ALL[name]
    assert from_data(config.to_data()) == config
    small = config.tiny()
    assert sum(p.numel() for p in small.build().state_dict().values()) < 300_000
    assert from_data(small.to_data()) == small


@torch.no_grad()
def test_codes_that_a_model_made_up_are_decoded_whole():
    model = built(ALL["clip"])
    codes = Codes(torch.zeros(2 * 24 + 24, 1, dtype=torch.long), (Grid(2, 4, 6), Grid(1, 4, 6)))
    clip, picture = model.decode(codes)
    assert (clip.shape, picture.shape) == ((3, 8, 8, 12), (3, 8, 12))
    sound = built(ALL["sound"])
    (wave,) = sound.decode(Codes(torch.zeros(5, 2, dtype=torch.long), (Grid(5, 1, 1),)))
    assert wave.shape == (1, 1, 30)


def test_frames_of_pieces_say_how_long_a_sound_is():
    config = ALL["pieces"]
    known = {config.grid((1, samples)).frames for samples in range(1, 400)}
    for frames in range(1, 60):
        if frames in known:
            samples = config.samples(frames)
            assert config.grid((1, samples)).frames == frames
        else:
            with pytest.raises(BeholderError, match=f"no sound has {frames} frames"):
                config.samples(frames)


@torch.no_grad()
def test_a_causal_codec_can_stream():
    """Samples to come change no code of the past, and codes to come no sound of the past."""
    model = built(ALL["sound"])
    wave = torch.randn(1, 1, 120)
    other = torch.cat((wave[..., :60], torch.randn(1, 1, 60)), -1)
    first, second = model.encode([wave]), model.encode([other])
    assert torch.equal(first.ids_NQ[:10], second.ids_NQ[:10])
    assert not torch.equal(first.ids_NQ, second.ids_NQ)
    again, changed = model.decode(first)[0], model.decode(second)[0]
    assert torch.allclose(again[..., :60], changed[..., :60], atol=1e-6)
    assert torch.equal(model.encode([wave[..., :60]]).ids_NQ, first.ids_NQ[:10])


def test_bandwidths():
    """2210.13438, section 3.2: 75 frames of 10 bits a second, 1.5 kbit/s are two codebooks."""
    depths = [sizes.ENCODEC_24KHZ.depth_at(kbps) for kbps in (0.1, 1.5, 3, 6, 12, 24, 99)]
    assert depths == [1, 2, 4, 8, 16, 32, 32]
    assert [sizes.ENCODEC_48KHZ.depth_at(kbps) for kbps in (3, 6, 12, 24)] == [2, 4, 8, 16]
    assert (sizes.ENCODEC_24KHZ.frame_rate, sizes.ENCODEC_32KHZ.frame_rate) == (75, 50)
    assert sizes.ENCODEC_48KHZ.grid((1, 48000 * 2)).frames == 150 + 150 + 3


def test_what_cannot_be():
    with pytest.raises(BeholderError, match="16x14 pixels does not divide into codes of 4"):
        VQGAN.grid((14, 16))
    with pytest.raises(BeholderError, match="clip of 8 frames, but this codec takes pictures alone"):
        VQGAN.grid((8, 16, 16))
    with pytest.raises(BeholderError, match="clip of 6 frames, but this codec takes multiples of 4"):
        ALL["clip"].grid((6, 16, 16))
    with pytest.raises(BeholderError, match="16x16 pixels, not a view of shape"):
        ALL["vit"].grid((16, 20))
    with pytest.raises(BeholderError, match="waveform has"):
        SPEECH.grid((2, 100))
    with pytest.raises(BeholderError, match="sound of 2 channels; this codec takes 1"):
        built(SPEECH).encode([torch.randn(2, 1, 50)])
    with pytest.raises(BeholderError, match="power of two"):
        VQGAN.but(frames=3)
    with pytest.raises(BeholderError, match="attention at levels"):
        VQGAN.but(attention=(3,))
    with pytest.raises(BeholderError, match="32 groups"):
        VQGAN.but(channels=48)
    with pytest.raises(BeholderError, match="share convolutions over time"):
        VQGAN.but(frames=4)
    with pytest.raises(BeholderError, match="give both"):
        SPEECH.but(piece=100)
    with pytest.raises(UnknownName, match="snake"):
        SEA.but(act="snakes")
    with pytest.raises(BeholderError, match="causal convolutions alone"):
        SEA.but(trim=0.5)


# --- readers and sizes


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("chameleon_vqgan", sizes.CHAMELEON.but(decodes=False)),
        (
            "janus_vqgan",
            sizes.LLAMAGEN_F16.but(
                **{"quantizer.unit": "read", "quantizer.pull": 0.25, "quantizer.commit": 1.0}
            ),
        ),
        ("emu3_vqgan", sizes.EMU3),
        ("Emu3VisionVQ", sizes.EMU3),
        ("encodec", sizes.ENCODEC_24KHZ),
        ("speechtokenizer", sizes.SPEECH_TOKENIZER),
    ],
)
def test_an_empty_file_means_the_published_size(kind, config):
    assert read_codec(Fields({"model_type": kind})).config == config


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("chameleon_vqgan", {"in_channels": 4}, "pictures have 3 channels"),
        ("chameleon_vqgan", {"double_latent": True}, "no variances"),
        ("janus_vqgan", {"channel_multiplier": [1, 0]}, "list of whole numbers above 0"),
        ("janus_vqgan", {"num_embeddings": 0}, "expected 1 to"),
        ("emu3_vqgan", {"attn_resolutions": [4]}, "names levels"),
        ("emu3_vqgan", {"hidden_size": 512}, "attention of width 512"),
        ("Emu3VisionVQ", {"ch": "wide"}, "ch is 'wide', a str; expected int"),
        ("Emu3VisionVQ", {"double_z": True}, "double_z is True"),
        ("encodec", {"norm_type": "layer_norm"}, "norm_type"),
        ("encodec", {"codebook_dim": 64}, "codebook_dim is 64"),
        ("encodec", {"chunk_length_s": 1.0, "overlap": 1.5}, "overlap is 1.5"),
        ("encodec", {"target_bandwidths": []}, "target_bandwidths"),
        ("encodec", {"target_bandwidths": [0.1]}, "ask for 0 codebooks"),
        ("encodec", {"codebook_size": 1000}, "codebook_size is 1000; expected a power of two"),
        ("speechtokenizer", {"activation": "ReLU"}, "activation"),
        ("encodecs", {}, "encodec"),
    ],
)
def test_damaged_settings_are_refused(kind, changes, message):
    with pytest.raises(BeholderError, match=message):
        read_codec(Fields({"model_type": kind, **changes}))


JUNK = (None, True, -1, 0, 1e300, float("nan"), "x", [], [1], [2**40], {}, {"a": 1}, 10**30)
SETTINGS = {
    "chameleon_vqgan": "num_embeddings embed_dim base_channels channel_multiplier attn_type attn_resolutions resolution",
    "emu3_vqgan": "codebook_size latent_channels num_res_blocks hidden_size num_attention_heads attn_resolutions",
    "Emu3VisionVQ": "ch ch_mult z_channels double_z temporal_downsample_factor in_channels",
    "encodec": "target_bandwidths sampling_rate chunk_length_s overlap upsampling_ratios pad_mode compress normalize "
    "codebook_size use_causal_conv trim_right_ratio num_lstm_layers",
    "speechtokenizer": "n_filters strides dimension semantic_dimension bidirectional n_q sample_rate activation",
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_any_value_in_any_place_is_read_or_refused(kind):
    for key in SETTINGS[kind].split():
        for value in JUNK:
            try:
                config = read_codec(Fields({"model_type": kind, key: value})).config
                with torch.device("meta"):
                    config.build()
            except BeholderError as error:
                assert "\n" not in str(error)


def test_chameleon_attends_where_the_file_says():
    read = read_codec(Fields({"model_type": "chameleon_vqgan", "attn_resolutions": [64, 32]}))
    assert read.config.attention == (3, 4)
    off = read_codec(Fields({"model_type": "chameleon_vqgan", "attn_type": None, "attn_resolutions": [32]}))
    assert (off.config.attention, off.config.middle_attention) == ((), False)


@pytest.mark.parametrize(
    ("name", "parameters", "buffers"),
    [
        # counted in the official modules, without discriminators
        ("VQGAN_F16_1024", 72_141_699, 0),
        ("VQGAN_F16_16384", 76_073_859, 0),
        ("CHAMELEON", 68_718_467, 0),
        ("LLAMAGEN_F16", 71_883_403, 0),  # published as 72M
        ("LLAMAGEN_F8", 70_109_835, 0),  # published as 70M
        ("RQVAE_IMAGENET", 100_207_491, 8_405_248),  # the codebook is no parameter here
        ("RQVAE_FFHQ", 100_207_491, 1_050_880),
        ("MOVQ_67M", 67_832_495, 0),
        ("MOVQ_102M", 101_614_255, 0),
        ("MOVQ_270M", 270_669_103, 0),
        ("EMU3", 270_740_287, 72),
        ("VIT_VQGAN_SMALL", 50_908_195, 1_048_576),
        ("VIT_VQGAN_BASE", 170_664_483, 1_572_864),
        ("VIT_VQGAN_LARGE", 613_487_907, 1_835_008),
        ("ENCODEC_24KHZ", 14_851_810, 8_421_408),
        ("ENCODEC_32KHZ", 56_884_674, 2_105_348),
        ("ENCODEC_48KHZ", 14_856_294, 4_210_704),
        ("SPEECH_TOKENIZER", 103_675_586, 16_785_416),
        ("SPEECH_TOKENIZER_SNAKE", 103_683_458, 16_785_416),
    ],
)
def test_published_sizes(name, parameters, buffers):
    with torch.device("meta"):
        model = getattr(sizes, name).build()
    counts = [sum(t.numel() for t in tensors) for tensors in (model.parameters(), model.buffers())]
    assert counts == [parameters, buffers]


def test_chameleon_without_its_decoder():
    with torch.device("meta"):
        model = read_codec(Fields({"model_type": "chameleon_vqgan"})).config.build()
    assert sum(p.numel() for p in model.parameters()) == 29_423_616  # transformers' ChameleonVQVAE


def test_seed_is_what_its_maps_add_up_to():
    width, dim, hidden = 768, 32, 3072
    layer = 4 * width * (width + 1) + 2 * width * hidden + hidden + width + 4 * width
    maps = width * (width + 1) + dim * (width + 1) + dim * (dim + 1) + width * (dim + 1)
    shrink = 768 * 256 + 256 * 128 + 128 * 32
    with torch.device("meta"):
        model = sizes.SEED.build()
    total = 8192 * dim + maps + 32 * width + 4 * layer + shrink + 1024 * (32 * 32 + 1)
    vision, encoder, whole = (
        sum(p.numel() for p in part.parameters()) for part in (model.encoder.vision, model.encoder, model)
    )
    assert whole - encoder == total == 30_562_880
    # transformers' Blip2QFormerModel and Blip2VisionModel, of the same sizes; the latter's norm behind is SEED's before the
    # queries, and it has biases of keys, which EVA has not.
    assert encoder - vision - 32 * 768 - 2 * 1408 == 105_137_664
    assert vision + 2 * 1408 + 39 * 1408 == 985_952_256
    assert (vision, encoder, whole) == (985_894_528, 1_091_059_584, 1_121_622_464)


def test_packed_latents_are_refused_where_counts_differ():
    with pytest.raises(ValueError, match="grids hold 4 tokens but 3"):
        Packed(torch.zeros(3, 2), (Grid(1, 2, 2),))
