"""Phi-4-multimodal (2503.01743) as transformers has it. Adapters of released files lie beside them and are not read: what they
change is missing from answers about pictures and sounds. Defaults are those of the official config classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.media.stretches import Stretches
from beholder.parts.audio.conformer import SeparableConv
from beholder.parts.audio.stems import HalvingConvs
from beholder.parts.audio.transformer import SignalTransformer
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.relative import ClippedDistances
from beholder.parts.connectors.company import ByCompany
from beholder.parts.connectors.pooling import GridPool
from beholder.parts.connectors.projections import Mlp
from beholder.parts.connectors.row_marks import RowMarks
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.parts.vision.vit import Take
from beholder.weights.layout import Binding
from beholder.weights.layouts import phi_4 as layouts
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import expect
from beholder.weights.readers.parts import read_vit
from beholder.weights.readers.phi import READERS as PHI
from beholder.weights.readers.read import Recorded, activation_name
from beholder.weights.readers.reading import (
    AUDIO,
    CONNECTOR,
    VISION,
    Reading,
    language_naming,
    text_stages,
)

BLOCK = 500  # tokens that the official encoder hears at once
WORDS = {"vocab_size": 200064, "num_key_value_heads": 8, "max_position_embeddings": 131072}


def phi_4_multimodal(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    eyes = fields.part("vision_config", "phi4_multimodal_vision")
    picture, depth = eyes.get("image_token_id", 200010), eyes.get("feature_layer", -2)
    tower = read_vit(eyes)
    ears = fields.part("audio_config", "phi4_multimodal_audio")
    sound, encoder = ears.get("audio_token_id", 200011), _ears(ears)
    words = fields.assuming(**WORDS)
    words.ignore("vision_config", "audio_config")
    language = PHI["phi3"](words)
    words.finish()
    for key in fields:
        fields.ignore(key)
    card = Card(
        name=name,
        branches=(
            Branch(
                (tower.config.but(take=Take((depth,), norm=False)),),
                geometry,
                GridPool(RowMarks(Mlp()), factor=2),
            ),
            Branch(
                (encoder,),
                connector=ByCompany(),
                name="audio",
                modality="audio",
                stretches=Stretches(most=1, padded=False),
            ),
        ),
        fusion=(
            Splice(token_id=picture, at="<|image_1|>"),
            Splice(token_id=sound, at="<|audio_1|>", branch="audio"),
        ),
        language=language.config,
        heads=(NextToken(),),
    )
    own = "model.embed_tokens_extend."
    naming = (
        Binding(f"{own}image_embed.img_processor.", VISION, tower.layout),
        Binding(f"{own}image_embed.", CONNECTOR, layouts.PICTURES),
        Binding(f"{own}audio_embed.encoder.", AUDIO, layouts.ENCODER),
        Binding(f"{own}audio_embed.", "branches.audio.connector.", layouts.SOUNDS),
        *language_naming(language, "model.", "lm_head."),
    )
    stages = {
        "sound": Recorded(f"hook/{own}audio_embed.encoder"),
        "embeddings": Recorded("hidden_states.0"),
        **text_stages(),
    }
    return Reading(card, (naming,), stages)


def _ears(fields: Fields) -> SignalTransformer:
    """A conformer; tokens of padding, which officially count a little less, are not heard at all."""
    dim = fields.count("hidden_size", 1024)
    for key in ("ext_pw_out_channel", "depthwise_separable_out_channel"):
        if fields.count(key, 1024) != dim:
            raise BeholderError(f"{fields.name}: {key} is not the width {dim}; only equal ones are supported")
    for key, default in (
        ("chunk_size", -1),
        ("downsample_rate", 1),
        ("depthwise_multiplier", 1),
        ("bias_symmetric", False),
    ):
        expect(fields, key, default, default)
    reduced, farthest = fields.count("time_reduction", 8), fields.count("bias_max_distance", 1000)
    steps = reduced.bit_length() - 1
    if 2**steps != reduced or steps > 4:
        raise BeholderError(f"{fields.name}: time_reduction is {reduced}; expected 2, 4, 8 or 16")
    fields.ignore("left_chunk", "nemo_final_size", "dropout_rate", "feature_layer")
    rows = fields.count("input_size", 80)
    encoder = SignalTransformer(
        stem=HalvingConvs(
            channels=fields.count("nemo_conv_channels", 1024),
            steps=steps,
            act=activation_name(fields, "nemo_activation", "relu"),
        ),
        size=(rows, BLOCK * reduced),
        dim=dim,
        num_layers=fields.layers("num_blocks", 24),
        attention=Attention(
            fields.count("num_attention_heads", 16),
            qkv_bias=True,
            out_bias=True,
            relative=ClippedDistances(2 * farthest, farthest),
        ),
        mlp=FeedForward(
            fields.count("intermediate_size", 1536),
            activation_name(fields, "activation", "swish"),
            gated=True,
        ),
        conv=SeparableConv(
            fields.count("kernel_size", 3),
            act=activation_name(fields, "conv_activation", "swish"),
            gate=activation_name(fields, "conv_glu_type", "swish"),
        ),
        last_norm=False,
        block=BLOCK,
    )
    fields.finish()
    return encoder


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {
    "phi4_multimodal": phi_4_multimodal,
}
