"""Tokenizers of pictures and sound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from beholder.parts.codecs.seanet import SeaNet
from beholder.weights.layout import Layout
from beholder.weights.layouts import vision
from beholder.weights.layouts.rules import Rules, affine, inside, joined, pointwise
from beholder.weights.ops import Reshape, Split

Names = Mapping[str, str]  # published -> ours


def _norms(pairs: Names, modulated: bool) -> Rules:
    """Norms by themselves, or with the two maps of the codes that modulate them."""
    leaves = {".norm_layer": "", ".conv_y": ".scale", ".conv_b": ".shift"} if modulated else {"": ""}
    return affine({key + leaf: own + kind for key, own in pairs.items() for leaf, kind in leaves.items()})


def _convolutions(side: str, blocks: Names, resample: Names, *, modulated: bool = False) -> Rules:
    """An encoder or a decoder but for its attention."""
    rules = affine({f"{side}.conv_in": f"{side}.stem", f"{side}.conv_out": f"{side}.head"})
    rules |= affine({f"{side}.{key}": f"{side}.{own}" for key, own in resample.items()})
    norms = {"norm_out": "norm"}
    for key, own in blocks.items():
        names = {"conv1": "conv1", "conv2": "conv2", "nin_shortcut": "shortcut"}
        rules |= affine({f"{side}.{key}.{leaf}": f"{side}.{own}.{name}" for leaf, name in names.items()})
        norms |= {f"{key}.norm{number}": f"{own}.norm{number}" for number in (1, 2)}
    return rules | _norms({f"{side}.{key}": f"{side}.{own}" for key, own in norms.items()}, modulated)


def _attentions(side: str, pairs: Names, *, modulated: bool = False) -> Rules:
    """Attention whose maps are convolutions."""
    places = {f"{side}.{key}": f"{side}.{own}" for key, own in pairs.items()}
    maps = {"q": "q", "k": "k", "v": "v", "proj_out": "out"}
    rules = _norms({f"{key}.norm": f"{own}.norm" for key, own in places.items()}, modulated)
    return rules | pointwise(
        {f"{key}.{leaf}": f"{own}.attn.{name}" for key, own in places.items() for leaf, name in maps.items()}
    )


def _taming(side: str, levels: Names, *, modulated: bool = False) -> Rules:
    """A side in the names of taming-transformers. levels: published -> ours."""
    resample = "downsample" if side == "encoder" else "upsample"
    blocks = {f"{key}.block.{{}}": f"{own}.blocks.{{}}" for key, own in levels.items()}
    attentions = {f"{key}.attn.{{}}": f"{own}.attentions.{{}}" for key, own in levels.items()}
    return {
        **_convolutions(
            side,
            {"mid.block_1": "middle.block1", "mid.block_2": "middle.block2", **blocks},
            {f"{key}.{resample}.conv": f"{own}.resample" for key, own in levels.items()},
            modulated=modulated,
        ),
        **_attentions(side, {"mid.attn_1": "middle.attention", **attentions}, modulated=modulated),
    }


def _upwards(stack: str, num_levels: int) -> dict[str, str]:
    """A decoder's levels numbered in the order in which they run, the coarsest first."""
    return {f"{stack}.{number}": f"levels.{num_levels - 1 - number}" for number in range(num_levels)}


CODEBOOK: Rules = {"quantize.embedding.weight": "quantizer.codebooks.0.weight"}
BRIDGES = {"quant_conv": "to_code", "post_quant_conv": "from_code"}
ENCODER = _taming("encoder", {"down.{}": "levels.{}"})
DECODER = _taming("decoder", {"up.{}": "levels.{}"})
MODULATED = _taming("decoder", {"up.{}": "levels.{}"}, modulated=True)
TRAINING: Rules = {"loss.*": None}  # discriminator and perceptual loss

# CompVis/taming-transformers: taming/modules/diffusionmodules/model.py; Chameleon and Make-A-Scene use the same names
TAMING = Layout(
    {**ENCODER, **DECODER, **pointwise(BRIDGES), **CODEBOOK, **TRAINING}, name="taming-transformers VQ-GAN"
)

# ai-forever/MoVQGAN: movqgan/modules/vqvae/movq_modules.py. Averages of the weights have names without dots
MOVQ = Layout(
    {
        **ENCODER,
        **MODULATED,
        **pointwise(BRIDGES),
        **CODEBOOK,
        **TRAINING,
        **{f"ema_{part}.*": None for part in ("encoder", "decoder", "quantize", *BRIDGES)},
    },
    name="MoVQGAN",
)

# kakaobrain/rq-vae-transformer: rqvae/models/rqvae/
RQ_VAE = Layout(
    {
        **ENCODER,
        **DECODER,
        **pointwise(BRIDGES),
        **{
            f"quantizer.codebooks.{{}}.{key}": f"quantizer.codebooks.{{}}.{own}"
            for key, own in {"weight": "weight", "cluster_size_ema": "counts", "embed_ema": "sums"}.items()
        },
    },
    name="RQ-VAE",
)


def janus(num_levels: int) -> Layout:
    """transformers: models/janus/modeling_janus.py, `JanusVQVAE`."""
    decoder = _taming("decoder", _upwards("up", num_levels))
    return Layout({**ENCODER, **decoder, **pointwise(BRIDGES), **CODEBOOK}, name="transformers Janus VQ")


def llamagen(num_levels: int) -> Layout:
    """FoundationVision/LlamaGen: tokenizer/tokenizer_image/vq_model.py, which deepseek-ai/Janus shares."""
    rules: Rules = {**pointwise(BRIDGES), **CODEBOOK, "quantize.codebook_used": None}
    down, up = {"conv_blocks.{}": "levels.{}"}, _upwards("conv_blocks", num_levels)
    for side, levels, resample in (("encoder", down, "downsample"), ("decoder", up, "upsample")):
        blocks = {f"{key}.res.{{}}": f"{own}.blocks.{{}}" for key, own in levels.items()}
        rules |= _convolutions(
            side,
            {"mid.0": "middle.block1", "mid.2": "middle.block2", **blocks},
            {f"{key}.{resample}.conv": f"{own}.resample" for key, own in levels.items()},
        )
        attentions = {f"{key}.attn.{{}}": f"{own}.attentions.{{}}" for key, own in levels.items()}
        rules |= _attentions(side, {"mid.1": "middle.attention", **attentions})
    return Layout(rules, name="LlamaGen VQ")


def _time(side: str, own: str) -> Rules:
    """Emu3's convolutions over time."""
    rules = affine({f"{side}.time_conv.{{}}.conv.conv": f"{own}.convs.{{}}"})
    leaves = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    for number in (1, 2):
        key, ours = f"{side}.time_res_stack.{{}}", f"{own}.blocks.{{}}"
        rules |= affine({f"{key}.conv{number}.conv": f"{ours}.conv{number}"})
        rules |= {f"{key}.norm{number}.{leaf}": f"{ours}.norm{number}.{leaf}" for leaf in leaves}
    return rules


EMU3_TIME: Rules = {
    **_time("encoder", "time_down"),
    **_time("decoder", "time_up"),
    **affine({f"{key}.conv": own for key, own in BRIDGES.items()}),
    **CODEBOOK,
}

# baaivision/Emu3: emu3/tokenizer/modeling_emu3visionvq.py
EMU3_VISION_VQ = Layout({**ENCODER, **MODULATED, **EMU3_TIME}, name="Emu3VisionVQ")


def _emu3(side: str, stack: str, resample: str, *, modulated: bool) -> Rules:
    """A side of Emu3 in transformers: attention is linear maps, with norms beside it."""
    rules = _convolutions(
        side,
        {
            "middle_block.block_1": "middle.block1",
            "middle_block.block_2": "middle.block2",
            f"{stack}.block.{{}}": "levels.{}.blocks.{}",
        },
        {f"{stack}.{resample}.conv": "levels.{}.resample"},
        modulated=modulated,
    )
    maps = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "out"}
    for attention, norm, own in (
        ("middle_block.attn_1", "middle_block.attn_norm", "middle.attention"),
        (f"{stack}.attn.{{}}", f"{stack}.attn_norms.{{}}", "levels.{}.attentions.{}"),
    ):
        rules |= _norms({f"{side}.{norm}": f"{side}.{own}.norm"}, modulated)
        rules |= affine(
            {f"{side}.{attention}.{key}": f"{side}.{own}.attn.{name}" for key, name in maps.items()}
        )
    return rules


# transformers: models/emu3/modeling_emu3.py, `Emu3VQVAE`
EMU3 = Layout(
    {
        **_emu3("encoder", "down_block.down.{}", "downsample", modulated=False),
        **_emu3("decoder", "up_block.up.{}", "upsample", modulated=True),
        **EMU3_TIME,
    },
    name="transformers Emu3 VQ",
)

NEW_WEIGHT_NORM = ("parametrizations.weight.original0", "parametrizations.weight.original1")
OLD_WEIGHT_NORM = ("weight_g", "weight_v")


def _convs(places: Iterable[tuple[str, str, str]], weight_norm: tuple[str, str]) -> Rules:
    """Convolutions of a SEANet: (published, the norm behind it, ours)."""
    rules: Rules = {}
    leaves = {"bias": "bias", "weight": "weight", weight_norm[0]: "scale", weight_norm[1]: "direction"}
    for key, norm, own in places:
        rules |= {f"{key}.{leaf}": f"{own}.{name}" for leaf, name in leaves.items()}
        rules |= affine({norm: f"{own}.norm"})
    return rules


def _others(sequence: str, codebook: str) -> Rules:
    """A SEANet but for its convolutions, and its codebooks."""
    rules: Rules = {}
    for side in ("encoder", "decoder"):
        rules |= {f"{side}.{sequence}.{{}}.lstm.*": f"{side}.{{}}.lstm.*"}
        rules |= {
            f"{side}.{sequence}.{inner}.alpha": f"{side}.{inner}.alpha" for inner in ("{}", "{}.block.{}")
        }
    leaves = {"embed": "weight", "cluster_size": "counts", "embed_avg": "sums", "inited": "started"}
    return rules | {f"{codebook}.{key}": f"quantizer.codebooks.{{}}.{own}" for key, own in leaves.items()}


def encodec(weight_norm: tuple[str, str] = NEW_WEIGHT_NORM) -> Layout:
    """transformers: models/encodec/modeling_encodec.py; released files have the old names of weight normalisation."""
    places = [
        (f"{side}.layers.{inner}.conv", f"{side}.layers.{inner}.norm", f"{side}.{inner}")
        for side in ("encoder", "decoder")
        for inner in ("{}", "{}.block.{}", "{}.shortcut")
    ]
    rules = {**_convs(places, weight_norm), **_others("layers", "quantizer.layers.{}.codebook")}
    return Layout(rules, name="transformers EnCodec")


def seanet(net: SeaNet) -> Layout:
    """facebookresearch/encodec: encodec/modules/seanet.py, and ZhangXInFD/SpeechTokenizer, which has a `transform` besides."""
    inner = [(side, place) for side in ("encoder", "decoder") for place in ("{}.block.{}", "{}.shortcut")]
    first, step = 2 + bool(net.lstm), 2 + net.repeats
    stages = [first + number * step for number in range(len(net.ratios) + 1)]
    inner += [("encoder", "{}"), ("decoder", "0"), ("decoder", str(stages.pop()))]
    places = [(f"{s}.model.{p}.conv.conv", f"{s}.model.{p}.conv.norm", f"{s}.{p}") for s, p in inner]
    places += [
        (f"decoder.model.{n}.convtr.convtr", f"decoder.model.{n}.convtr.norm", f"decoder.{n}") for n in stages
    ]
    rules = {**_convs(places, OLD_WEIGHT_NORM), **_others("model", "quantizer.vq.layers.{}._codebook")}
    return Layout({**rules, **affine({"transform": "semantic"})}, name="SEANet codec")


def _vit_side(side: str, prefix: str) -> Rules:
    """One transformer of ViT-VQGAN. prefix: `en` or `de`, before its positions."""
    layer, own = f"{side}.transformer.layers.{{}}", f"{side}.blocks.{{}}"
    return {
        f"{side}.{prefix}_pos_embedding": Reshape(f"{side}.positions", (1, "patches", -1)),
        f"{layer}.0.fn.to_qkv.weight": Split(tuple(f"{own}.attn.{name}.weight" for name in "qkv")),
        **affine(
            {
                f"{layer}.0.norm": f"{own}.norm1",
                f"{layer}.0.fn.to_out": f"{own}.attn.out",
                f"{layer}.1.norm": f"{own}.norm2",
                f"{layer}.1.fn.net.0": f"{own}.mlp.up",
                f"{layer}.1.fn.net.2": f"{own}.mlp.down",
                f"{side}.transformer.norm": f"{side}.norm",
            }
        ),
    }


# thuanz123/enhancing-transformers: enhancing/modules/stage1/; numbers: patches
VIT_VQGAN = Layout(
    {
        **_vit_side("encoder", "en"),
        **_vit_side("decoder", "de"),
        **affine(
            {
                "encoder.to_patch_embedding.0": "patch",
                "pre_quant": "to_code",
                "post_quant": "from_code",
                "decoder.to_pixel.1": "pixels",
            }
        ),
        "quantizer.embedding.weight": "quantizer.codebooks.0.weight",
        **TRAINING,
    },
    name="ViT-VQGAN",
)

# AILab-CVC/SEED: MultiModalLLM/src/tokenizer/qformer/qformer_causual.py
QUERIES: Rules = {
    "query_tokens": Reshape("encoder.queries", (1, "queries", -1)),
    "Qformer.bert.embeddings.position_ids": None,
    **affine({"ln_vision": "encoder.memory_norm", "Qformer.bert.embeddings.LayerNorm": "encoder.norm"}),
    **affine(
        {
            f"Qformer.bert.encoder.layer.{{}}.{key}": f"encoder.blocks.{{}}.{own}"
            for key, own in {
                "attention.output.LayerNorm": "after1",
                "crossattention.output.LayerNorm": "cross_after",
                "intermediate_query.dense": "mlp.up",
                "output_query.dense": "mlp.down",
                "output_query.LayerNorm": "after2",
                **{
                    f"{published}.{leaf}": f"{own}.{name}"
                    for published, own in (("attention", "attn"), ("crossattention", "cross"))
                    for leaf, name in (
                        ("self.query", "q"),
                        ("self.key", "k"),
                        ("self.value", "v"),
                        ("output.dense", "out"),
                    )
                },
            }.items()
        }
    ),
}

# AILab-CVC/SEED: MultiModalLLM/src/tokenizer/qformer/qformer_quantizer.py; numbers: queries. A second decoder (`blocks`)
# went unused
SEED = Layout(
    {
        **inside(vision.EVA_CLIP.rules, "visual_encoder.", "encoder.vision."),
        **QUERIES,
        **CODEBOOK,
        **affine(
            {
                f"{side}_task_layer.{n}": f"{own}.{n}"
                for side, own in (("encode", "to_code"), ("decode", "from_code"))
                for n in (0, 2)
            }
        ),
        "pos_embed_image": Reshape("positions", (1, "queries", -1)),
        **joined("blocks_image.{}.attn.qkv.", "blocks.{}.attn"),
        **affine(
            {
                "blocks_image.{}.norm1": "blocks.{}.norm1",
                "blocks_image.{}.attn.proj": "blocks.{}.attn.out",
                "blocks_image.{}.norm2": "blocks.{}.norm2",
                "blocks_image.{}.mlp.fc1": "blocks.{}.mlp.up",
                "blocks_image.{}.mlp.fc2": "blocks.{}.mlp.down",
                "distill_image_proj": "out",
            }
        ),
        "image_down.{}.weight": "reduce.{}.weight",
        "pos_embed": None,
        "blocks.*": None,
    },
    name="SEED tokenizer",
)

UNITS = Layout({"cluster_centers_": "quantizer.codebooks.0.weight"}, name="k-means units")
