"""SPHINX's `config.json`: what the language model's class takes (Alpha-VLLM/LLaMA2-Accessory accessory/model/LLM), with the
class's module for its type (`weights/accessory.py`). The encoders are written in the code, and here on the cards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards import card
from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError
from beholder.media.geometry import CLIP_MEAN, CLIP_STD, Fixed, Geometry
from beholder.parts.blocks.moe import Experts
from beholder.parts.blocks.rotary_scaling import LinearScaling
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language.decoder import Decoder
from beholder.parts.language.sizes import llama
from beholder.parts.language.sizes_experts import MIXTRAL_8X7B
from beholder.weights.layout import Binding
from beholder.weights.layouts import sphinx as layouts
from beholder.weights.layouts.blip import VIT
from beholder.weights.layouts.hierarchical import TIMM_CONVNEXT
from beholder.weights.layouts.qformer import QFORMER
from beholder.weights.layouts.vision import DINOV2_ORIGINAL_GATED
from beholder.weights.readers.blip_2 import QUERIES
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.llava_several import encoder_prefix
from beholder.weights.readers.read import Read
from beholder.weights.readers.reading import CONNECTOR, Naming, Reading, language_naming, text_stages

CONTEXT = 4096  # `max_seq_len` of accessory/model/meta.py
# module of the class -> the card that has its encoders
CARDS: Mapping[str, str] = {
    "llama_ens": "sphinx-13b",
    "llama_ens5": "sphinx-1k-13b",
    "llama_ens10": "sphinx-2k-13b",
    "llama_ens_light": "sphinx-tiny-1k-1.1b",
    "llama_ens5_light": "sphinx-tiny-1k-1.1b",
    "mixtral_sparse_ens": "sphinx-moe-1k-8x7b",
    "mixtral_sparse_ens5": "sphinx-moe-1k-8x7b",
}
# those that look at 512 pixels alone, where others of their encoders look at quarters
WHOLE = ("llama_ens_light", "mixtral_sparse_ens")
FRAME = Fixed(size=(512, 512), fit="pad", mean=CLIP_MEAN, std=CLIP_STD, background=(122, 116, 104))


def branch_of(kind: str) -> Branch:
    """What the class of a module sees pictures with."""
    branch = card(CARDS[kind]).branch()
    return branch.but(geometry=FRAME) if kind in WHOLE else branch


def _sphinx(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    kind = str(fields.raw("model_type"))
    branch = branch_of(kind)
    branch = branch.but(geometry=geometry or branch.geometry)
    fields.ignore(
        "load_pretrained_visual_encoder", "max_batch_size", "load_balancing_weight", "trainable_mode"
    )
    language = (_mixtral if kind.startswith("mixtral") else _llama)(fields)
    places = [encoder_prefix(encoder, number) for number, encoder in enumerate(branch.encoders)]
    naming = (
        *(_four(places) if len(places) == 4 else _two(places)),
        Binding("llma.", CONNECTOR, layouts.ENDS),
        *language_naming(language, "llma.", "llma.output."),
    )
    system = Card(
        name=name,
        branches=(branch,),
        fusion=(Splice(token_id=language.config.vocab_size),),
        language=language.config,
        heads=(NextToken(),),
    )
    return Reading(system, (naming,), text_stages())


def _four(places: list[str]) -> Naming:
    """CLIP, ConvNeXt, DINOv2, and BLIP-2's encoder, which its Q-Former reads."""
    clip, convnext, dino, eva = places
    return (
        Binding("llma.clip.", clip, layouts.CLIP),
        Binding("llma.openclip_convnext_xxl.", convnext, TIMM_CONVNEXT),
        Binding("llma.dinov2_vitg14.", dino, DINOV2_ORIGINAL_GATED),
        Binding("llma.qformer.vision_model.", eva, VIT),
        Binding("llma.qformer.", CONNECTOR + "ways.0.stack.", QUERIES),
        Binding("llma.qformer.qformer.", CONNECTOR + "ways.0.stack.", QFORMER),
        Binding("llma.qformer_proj.", CONNECTOR, layouts.way(0, "linear.linear")),
        Binding("llma.visual_proj.", CONNECTOR, layouts.way(1, "then.linear")),
    )


def _two(places: list[str]) -> Naming:
    """ConvNeXt and DINOv2."""
    convnext, dino = places
    return (
        Binding("llma.openclip_convnext_xxl.", convnext, TIMM_CONVNEXT),
        Binding("llma.dinov2_vitg14.", dino, DINOV2_ORIGINAL_GATED),
        Binding("llma.visual_proj.", CONNECTOR, layouts.way(0, "then.linear")),
    )


def _heads(fields: Fields) -> tuple[int, int, dict[str, int]]:
    heads = fields.count("n_heads", 40)
    shared = fields.count("n_kv_heads", heads)
    return heads, shared, {"num_heads": heads, "num_kv_heads": shared}


def _turned(fields: Fields, theta: float, config: Decoder) -> Decoder:
    """With `rope_theta` and `rope_scaling`, by which places are multiplied."""
    scale = fields.raw("rope_scaling")
    scaling = None if scale is None else LinearScaling(1 / fields.positive("rope_scaling"))
    changes = {"attention.rotary.theta": fields.positive("rope_theta", theta)}
    return config.but(context=CONTEXT, **changes, **{"attention.rotary.scaling": scaling})


def _llama(fields: Fields) -> Read[Decoder]:
    """Defaults: `ModelArgs` of llama_ens.py; MLPs are as wide as Meta's code makes them."""
    fields.need("vocab_size")
    dim, (heads, shared, numbers) = fields.count("dim", 5120), _heads(fields)
    hidden, step = int(8 * dim / 3), fields.count("multiple_of", 256)
    if fields.raw("ffn_dim_multiplier") is not None:
        hidden = int(fields.positive("ffn_dim_multiplier") * hidden)
    config = llama(
        fields.count("vocab_size", 32000),
        dim,
        fields.layers("n_layers", 40),
        heads,
        -(-hidden // step) * step,
        shared,
        eps=fields.positive("norm_eps", 1e-5),
    )
    return Read(_turned(fields, 10000.0, config), layouts.DECODER, numbers)


def _mixtral(fields: Fields) -> Read[Decoder]:
    """Defaults: `ModelArgs` of mixtral_sparse_ens5.py."""
    fields.need("vocab_size")
    dim, (heads, shared, numbers) = fields.count("dim", 4096), _heads(fields.assuming(n_heads=32))
    fields.ignore("n_heads", "n_kv_heads")
    moe = fields.part("moe")
    count, active = moe.count("num_experts", 8), moe.count("num_experts_per_tok", 2)
    moe.finish()
    if fields.count("head_dim", 128) * heads != dim:
        raise BeholderError(
            f"{fields.name}: head_dim {fields.raw('head_dim')} x n_heads {heads} is not dim {dim}"
        )
    assert isinstance(MIXTRAL_8X7B.mlp, Experts)
    mlp = MIXTRAL_8X7B.mlp.but(num_experts=count, hidden=fields.count("hidden_dim", 16384))
    config = MIXTRAL_8X7B.but(
        vocab_size=fields.count("vocab_size", 32000),
        dim=dim,
        num_layers=fields.layers("n_layers", 32),
        mlp=mlp,
        **{"attention.num_heads": heads, "attention.num_kv_heads": shared, "mlp.routing.active": active},
        **{"norm.eps": fields.positive("norm_eps", 1e-5)},
    )
    return Read(_turned(fields, 1e6, config), layouts.EXPERTS, {**numbers, "dim": dim})


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = dict.fromkeys(CARDS, _sphinx)
