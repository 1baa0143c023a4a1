"""Settings that the families of their type do not show: other head counts, one key head, scaled rotary positions, windows
in some layers, other end ids, picture sizes that are no power of two, features of several depths.
"""

from core import Case, build_model, family, make_config, pil_processor, square
from families.text import decoder_family
from families.vision import captions, small_text_config
from families.vlm import llava_case

LLAMA_3_ROPE = dict(
    rope_type="llama3",
    rope_theta=500.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
decoder_family(
    "llama_one_kv_head", model_type="llama", num_key_value_heads=1, attention_bias=True, mlp_bias=True
)
decoder_family("llama_all_heads", model_type="llama", num_attention_heads=8, num_key_value_heads=8)
decoder_family("llama_3_rope", model_type="llama", rope_parameters=LLAMA_3_ROPE)
decoder_family(
    "llama_linear_rope",
    model_type="llama",
    rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0),
)
decoder_family("mistral_window", model_type="mistral", sliding_window=5)
decoder_family(
    "qwen2_window", model_type="qwen2", sliding_window=5, use_sliding_window=True, max_window_layers=1
)
decoder_family(
    "qwen2_tied", model_type="qwen2", tie_word_embeddings=True, num_attention_heads=2, num_key_value_heads=1
)


@family("clip_end", "dual-encoder")
def clip_end(sizes):
    """Texts end at the id the config names; pictures of 7 x 7 patches."""
    config = make_config(
        "clip",
        text_config=small_text_config(sizes, eos_token_id=499, num_attention_heads=2),
        vision_config=sizes.vision(image_size=70, patch_size=10, num_attention_heads=8),
        projection_dim=16,
    )
    input_ids, attention_mask = captions(sizes)
    input_ids[input_ids == 2] = 499
    input_ids[0, 2] = 500
    inputs = dict(input_ids=input_ids, attention_mask=attention_mask, pixel_values=sizes.randn(2, 3, 70, 70))
    return Case(build_model("CLIPModel", config), inputs)


@family("llava_one_kv_head", "vlm")
def llava_one_kv_head(sizes):
    return llava_case(sizes, text_settings=dict(num_key_value_heads=1), vision_feature_layer=[-2, -1])


@family("llava_padded", "vlm")
def llava_padded(sizes):
    """Pictures padded to squares, as the LLaVA repository does; at a size where edges matter."""
    case = llava_case(sizes)
    case.processor = None
    case.image_processor = pil_processor(
        "LlavaImageProcessor",
        lambda sizes: dict(size=dict(shortest_edge=sizes.image), crop_size=square(sizes), do_pad=True),
    )
    return case
