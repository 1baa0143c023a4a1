"""Generative vision-language models, the newer ones."""

import torch

from core import Case, build_model, family, keep_accepted, make_config, token_id
from families.vlm import MROPE, glm4v_case, grid_inputs, qwen3_vision_config, qwen_token_ids, text_config


@family("phi4_multimodal", "vlm")
def phi4_multimodal(sizes):
    config = make_config(
        "phi4_multimodal",
        **sizes.text(),
        vision_config=dict(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=56,
            crop_size=56,
            patch_size=14,
            image_token_id=token_id("<|image_1|>"),
        ),
        audio_config=dict(
            hidden_size=32,
            intermediate_size=48,
            num_blocks=2,
            num_attention_heads=4,
            ext_pw_out_channel=32,
            depthwise_separable_out_channel=32,
            nemo_conv_channels=16,
            input_size=16,
            nemo_final_size=2,
            audio_token_id=token_id("<|audio|>"),
            left_chunk=4,
        ),
    )
    model = build_model("Phi4MultimodalForCausalLM", config)
    rows, columns = 1, 2
    high_res_tokens = rows * 2 * (columns * 2 + 1)
    count = high_res_tokens + 1 + 2 * 3
    crops = 1 + rows * columns
    audio_frames = 32
    audio_tokens = audio_frames // 8
    inputs = sizes.prompt([token_id("<|image_1|>")] * count + [210] + [token_id("<|audio|>")] * audio_tokens)
    inputs.update(
        image_pixel_values=sizes.randn(1, crops, 3, 56, 56),
        image_sizes=torch.tensor([[56 * rows, 56 * columns]]),
        image_attention_mask=torch.ones(1, crops, 4, 4),
        audio_input_features=sizes.randn(1, audio_frames, 16),
        audio_embed_sizes=torch.tensor([audio_tokens]),
    )
    return Case(model, inputs, gen=True, record_features=False)


@family("molmo2", "vlm")
def molmo2(sizes):
    config = make_config(
        "molmo2",
        vision_config=dict(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            head_dim=8,
            image_size=[56, 56],
            patch_size=14,
            num_position_embeddings=16,
        ),
        adapter_config=dict(
            hidden_size=32,
            intermediate_size=48,
            num_attention_heads=4,
            num_key_value_heads=4,
            head_dim=8,
            text_hidden_size=sizes.hidden,
            vision_feature_layer=[-1, -2],
            image_feature_dropout=0.0,
        ),
        text_config=sizes.text(head_dim=8, additional_vocab_size=8),
        image_patch_id=token_id("<|patch|>"),
        image_start_token_id=token_id("<|image_start|>"),
        image_end_token_id=token_id("<|image_end|>"),
        low_res_image_start_token_id=token_id("<img>"),
        frame_start_token_id=token_id("<|vision_start|>"),
        frame_end_token_id=token_id("<|vision_end|>"),
    )
    model = build_model("Molmo2ForConditionalGeneration", config)
    pooling = []
    for crop in range(2):
        for row in range(2):
            for column in range(2):
                pooling.append(
                    [crop * 16 + (2 * row + a) * 4 + 2 * column + b for a in range(2) for b in range(2)]
                )
    pooled = torch.tensor(pooling)
    inputs = sizes.prompt(
        [token_id("<|image_start|>")] + [token_id("<|patch|>")] * 8 + [token_id("<|image_end|>")]
    )
    token_type_ids = (inputs["input_ids"] == token_id("<|patch|>")).long()
    inputs.update(
        pixel_values=sizes.randn(2, 16, 14 * 14 * 3),
        image_token_pooling=pooled,
        image_grids=torch.tensor([[2, 2, 2, 2]]),
        image_num_crops=torch.tensor([2]),
        token_type_ids=token_type_ids,
    )
    return Case(model, keep_accepted(model, inputs), gen=True)


family("glm46v", "vlm")(lambda sizes: glm4v_case(sizes, "glm46v", "Glm46VForConditionalGeneration"))


@family("qwen3_5", "vlm")
def qwen3_5(sizes):
    config = make_config(
        "qwen3_5",
        text_config=sizes.text(
            num_hidden_layers=4,
            head_dim=16,
            rope_parameters=dict(
                rope_type="default",
                rope_theta=1000.0,
                mrope_section=[2, 1, 1],
                mrope_interleaved=True,
                partial_rotary_factor=0.5,
            ),
            linear_num_value_heads=4,
            linear_num_key_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            layer_types=["linear_attention", "linear_attention", "full_attention", "linear_attention"],
        ),
        vision_config={
            key: value
            for key, value in qwen3_vision_config(sizes).items()
            if key != "deepstack_visual_indexes"
        },
        **qwen_token_ids(),
    )
    model = build_model("Qwen3_5ForConditionalGeneration", config)
    inputs = grid_inputs(sizes, "<|image_pad|>", [1, 4, 6])
    return Case(model, keep_accepted(model, inputs), gen=True)


@family("paddleocr_vl", "vlm")
def paddleocr_vl(sizes):
    config = make_config(
        "paddleocr_vl",
        text_config=sizes.text(head_dim=8, rope_parameters=MROPE),
        vision_config=dict(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=56,
            patch_size=14,
            spatial_merge_size=2,
        ),
        **qwen_token_ids(),
    )
    model = build_model("PaddleOCRVLForConditionalGeneration", config)
    inputs = grid_inputs(sizes, "<|image_pad|>", [1, 4, 6], temporal_patch=1)
    inputs["pixel_values"] = inputs["pixel_values"].view(-1, 3, 14, 14)
    return Case(model, keep_accepted(model, inputs), gen=True)


@family("lighton_ocr", "vlm")
def lighton_ocr(sizes):
    config = make_config(
        "lighton_ocr",
        text_config=text_config(sizes, "qwen3", head_dim=8),
        vision_config=dict(
            model_type="pixtral",
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            head_dim=8,
            image_size=112,
            patch_size=14,
        ),
        image_token_id=token_id("<|image_pad|>"),
        spatial_merge_size=2,
    )
    height, width = 56, 84
    model = build_model("LightOnOcrForConditionalGeneration", config)
    inputs = sizes.prompt([token_id("<|image_pad|>")] * (height // 28 * (width // 28)))
    inputs.update(pixel_values=sizes.randn(1, 3, height, width), image_sizes=torch.tensor([[height, width]]))
    return Case(model, inputs, gen=True)


@family("kimi_k25", "vlm")
def kimi_k25(sizes):
    config = make_config(
        "kimi_k25",
        text_config=text_config(
            sizes,
            "deepseek_v3",
            moe_intermediate_size=32,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_shared_experts=1,
            first_k_dense_replace=1,
            kv_lora_rank=16,
            q_lora_rank=24,
            qk_rope_head_dim=8,
            qk_nope_head_dim=8,
            v_head_dim=8,
            n_group=1,
            topk_group=1,
            num_key_value_heads=sizes.heads,
        ),
        vision_config=dict(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            patch_size=14,
            pos_emb_height=4,
            pos_emb_width=4,
            pos_emb_time=2,
        ),
        projection_hidden_size=32,
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
    )
    model = build_model("Kimi_K25ForConditionalGeneration", config)
    inputs = grid_inputs(sizes, "<|image_pad|>", [1, 4, 6], temporal_patch=1)
    inputs["pixel_values"] = inputs["pixel_values"].view(-1, 3, 14, 14)
    return Case(model, keep_accepted(model, inputs), gen=True)


@family("ernie4_5_vl_moe", "vlm")
def ernie4_5_vl_moe(sizes):
    config = make_config(
        "ernie4_5_vl_moe",
        text_config=sizes.text(
            rope_parameters=dict(rope_type="default", rope_theta=1000.0, mrope_section=[1, 1, 2]),
            moe_intermediate_size=[32, 24],
            moe_k=2,
            moe_num_experts=4,
            moe_num_shared_experts=1,
            mlp_layer_types=["dense", "sparse"],
        ),
        vision_config=dict(
            depth=2,
            hidden_size=32,
            intermediate_size=48,
            num_heads=4,
            patch_size=14,
            spatial_merge_size=2,
            temporal_merge_size=2,
        ),
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        image_start_token_id=token_id("<|vision_start|>"),
        image_end_token_id=token_id("<|vision_end|>"),
        video_start_token_id=token_id("<|begin_of_video|>"),
        video_end_token_id=token_id("<|end_of_video|>"),
    )
    model = build_model("Ernie4_5_VLMoeForConditionalGeneration", config)
    inputs = grid_inputs(sizes, "<|image_pad|>", [1, 4, 6], temporal_patch=1)
    inputs["moe_mm_token_type_ids"] = inputs["mm_token_type_ids"].clone()
    return Case(model, keep_accepted(model, inputs), gen=True)


@family("hunyuan_vl", "vlm")
def hunyuan_vl(sizes):
    grid = [[1, 4, 6]]
    height, width = grid[0][1] // 2, grid[0][2] // 2
    config = make_config(
        "hunyuan_vl",
        text_config=sizes.text(
            head_dim=16,
            rope_parameters=dict(
                rope_type="default",
                rope_theta=1000.0,
                xdrope_section=[2, 2, 2, 2],
                mrope_section=[2, 2, 2, 2],
            ),
        ),
        vision_config=dict(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            patch_size=16,
            spatial_merge_size=2,
            out_hidden_size=sizes.hidden,
            text_hidden_size=sizes.hidden,
            max_image_size=64,
            img_max_token_num=16,
        ),
        image_token_id=token_id("<|image_pad|>"),
        im_start_id=token_id("<|vision_start|>"),
        im_end_id=token_id("<|vision_end|>"),
        im_newline_id=token_id("<image_newline>"),
    )
    model = build_model("HunYuanVLForConditionalGeneration", config)
    count = height * (width + 1) + 2
    inputs = sizes.prompt([token_id("<|image_pad|>")] * count)
    inputs.update(
        pixel_values=sizes.randn(grid[0][1] * grid[0][2], 3 * 256),
        image_grid_thw=torch.tensor(grid),
        mm_token_type_ids=(inputs["input_ids"] == token_id("<|image_pad|>")).long(),
    )
    return Case(model, keep_accepted(model, inputs), gen=True)


@family("minicpmv4_6", "vlm")
def minicpmv4_6(sizes):
    config = make_config(
        "minicpmv4_6",
        text_config=dict(
            model_type="qwen3_5_text",
            **sizes.text(
                num_hidden_layers=2,
                head_dim=16,
                rope_parameters=dict(
                    rope_type="default",
                    rope_theta=1000.0,
                    mrope_section=[2, 1, 1],
                    mrope_interleaved=True,
                    partial_rotary_factor=0.5,
                ),
                linear_num_value_heads=4,
                linear_num_key_heads=2,
                linear_key_head_dim=8,
                linear_value_head_dim=8,
                layer_types=["linear_attention", "full_attention"],
            ),
        ),
        vision_config=dict(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=112,
            patch_size=14,
            insert_layer_id=1,
        ),
        insert_layer_id=1,
        patch_size=14,
        image_size=112,
        image_token_id=token_id("<image>"),
        video_token_id=token_id("<video>"),
    )
    model = build_model("MiniCPMV4_6ForConditionalGeneration", config)
    height, width = 4, 8
    count = height * width // 16
    inputs = sizes.prompt([token_id("<image>")] * count)
    inputs.update(
        pixel_values=sizes.randn(1, 3, 14, height * width * 14), target_sizes=torch.tensor([[height, width]])
    )
    return Case(model, inputs, gen=True)
