"""Official settings of tokenizers of pictures and sound, by `model_type`. Defaults are those of the official config classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from beholder.errors import BeholderError, UnknownName
from beholder.parts.codecs.contract import CodecConfig
from beholder.parts.codecs.quantizers import Codebooks
from beholder.parts.codecs.seanet import SeaNet, SoundCodec
from beholder.parts.codecs.vqgan import VqGan
from beholder.weights.layouts import codecs as layouts
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.read import Read, Readers, Recorded, read_part

COLOURS = 3
BODY = ("",)
LARGEST_DEPTH = 1024  # a damaged file must not keep us building codebooks


def read_codec(fields: Fields) -> Read[CodecConfig]:
    """A tokenizer of pictures or sound; raises `UnknownName` for a type that is none."""
    return read_part(fields, READERS)


def _counts(fields: Fields, key: str, default: Sequence[int]) -> tuple[int, ...]:
    values = fields.get(key, list(default))
    if not values or not all(type(value) is int and value > 0 for value in values):
        raise BeholderError(f"{fields.name}: {key} is {values!r}; expected a list of whole numbers above 0")
    return tuple(values)


def _levels(fields: Fields, key: str, values: Iterable[object], count: int) -> tuple[int, ...]:
    levels = tuple(sorted({value for value in values if type(value) is int}))
    if levels and not 0 <= levels[0] <= levels[-1] < count:
        raise BeholderError(f"{fields.name}: {key} names levels {list(levels)} of {count}")
    return levels


def _vqgan(
    fields: Fields, *, size: str, codes: Codebooks, channels: int, multipliers: Sequence[int]
) -> VqGan:
    """What transformers' VQ-GANs have in common. size: the name of the number of codes; codes: its defaults."""
    for key in ("in_channels", "out_channels"):
        if fields.count(key, COLOURS) != COLOURS:
            raise BeholderError(
                f"{fields.name}: {key} is {fields.raw(key)}; pictures have {COLOURS} channels"
            )
    if fields.get("double_latent", False):
        raise BeholderError(f"{fields.name}: double_latent is True; a codec has no variances")
    latent = 4 if codes.dim == 4 else 256
    return VqGan(
        quantizer=codes.but(
            size=fields.count(size, codes.size),
            dim=fields.count("embed_dim", codes.dim),
            pull=0.25,
            commit=1.0,
        ),
        channels=fields.count("base_channels", channels),
        multipliers=_counts(fields, "channel_multiplier", multipliers),
        blocks=fields.layers("num_res_blocks", 2),
        latent=fields.count("latent_channels", latent),
    )


def _chameleon(fields: Fields) -> Read[VqGan]:
    """The encoder alone: transformers has no decoder of Chameleon's pictures."""
    codes = Codebooks(size=8192, dim=256)
    config = _vqgan(fields, size="num_embeddings", codes=codes, channels=128, multipliers=(1, 1, 2, 2, 4))
    attends = fields.get("attn_type", "vanilla") == "vanilla" and (
        "attn_type" not in fields or fields.raw("attn_type") is not None
    )
    sides = fields.get("attn_resolutions", []) if attends else fields.raw("attn_resolutions") and []
    resolution, count = fields.count("resolution", 512), len(config.multipliers)
    levels = tuple(level for level in range(count) if resolution // 2**level in (sides or ()))
    return Read(
        config.but(attention=levels, middle_attention=attends, decodes=False), layouts.TAMING, body=BODY
    )


JANUS_STAGES = {"codes": Recorded("hook/quantize/2"), "restored": Recorded("decoded_pixel_values")}


def _janus(fields: Fields) -> Read[VqGan]:
    for key in ("num_patches", "projection_dim", "num_hidden_layers", "hidden_act", "image_token_embed_dim"):
        fields.raw(key)  # of the maps between codes and the language model
    codes = Codebooks(size=16384, dim=8, unit="read")
    config = _vqgan(fields, size="num_embeddings", codes=codes, channels=128, multipliers=(1, 1, 2, 2, 4))
    count = len(config.multipliers)
    return Read(config.but(attention=(count - 1,)), layouts.janus(count), body=BODY, stages=JANUS_STAGES)


def _emu3(fields: Fields) -> Read[VqGan]:
    codes = Codebooks(size=32768, dim=4)
    config = _vqgan(fields, size="codebook_size", codes=codes, channels=256, multipliers=(1, 2, 2, 4))
    levels = _levels(fields, "attn_resolutions", fields.get("attn_resolutions", [3]), len(config.multipliers))
    config = config.but(
        attention=levels,
        heads=fields.count("num_attention_heads", 1),
        modulated=True,
        frames=fields.count("temporal_downsample_factor", 4),
    )
    width = fields.count("hidden_size", 1024)
    if {config.widths[level] for level in (*levels, -1)} != {width}:
        raise BeholderError(
            f"{fields.name}: attention of width {width} does not fit levels of widths {config.widths}"
        )
    return Read(config, layouts.EMU3, body=BODY)


NAMES = {"ch": "base_channels", "ch_mult": "channel_multiplier", "z_channels": "latent_channels"}


def _emu3_vision_vq(fields: Fields) -> Read[VqGan]:
    """The released tokenizer, whose names are taming-transformers'."""
    renamed = {official: fields.raw(key) for key, official in NAMES.items()}
    for key in (
        "codebook_size",
        "embed_dim",
        "num_res_blocks",
        "attn_resolutions",
        "temporal_downsample_factor",
    ):
        renamed[key] = fields.raw(key)
    renamed["double_latent"] = fields.raw("double_z")
    for key in ("in_channels", "out_channels"):
        renamed[key] = fields.raw(key)
    base, multipliers = renamed["base_channels"] or 256, renamed["channel_multiplier"] or (1, 2, 2, 4)
    read = _emu3(Fields({**renamed, "hidden_size": base * multipliers[-1]}, fields.name))
    return Read(read.config, layouts.EMU3_VISION_VQ, body=BODY)


ENCODEC_STAGES = {
    "latents": Recorded("hook/encoder"),
    "codes": Recorded("audio_codes"),
    "restored": Recorded("audio_values"),
}
WEIGHT_NORMS = {"weight_norm": "weight", "time_group_norm": "group"}


def _encodec(fields: Fields) -> Read[SoundCodec]:
    norm = fields.get("norm_type", "weight_norm")
    if norm not in WEIGHT_NORMS:
        raise UnknownName(f"{fields.name}: norm_type", norm, WEIGHT_NORMS)
    net = SeaNet(
        filters=fields.count("num_filters", 32),
        ratios=_counts(fields, "upsampling_ratios", (8, 5, 4, 2)),
        repeats=fields.layers("num_residual_layers", 1),
        kernel=fields.count("kernel_size", 7),
        last_kernel=fields.count("last_kernel_size", 7),
        inner_kernel=fields.count("residual_kernel_size", 3),
        growth=fields.count("dilation_growth_rate", 2),
        compress=fields.count("compress", 2),
        causal=fields.get("use_causal_conv", True),
        pad=fields.get("pad_mode", "reflect"),
        norm=WEIGHT_NORMS[norm],
        shortcut=fields.get("use_conv_shortcut", True),
        lstm=fields.layers("num_lstm_layers", 2),
        trim=fields.positive("trim_right_ratio", 1.0),
    )
    dim, rate = fields.count("hidden_size", 128), fields.count("sampling_rate", 24000)
    if fields.count("codebook_dim", dim) != dim:
        raise BeholderError(
            f"{fields.name}: codebook_dim is {fields.raw('codebook_dim')} but hidden_size {dim}"
        )
    size = fields.count("codebook_size", 1024)
    if size < 2 or size & (size - 1):
        raise BeholderError(f"{fields.name}: codebook_size is {size}; expected a power of two")
    depth = int(1000 * _widest(fields) // (math.log2(size) * math.ceil(rate / net.hop)))
    if not 1 <= depth <= LARGEST_DEPTH:
        raise BeholderError(f"{fields.name}: target_bandwidths ask for {depth} codebooks of {size} rows")
    piece, step = _pieces(fields, rate)
    config = SoundCodec(
        quantizer=Codebooks(size=size, dim=dim, depth=depth, averages="kmeans", pull=0.0, commit=1.0),
        net=net,
        rate=rate,
        channels=fields.count("audio_channels", 1),
        loudness=fields.get("normalize", False),
        piece=piece,
        step=step,
    )
    older = (layouts.encodec(layouts.OLD_WEIGHT_NORM),)
    return Read(config, layouts.encodec(), body=BODY, stages=ENCODEC_STAGES, older=older)


def _widest(fields: Fields) -> float:
    """The last bandwidth, in kilobits a second, which all codebooks together fill."""
    values = fields.get("target_bandwidths", [1.5, 3.0, 6.0, 12.0, 24.0])
    if not values or not all(type(value) in (int, float) and 0 < value < math.inf for value in values):
        raise BeholderError(
            f"{fields.name}: target_bandwidths is {values!r}; expected a list of numbers above 0"
        )
    return float(values[-1])


def _pieces(fields: Fields, rate: int) -> tuple[int | None, int | None]:
    """Samples coded at once, and from one such piece to the next."""
    if fields.raw("chunk_length_s") is None:
        fields.raw("overlap")
        return None, None
    piece = int(fields.positive("chunk_length_s") * rate)
    overlap = fields.get("overlap", 0.0)
    if not 0 <= overlap < 1:
        raise BeholderError(f"{fields.name}: overlap is {overlap}; expected 0 to 1")
    return piece, max(1, int((1.0 - overlap) * piece))


def _speech_tokenizer(fields: Fields) -> Read[SoundCodec]:
    """`config.json` of fnlp/SpeechTokenizer, which names no `model_type`; what trains it is left unread."""
    activations = {"ELU": "elu", "Snake": "snake"}
    act = fields.get("activation", "ELU")
    if act not in activations:
        raise UnknownName(f"{fields.name}: activation", act, activations)
    net = SeaNet(
        filters=fields.count("n_filters", 64),
        ratios=_counts(fields, "strides", (8, 5, 4, 2)),
        repeats=fields.layers("n_residual_layers", 1),
        inner_kernel=fields.count("residual_kernel_size", 3),
        growth=fields.count("dilation_base", 2),
        causal=False,
        act=activations[act],
        lstm=fields.layers("lstm_layers", 2),
        both_ways=fields.get("bidirectional", True),
    )
    dim, semantic = fields.count("dimension", 1024), fields.count("semantic_dimension", 768)
    codes = Codebooks(
        size=fields.count("codebook_size", 1024),
        dim=dim,
        depth=fields.layers("n_q", 8),
        averages="kmeans",
        pull=0.0,
        commit=1.0,
    )
    rate = fields.count("sample_rate", 16000)
    config = SoundCodec(quantizer=codes, net=net, rate=rate, semantic=semantic if semantic != dim else None)
    return Read(config, layouts.seanet(net), body=BODY)


READERS: Readers = {
    "chameleon_vqgan": _chameleon,
    "janus_vqgan": _janus,
    "emu3_vqgan": _emu3,
    "Emu3VisionVQ": _emu3_vision_vq,
    "encodec": _encodec,
    "speechtokenizer": _speech_tokenizer,
}
