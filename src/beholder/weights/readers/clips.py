"""Official settings of encoders of clips."""

from __future__ import annotations

from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.rotary3d import SpaceTimeRotary
from beholder.parts.heads.foretold import Foretold
from beholder.parts.vision.patches import Patches
from beholder.parts.vision.positions import FrameTable
from beholder.parts.vision.vit import ViT
from beholder.weights.layout import Binding
from beholder.weights.layouts.clips import V_JEPA_2, V_JEPA_2_PREDICTOR, VIDEO_MAE
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.hierarchical import side
from beholder.weights.readers.read import Read, Readers, Recorded, activation_name

UNREAD = "hidden_dropout_prob attention_probs_dropout_prob initializer_range num_channels norm_pix_loss"
DECODER = (
    "decoder_num_attention_heads decoder_hidden_size decoder_num_hidden_layers decoder_intermediate_size"
)


def _video_mae(fields: Fields) -> Read[ViT]:
    """All frames of a clip, in runs, see each other; fixed places. The norm behind is there where means are not pooled."""
    fields.ignore(*UNREAD.split(), *DECODER.split())
    run = fields.count("tubelet_size", 2)
    bias = fields.get("qkv_bias", fields.get("qv_bias", True))
    vit = ViT(
        image_size=side(fields, "image_size", 224),
        patch=side(fields, "patch_size", 16),
        dim=fields.count("hidden_size", 768),
        num_layers=fields.layers("num_hidden_layers", 12),
        attention=Attention(
            fields.count("num_attention_heads", 12), qkv_bias=bias, k_bias=False, out_bias=True
        ),
        mlp=FeedForward(
            fields.count("intermediate_size", 3072), activation_name(fields, "hidden_act", "gelu")
        ),
        norm=Norm("layer", fields.positive("layer_norm_eps", 1e-12)),
        patches=Patches(frames=run, joint=True),
        positions=FrameTable(fields.count("num_frames", 16) // run, learned=False),
        post_norm=not fields.get("use_mean_pooling", True),
    )
    return Read(vit, VIDEO_MAE, body=("videomae.", ""))


def _v_jepa_2(fields: Fields) -> Read[ViT]:
    """V-JEPA 2 (2506.09985); files of the bare model hold the predictor besides."""
    fields.ignore(
        *UNREAD.split(), "drop_path_rate", "num_pooler_layers", "pred_zero_init_mask_tokens", "in_chans"
    )
    dim, eps = fields.count("hidden_size", 1024), fields.positive("layer_norm_eps", 1e-6)
    run, act = fields.count("tubelet_size", 2), activation_name(fields, "hidden_act", "gelu")
    bias = fields.get("qkv_bias", True)

    def attention(heads: int) -> Attention:
        return Attention(heads, qkv_bias=bias, out_bias=True, rotary=SpaceTimeRotary())

    def mlp(width: int, key: str) -> FeedForward:
        return FeedForward(int(width * fields.positive(key, 4.0)), act)

    vit = ViT(
        image_size=side(fields, "crop_size", 256),
        patch=side(fields, "patch_size", 16),
        dim=dim,
        num_layers=fields.layers("num_hidden_layers", 24),
        attention=attention(fields.count("num_attention_heads", 16)),
        mlp=mlp(dim, "mlp_ratio"),
        norm=Norm("layer", eps),
        patches=Patches(frames=run, joint=True),
        positions=None,
    )
    fields.ignore("frames_per_clip")
    width, masks = fields.count("pred_hidden_size", 384), fields.count("pred_num_mask_tokens", 10)
    head = Foretold(
        dim=dim,
        width=width,
        num_layers=fields.layers("pred_num_hidden_layers", 12),
        attention=attention(fields.count("pred_num_attention_heads", 12)),
        mlp=mlp(width, "pred_mlp_ratio"),
        norm=Norm("layer", eps),
        masks=masks,
        mask=1 % masks,
    )
    return Read(
        vit,
        V_JEPA_2,
        body=("encoder.",),
        heads=(head,),
        rest=(Binding("predictor.", "heads.0.", V_JEPA_2_PREDICTOR, {"masks": masks}),),
        stages={
            "vision": Recorded("last_hidden_state"),
            "foretold": Recorded("predictor_output.last_hidden_state"),
        },
    )


READERS: Readers = {"videomae": _video_mae, "vjepa2": _v_jepa_2}
