"""Official settings of tokenizers of pictures and sound, by `model_type`. Defaults are those of the official config classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from beholder.errors import BeholderError, UnknownName
from beholder.parts.codecs.contract import CodecConfig
from beholder.parts.codecs.quantizers import Codebooks
from beholder.parts.codecs.seanet import SeaNet, SoundCodec
from beholder.parts.codecs.vqgan import VqGan
from beholder.weights.layouts import codecs as layouts
from beholder.weights.readers.fields import LARGEST, Fields
from beholder.weights.readers.read import Read, Readers, Recorded, read_part

COLOURS = 3
BODY = ("",)
LARGEST_DEPTH = 1024  # a damaged file must not keep us building codebooks


def read_codec(fields: Fields) -> Read[CodecConfig]:
    """A tokenizer of pictures or sound; raises `UnknownName` for a type that is none."""
    return read_part(fields, READERS)


def _counts(fields: Fields, key: str, default: Sequence[int]) -> tuple[int, ...]:
    values = fields.get(key, list(default))
    if not values or not all(type(value) is int and 0 < value <= LARGEST for value in values):
        raise BeholderError(f"{fields.name}: {key} is {values!r}; expected a list of whole numbers above 0")
    return tuple(values)


def _vqgan(
    fields: Fields,
    *,
    size: str,
    codes: Codebooks,
    channels: int = 128,
    multipliers: Sequence[int] = (1, 1, 2, 2, 4),
    latent: int = 256,
    names: Mapping[str, str] = {},
) -> VqGan:
    """What VQ-GANs have in common. size: the name of the number of codes; codes: its defaults; names: what a release calls
    fields otherwise.
    """
    for key in ("in_channels", "out_channels"):
        if fields.count(key, COLOURS) != COLOURS:
            raise BeholderError(
                f"{fields.name}: {key} is {fields.raw(key)}; pictures have {COLOURS} channels"
            )
    doubled = names.get("double_latent", "double_latent")
    if fields.get(doubled, False):
        raise BeholderError(f"{fields.name}: {doubled} is True; a codec has no variances")
    rows, dim = fields.count(size, codes.size), fields.count("embed_dim", codes.dim)
    return VqGan(
        quantizer=codes.but(size=rows, dim=dim, pull=0.25, commit=1.0),
        channels=fields.count(names.get("base_channels", "base_channels"), channels),
        multipliers=_counts(fields, names.get("channel_multiplier", "channel_multiplier"), multipliers),
        blocks=fields.layers("num_res_blocks", 2),
        latent=fields.count(names.get("latent_channels", "latent_channels"), latent),
    )


def _chameleon(fields: Fields) -> Read[VqGan]:
    """The encoder alone: transformers has no decoder of Chameleon's pictures. A null `attn_type` means none."""
    config = _vqgan(fields, size="num_embeddings", codes=Codebooks(size=8192, dim=256))
    attends = "attn_type" not in fields or fields.raw("attn_type") == "vanilla"
    sides, resolution = fields.get("attn_resolutions", []), fields.count("resolution", 512)
    levels = (level for level in range(len(config.multipliers)) if resolution // 2**level in sides)
    attention = tuple(levels) if attends else ()
    config = config.but(attention=attention, middle_attention=attends, decodes=False)
    return Read(config, layouts.TAMING, body=BODY)


JANUS_STAGES = {"codes": Recorded("hook/quantize/2"), "restored": Recorded("decoded_pixel_values")}


def _janus(fields: Fields) -> Read[VqGan]:
    for key in ("num_patches", "projection_dim", "num_hidden_layers", "hidden_act", "image_token_embed_dim"):
        fields.raw(key)  # of the maps between codes and the language model
    config = _vqgan(fields, size="num_embeddings", codes=Codebooks(size=16384, dim=8, unit="read"))
    count = len(config.multipliers)
    return Read(config.but(attention=(count - 1,)), layouts.janus(count), body=BODY, stages=JANUS_STAGES)


def _emu3(fields: Fields) -> Read[VqGan]:
    config = _movq(fields)
    width = fields.count("hidden_size", 1024)
    if {config.widths[level] for level in (*config.attention, -1)} != {width}:
        raise BeholderError(
            f"{fields.name}: attention of width {width} does not fit levels of widths {config.widths}"
        )
    return Read(config, layouts.EMU3, body=BODY)


def _emu3_vision_vq(fields: Fields) -> Read[VqGan]:
    """The released tokenizer, whose names are taming-transformers'."""
    names = {
        "base_channels": "ch",
        "channel_multiplier": "ch_mult",
        "latent_channels": "z_channels",
        "double_latent": "double_z",
    }
    return Read(_movq(fields, names), layouts.EMU3_VISION_VQ, body=BODY)


def _movq(fields: Fields, names: Mapping[str, str] = {}) -> VqGan:
    config = _vqgan(
        fields,
        size="codebook_size",
        codes=Codebooks(size=32768, dim=4),
        channels=256,
        multipliers=(1, 2, 2, 4),
        latent=4,
        names=names,
    )
    levels, count = fields.get("attn_resolutions", [3]), len(config.multipliers)
    if not all(type(level) is int and 0 <= level < count for level in levels):
        raise BeholderError(f"{fields.name}: attn_resolutions names levels {levels} of {count}")
    return config.but(
        attention=tuple(sorted(set(levels))),
        heads=fields.count("num_attention_heads", 1),
        modulated=True,
        frames=fields.count("temporal_downsample_factor", 4),
    )


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
        fields.ignore("overlap")
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
