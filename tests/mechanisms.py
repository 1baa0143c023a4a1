"""What proves that a card computes a mechanism of the catalogue: a fact about the card, and the property test behind it.

A fact is `Class`, `Class.field=value` or `Class.field` (set to something), found anywhere in the card as data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from beholder.cards.schema import Card
from beholder.config import Config

KINDS = ("vision", "connector", "fusion", "language", "head", "processing")


class Proof(NamedTuple):
    """facts: all must hold, of those joined by `|` one. test: the start of its node id, or several; every test that it
    names must pass.
    """

    facts: tuple[str, ...]
    test: str | tuple[str, ...]

    def holds(self, found: set[str]) -> bool:
        """Whether a card with these facts uses the part."""
        return all(any(one in found for one in fact.split("|")) for fact in self.facts)


HD = "tests/media/test_hd.py"
GEOMETRY, VISION, LANGUAGE = (
    "tests/media/test_geometry.py",
    "tests/parts/test_vision.py",
    "tests/parts/test_language.py",
)
MARKED = "|".join(f"ChatFormat.name={name}" for name in ("minigpt-4", "kosmos-1", "kosmos-2"))
KIN = "tests/parts/test_query_kin.py"
ATTENTION, CONNECTORS = "tests/parts/test_attention.py", "tests/parts/test_connectors.py"
MIXERS, CODECS = "tests/parts/test_mixers.py", "tests/parts/test_codecs.py"
STAGED = "tests/parts/test_hierarchical.py"
TEXTS = "tests/parts/test_text_models.py"
IMAGEBIND = "tests/test_imagebind.py"
TWO_WAY = "tests/parts/test_two_way.py"
LAYERS, DECODERS = "tests/parts/test_layers.py", "tests/parts/test_decoders.py"
OWN_CODE = "tests/parts/test_own_code_decoders.py::test_own_code_models_equal_a_reference"
PARTIAL = "|".join(f"Rotary.share={share}" for share in (0.25, 0.4, 0.5, 0.75))
GLIP = "tests/parts/test_glip.py"
AUDIO, SOUND = "tests/parts/test_audio.py", "tests/media/test_sound.py"
CHAT, TOKENIZER = "tests/prompts/test_chat.py", "tests/prompts/test_tokenizer.py"

HYPER = "tests/parts/test_hyper_attention.py"
LOOKS, TILED = "tests/parts/test_cross_attention.py", "tests/parts/test_tiled_vit.py"
TEMPORAL = "tests/parts/test_temporal.py"
VITS, PARITY = "tests/parts/test_vit.py", "tests/test_parity.py::test_outputs_are_equal"
VIT_NAMES = "tests/parts/test_vit_names.py::test_publishers_names"
NATIVE = "AxialRotary|Sinusoids|GridTable.resize=bilinear|GridTable.resize=bucketed"

CONVOLVED, RESAMPLERS = "tests/parts/test_convolutional.py", "tests/parts/test_resamplers.py"
HAWK = "tests/parts/test_hawk.py"
SLICES, RESAMPLED = "tests/media/test_slices.py", "tests/prompts/test_formats_resamplers.py"
EXPERTS, PATCH_LAYERS = "tests/parts/test_visual_experts.py", "tests/parts/test_patch_layers.py"
BOTH_CROSS = (f"{LOOKS}::test_the_gated_layer", "tests/parts/test_blip.py::test_queries_of_words")
CROPS = "tests/parts/test_crops.py"
TRIMMED = "tests/media/test_trimmed.py"
ADAPTERS = "tests/parts/test_adapters.py"
LORA = "tests/parts/test_lora_experts.py"
DEPTHS = "tests/parts/test_expert_connectors.py"

AGGREGATOR = "tests/parts/test_aggregator.py"
SEVERAL, PIECES = "tests/parts/test_several.py", "tests/parts/test_pieces.py"

REGIONS = "tests/parts/test_region_tokens.py"
COMPOSING = "tests/test_composing.py"
OBJECTS, SEGMENTS = "tests/parts/test_object_queries.py", "tests/test_segments.py"

MERGERS, GRIDS, ANSWERS = (
    "tests/parts/test_merger.py",
    "tests/parts/test_grid_positions.py",
    "tests/prompts/test_answers.py",
)

POOLING, LLAVA_FORMATS = "tests/parts/test_pooling.py", "tests/prompts/test_formats_llava.py"
UNTIED = "tests/parts/test_untied_places.py"
CONTRASTED = "tests/parts/test_text_query.py"
BOTH_WAYS = "tests/parts/test_seeing_both_ways.py"

PROOFS: dict[str, Proof] = {
    "video-vit-encoder": Proof(("Patches.joint=True",), f"{VITS}::test_frames_that_see"),
    "token-merging": Proof(("TokenMerging",), f"{TEMPORAL}::test_tokens_that"),
    "text-guided-token-selection": Proof(("TokenDropout",), f"{TEMPORAL}::test_what_the_last"),
    "temporal-module": Proof(("OverTime",), f"{TEMPORAL}::test_a_module_over"),
    "spatio-temporal-pooling": Proof(("SpaceAndTime",), f"{TEMPORAL}::test_means_over"),
    "slowfast-pooling": Proof(("SlowFast",), f"{TEMPORAL}::test_slow_and_fast"),
    "progressive-visual-token-dropout": Proof(("TokenDropout",), f"{TEMPORAL}::test_deeper_layers"),
    "dual-rate-frame-sampling": Proof(
        ("Frames.rate=1.0", "Frames.least=64"), "tests/media/test_recordings.py::test_numbers_of"
    ),
    "absolute-pixel-coordinates": Proof(("JsonRegions.unit=pixels",), f"{ANSWERS}::test_pixels_follow"),
    "absolute-time-m-rope": Proof(("GridPositions.per_second",), f"{GRIDS}::test_time_is"),
    "box-ref-tokens": Proof(
        ("BoxTokens|PromptedMasks.phrases",),
        (f"{ANSWERS}::test_boxes_between", "tests/test_segments.py::test_every_phrase"),
    ),
    "html-document-format": Proof(("HtmlRegions",), f"{ANSWERS}::test_pages"),
    "json-grounding-output": Proof(("JsonRegions",), f"{ANSWERS}::test_json"),
    "m-rope": Proof(("GridPositions", "Rotary.sections"), GRIDS),
    "patch-merger-2x2": Proof(("Merger",), f"{MERGERS}::test_a_merger"),
    "thinking-mode": Proof(("Turn.thought",), "tests/prompts/test_thoughts.py"),
    "differential-frame-pruner": Proof(("Moving", "DropStill"), "tests/parts/test_still.py"),
    "streaming-video-format": Proof(("ChatFormat.name=videollama3",), "tests/prompts/test_streaming.py"),
    "smart-resize": Proof(("SmartResize",), "tests/media/test_smart.py"),
    "channel-concat-fusion": Proof(
        ("Concat.along=channels|CropPool",),
        (f"{SEVERAL}::test_channels_are_joined", f"{CROPS}::test_the_map_of"),
    ),
    "feature-interpolation": Proof(("Concat.along=channels",), f"{SEVERAL}::test_channels_are_joined"),
    "hybrid-dual-encoder-adapter": Proof(
        ("Strided.early=True", "Concat"), f"{SEVERAL}::test_maps_are_halved"
    ),
    "multi-encoder-fusion": Proof(
        ("Concat|PatchMining|SpatialAggregator",),
        (f"{SEVERAL}::test_channels_are", f"{SEVERAL}::test_each_encoder_sees"),
    ),
    "dense-ocr-to-markdown": Proof(
        ("Task.name=markdown",), "tests/prompts/test_formats_several.py::test_vary_reads_pages"
    ),
    "dual-perspective-enhancement": Proof(
        ("DualPerspective", "Pieces.strided=True"), f"{PIECES}::test_local_and"
    ),
    "interleaved-global-cropping": Proof(
        ("Pieces.strided=True",), (f"{PIECES}::test_pieces_are", f"{PIECES}::test_cutting_a_map")
    ),
    "patch-info-mining": Proof(
        ("PatchMining",), (f"{PIECES}::test_a_token_reads", f"{PIECES}::test_pieces_of")
    ),
    "spatial-vision-aggregator": Proof(
        ("SpatialAggregator",), (f"{AGGREGATOR}::test_a_query", f"{AGGREGATOR}::test_connector_gives")
    ),
    "layoutlmv3-encoder": Proof(("PageEncoder",), "tests/parts/test_task_encoders.py::test_pages"),
    "multi-patch-one-token-mlp": Proof(
        ("Concat.along=sequence", "Adjacent"), f"{SEVERAL}::test_patches_that_follow"
    ),
    "pix2struct-encoder": Proof(("RowsColumns",), "tests/parts/test_task_encoders.py::test_pix2struct"),
    "set-of-mark-prompt": Proof(("Task.name=marks",), "tests/media/test_marks.py"),
    "skip-token-padding": Proof(("SubImages.skips=True",), f"{SEVERAL}::test_tiles_of_padding"),
    "sequence-concat-fusion": Proof(("Concat.along=sequence",), f"{SEVERAL}::test_tokens_of_a_view"),
    "adaptive-slicing": Proof(("Slices",), f"{SLICES}::test_slices_have"),
    "crop-position-encoding": Proof(("Abstractor.crops=15",), f"{RESAMPLERS}::test_crops_are"),
    "box-regression-head": Proof(("BoxRegression",), f"{HAWK}::test_boxes_are"),
    "h-former": Proof(("HFormer",), f"{HAWK}::test_the_h_former"),
    "multi-level-cross-attention": Proof(("Hawk.levels",), f"{HAWK}::test_each_layer"),
    "query-proposal-network": Proof(("Hawk",), f"{HAWK}::test_queries_are"),
    "resample-rearrange": Proof(("Hawk.join",), (f"{HAWK}::test_neighbours", f"{HAWK}::test_each_layer")),
    "scalable-position-embedding": Proof(
        ("Hawk",), (f"{HAWK}::test_positions_lie", f"{HAWK}::test_tiles_are_told")
    ),
    "cross-attention-resampler": Proof(
        ("CrossResampler|SizedQueries",),
        (f"{RESAMPLERS}::test_the_cross_resampler", f"{TRIMMED}::test_a_trimmed_view"),
    ),
    "per-tile-vit-lora": Proof(("TileLora",), f"{RESAMPLERS}::test_each_tile"),
    "slice-spatial-schema": Proof(("Slices.row",), f"{SLICES}::test_the_schema"),
    "c-abstractor": Proof(("CAbstractor",), f"{CONVOLVED}::test_the_c_abstractor"),
    "d-abstractor": Proof(("DAbstractor",), f"{CONVOLVED}::test_the_d_abstractor"),
    "deformable-attention": Proof(("DAbstractor",), f"{CONVOLVED}::test_deformable_attention"),
    "ldp": Proof(("Ldp",), f"{CONVOLVED}::test_ldp_halves"),
    "ldp-v2": Proof(("Ldp2",), f"{CONVOLVED}::test_ldp2"),
    "alibi": Proof(("Alibi",), f"{LAYERS}::test_alibi"),
    "alpha-channel-conv": Proof(("Patches.mask=True",), "tests/parts/test_masked_clip.py"),
    "anyres-tiling": Proof(("AnyRes",), f"{GEOMETRY}::test_anyres"),
    "aspect-ratio-embedding": Proof(("TiledViT",), f"{TILED}::test_each_shape"),
    "ast-encoder": Proof(("SignalPatches",), f"{AUDIO}::test_imagebind_trunks"),
    "attentive-probe-head": Proof(("ViT.pool=query", "Labels"), f"{PARITY}[aimv2_native]"),
    "audio-conv-downsample": Proof(("PlaneConvs|FrameConvs",), f"{AUDIO}::test_vita_encoder"),
    "audio-transformer-encoder": Proof(("SignalTransformer", "PlaneConvs"), f"{AUDIO}::test_vita_encoder"),
    "beats-encoder": Proof(("SignalPatches.by_time=True", "GatedAttention"), f"{AUDIO}::test_beats_equals"),
    "bert-text-encoder": Proof(
        ("TextEncoder.causal=False", "Arrangement.placement=post"), f"{TEXTS}::test_pools"
    ),
    "bidirectional-captioning": Proof(("BiCaptioner", "PreviousToken"), "tests/parts/test_virtex.py::test_"),
    "bidirectional-llm-encoder": Proof(("TwoWayDecoder",), f"{TWO_WAY}::test_every_token"),
    "bidirectional-text-encoder": Proof(("TextEncoder.causal=False",), f"{LANGUAGE}::test_a_causal_tower"),
    "block-diagonal-attention": Proof((NATIVE,), f"{VITS}::test_attention_by_segment"),
    "block-sparse-attention": Proof(("BlockSparse",), "tests/parts/test_block_sparse.py"),
    "bpe-tokenizer": Proof(("Decoder|TextEncoder",), TOKENIZER),
    "causal-decoder": Proof(("Decoder",), f"{LANGUAGE}::test_decoder_equals"),
    "causal-q-former": Proof(("QueryEncoder.causal=True",), f"{CODECS}::test_seed_with"),
    "causal-text-encoder": Proof(("TextEncoder.causal=True",), f"{LANGUAGE}::test_a_causal_tower"),
    "channel-group-attention": Proof(("DaVit",), "tests/parts/test_florence.py::test_channels_see"),
    "chat-template": Proof(("ChatFormat",), "tests/prompts/test_formats.py"),
    "class-token": Proof(("ViT.cls=True",), f"{VISION}::test_vit_equals"),
    "classification-head": Proof(("Labels",), "tests/test_labels.py::test_scores_are"),
    "cls-holistic-token": Proof(("PooledPatches|StackedPatches",), PATCH_LAYERS),
    "clip-vit-encoder": Proof(
        (
            "ViT.cls=True|SignalPatches.channels=3|ViT.dim=1664|Rescaled",
            "ViT.pre_norm=True|SignalTransformer.first_norm=True",
        ),
        f"{VISION}::test_vit_equals",
    ),
    "conv-patch-embedding-layer": Proof(("PooledPatches|StackedPatches",), PATCH_LAYERS),
    "conv-downsample-adapter": Proof(
        ("Glu.stride=2|Strided",), (f"{EXPERTS}::test_published_names", f"{SEVERAL}::test_maps_are_halved")
    ),
    "conv-stem": Proof(("ConvStem",), "tests/parts/test_conv_stem.py::test_the_stem_equals"),
    "conv3d-patch-embed": Proof(("Patches.frames=2|SignalPatches.frames=2",), f"{VITS}::test_runs_of_frames"),
    "convnext-encoder": Proof(
        ("ConvNext",), f"{STAGED}::test_views_of_unequal_sizes_equal_each_alone[convnext"
    ),
    "markdown-grounding-links": Proof(
        ("BoxTokens", "Cells"), "tests/prompts/test_query_tasks.py::test_a_phrase_links"
    ),
    "ocr-token-input": Proof(("Task.name=read",), "tests/prompts/test_query_tasks.py::test_texts_found"),
    "task-identifier-tokens": Proof(
        ("Task.name=vqa", "Task.name=refer"), "tests/prompts/test_query_tasks.py::test_a_tag_begins"
    ),
    "coordinates-as-text": Proof(("Coordinates",), "tests/prompts/test_coordinates.py"),
    "adjacent-token-concat": Proof(("Adjacent",), f"{KIN}::test_tokens_that_follow"),
    "dual-path-query-plus-patch": Proof(("QueriesAndPatches",), f"{KIN}::test_patches_stand_behind"),
    "instruction-aware-q-former": Proof(
        ("QFormer.vocab_size",),
        ("tests/parts/test_qformer.py::test_what_comes_out", "tests/test_questions.py"),
    ),
    "post-block-rmsnorm": Proof(("Arrangement.mixer_norm",), f"{KIN}::test_what_attention_gives"),
    "cross-attention-layers": Proof(
        ("GatedCross|Resurrecting|Memory|Aggregators",), (*BOTH_CROSS, f"{AGGREGATOR}::test_layers_change")
    ),
    "davit-encoder": Proof(("DaVit",), f"{STAGED}::test_encoders_inside_systems"),
    "deepnorm": Proof(
        ("Arrangement.placement=normed", "Arrangement.skip=3.5565588200778455"),
        "tests/parts/test_deepnorm.py",
    ),
    "depth-disparity-encoder": Proof(("Branch.modality=depth",), f"{AUDIO}::test_imagebind_trunks"),
    "depth-upscaling": Proof(("Decoder.num_layers=48",), "tests/train/test_deepen.py"),
    "dinov2-encoder": Proof(
        ("ViT.mask_token=True|GridTable.patches=True", "Arrangement.layer_scale"), VIT_NAMES
    ),
    "dynamic-ntk-rope": Proof(("DynamicScaling|SteppedScaling",), f"{DECODERS}::test_stepped"),
    "dynamic-tile-budget": Proof(("HdTiles.budgets",), f"{HD}::test_the_budget_decides"),
    "dynamic-tiling": Proof(
        ("AnyRes|Canvas|HdTiles|Tiles|Anchors",),
        (
            "tests/media/test_tiles.py::test_the_nearest",
            f"{SLICES}::test_anchors",
            f"{HD}::test_the_budget_decides",
            f"{GEOMETRY}::test_anyres",
        ),
    ),
    "encoder-decoder-lm": Proof(("EncoderDecoder",), f"{TEXTS}::test_generation_equals"),
    "encoder-visual-concat": Proof(
        ("Splice", "EncoderDecoder"), "tests/parts/test_florence.py::test_pictures_and_words"
    ),
    "eot-pooling": Proof(
        ("TextEncoder.pool=highest|TextEncoder.pool=end",), f"{LANGUAGE}::test_text_tower_pools"
    ),
    "eva-clip-vit-encoder": Proof(
        ("ViT", "Attention.k_bias=False|Arrangement.placement=after|ViT.num_layers=39"), VIT_NAMES
    ),
    "fractional-position-bucketing": Proof(("GridTable.resize=bucketed",), f"{VISION}::test_bucketed"),
    "fps-frame-sampling": Proof(("Frames.rate",), "tests/media/test_clips.py::test_paced"),
    "frame-stacking-projector": Proof(("Adjacent.drop=True",), "tests/test_hearing.py::test_frames_beyond"),
    "frame-sequence-as-images": Proof(("Frames",), "tests/media/test_clips.py::test_frames_are"),
    "gated-cross-attention": Proof(("GatedCross.gate",), f"{LOOKS}::test_zero_gates"),
    "gated-pos-embedding": Proof(("TiledViT",), f"{TILED}::test_the_gate_mixes"),
    "adaptive-avg-pooling": Proof(
        ("GridPool|TileCap|Ldp2|CAbstractor|DAbstractor|ClipPool|SlowFast",),
        (
            f"{TEMPORAL}::test_pooling_over",
            f"{TEMPORAL}::test_slow_and",
            f"{POOLING}::test_adaptive_pooling",
            f"{CONVOLVED}::test_ldp2",
            f"{CONVOLVED}::test_the_d_abstractor",
        ),
    ),
    "anyres-token-cap": Proof(("TileCap", "AnyRes"), f"{POOLING}::test_tiles_beyond"),
    "image-index-delimiters": Proof(
        ("ChatFormat.name=mantis",), f"{LLAVA_FORMATS}::test_pictures_are_numbered"
    ),
    "bidirectional-image-attention": Proof(("Splice.sees=picture",), f"{BOTH_WAYS}::test_a_picture_sees"),
    "convnext-extra-stage": Proof(
        ("ConvNext.depths=(3, 3, 27, 3, 6)",), "tests/parts/test_visual_table.py::test_a_fifth_stage"
    ),
    "pan-and-scan": Proof(("PanAndScan.most=4",), "tests/media/test_pan_and_scan.py"),
    "segmentation-codewords": Proof(("Task.gives=masks",), "tests/parts/test_mask_words.py"),
    "visual-embedding-table": Proof(("VisualTable",), "tests/parts/test_visual_table.py::test_a_token_is"),
    "multi-scale-s2-wrapper": Proof(("MultiScale",), "tests/parts/test_multi_scale.py::test_every_size"),
    "plug-and-play-backbones": Proof(("Mlp|Resampler", "Splice"), "tests/test_combinations.py"),
    "projector-layernorm": Proof(("Mlp.norms=True|Mlp.norm=True",), f"{POOLING}::test_norms_stand"),
    "response-format-prompt": Proof(("Task.name=short answer",), f"{LLAVA_FORMATS}::test_the_form"),
    "structured-output-format": Proof(("Task.gives=json",), f"{LLAVA_FORMATS}::test_answers_to_a_schema"),
    "geglu": Proof(("FeedForward.act=gelu_tanh", "FeedForward.gated=True"), f"{ATTENTION}::test_gated"),
    "global-gated-vit-layers": Proof(("TiledViT",), f"{TILED}::test_closed_gates"),
    "global-local-separator-token": Proof(("HdTiles", "RowMarks"), f"{HD}::test_layout_follows"),
    "global-thumbnail": Proof(
        ("SubImages|AnyRes|HdTiles|Split|Tiles|Slices|Anchors|Cut|OverlapCrops",),
        (
            f"{CROPS}::test_crops_share",
            f"{SEVERAL}::test_sub_images",
            f"{GEOMETRY}::test_every_view",
            SLICES,
            f"{HD}::test_layout_follows",
        ),
    ),
    "gqa": Proof(("Attention.num_kv_heads",), f"{ATTENTION}::test_shared_keys"),
    "high-res-cross-module": Proof(("Memory", "Places"), f"{EXPERTS}::test_cogagent_reads"),
    "hiera-encoder": Proof(("Hiera",), f"{STAGED}::test_encoders_inside_systems"),
    "hierarchical-task-tags": Proof(
        ("ChatFormat.name=qwen-audio-transcribe",), "tests/prompts/test_formats_sounds.py::test_tags"
    ),
    "hubert-encoder": Proof(("WaveConvs",), f"{AUDIO}::test_padding_changes_nothing"),
    "hybrid-attention-ssm": Proof(("Mamba|Mamba2|Hyena", "Attention"), f"{MIXERS}::test_pieces"),
    "hybrid-linear-softmax-attention": Proof(("Lightning", "Attention"), f"{MIXERS}::test_pieces"),
    "hybrid-thumbnail-self-tile-cross": Proof(
        ("GatedCross.role=tile", "Splice"), f"{LOOKS}::test_the_thumbnail"
    ),
    "hyena-gated-conv": Proof(("Hyena",), f"{MIXERS}::test_hyena"),
    "hyper-attention": Proof(("HyperAttention",), f"{HYPER}::test_a_layer_equals"),
    "image-boundary-tokens": Proof(
        ("Glu.ends=True|ChatFormat.name=qwen-2-vl|Native.end|ChatFormat.name=qwen-vl|" + MARKED,),
        (f"{EXPERTS}::test_published_names", "tests/prompts/test_formats.py", RESAMPLED),
    ),
    "image-causal-xattn-mask": Proof(("GatedCross",), f"{LOOKS}::test_a_token_sees"),
    "image-newline-token": Proof(
        (
            "OverlapCrops.newline=<im_col>|Native.newline=[IMG_BREAK]|HdTiles|AnyRes|Split|RawPatches|PooledPatches|StackedPatches",
        ),
        ("tests/media/test_", f"{CROPS}::test_rows_of_tokens"),
    ),
    "image-splitting": Proof(
        ("Split|Cut|Pieces|SubImages|Trimmed.pinpoints|Bounded.splits=True",),
        (
            f"{SLICES}::test_quarters",
            *(f"{GEOMETRY}::test_split", f"{SLICES}::test_a_cut", f"{PIECES}::test_pieces_are"),
            f"{TRIMMED}::test_large_pictures",
        ),
    ),
    "imagebind-encoder": Proof(("ExtraKeyAttention",), f"{AUDIO}::test_imagebind_trunks"),
    "imu-encoder": Proof(("Branch.modality=imu",), f"{AUDIO}::test_imagebind_trunks"),
    "internvit-encoder": Proof(("ViT.post_norm=False", "Arrangement.layer_scale"), VIT_NAMES),
    "atss-assignment": Proof(("Grounding.candidates",), f"{GLIP}::test_anchors_are"),
    "centerness-head": Proof(("Grounding",), f"{GLIP}::test_centred"),
    "deep-fusion-cross-attention": Proof(("DeepFusion",), f"{GLIP}::test_fusion_changes"),
    "detection-as-grounding-prompt": Proof(("Grounding",), f"{GLIP}::test_detection_is"),
    "dyhead": Proof(("Grounding",), f"{GLIP}::test_detector_equals"),
    "fpn": Proof(("FeaturePyramid",), f"{GLIP}::test_pyramid"),
    "nms": Proof(("Grounding.overlap|Proposals.overlap",), "tests/parts/test_regions.py::test_overlap"),
    "positive-map-tokens": Proof(("Grounding",), f"{GLIP}::test_phrases_stand"),
    "prefix-lm-mask": Proof(
        ("EncoderDecoder|Splice.sees=prompt", "Splice"),
        ("tests/parts/test_prefix_lm.py::test_the_prefix", f"{BOTH_WAYS}::test_a_question_sees"),
    ),
    "q-former": Proof(("QueryStack",), "tests/parts/test_qformer.py::test_every_second"),
    "region-word-alignment-score": Proof(("Grounding",), f"{GLIP}::test_scores_are"),
    "itm-head": Proof(
        ("Matching|QueryRetrieval",),
        ("tests/parts/test_joint.py::test_matching_and", "tests/parts/test_queried.py::test_matching_reads"),
    ),
    "layerscale": Proof(("Arrangement.layer_scale",), VIT_NAMES),
    "learnable-media-tokens": Proof(("GatedCross.learned=True",), f"{LOOKS}::test_pictures_have"),
    "learned-1d-pos": Proof(("GridTable|TokenEmbedding.positions=learned",), f"{VISION}::test_vit_equals"),
    "learned-2d-pos": Proof(("Placed",), "tests/parts/test_florence.py::test_the_mean_stands"),
    "lightning-attention": Proof(("Lightning",), f"{MIXERS}::test_decayed"),
    "linear-projector": Proof(
        ("PixelShuffle|Linear|Matrices|Prefix",),
        (CONNECTORS, f"{KIN}::test_matrices", f"{KIN}::test_a_prefix"),
    ),
    "local-window-cross-attention": Proof(
        ("PooledPatches|DualPerspective",), (f"{PATCH_LAYERS}::test_eve_tokens", f"{PIECES}::test_local_and")
    ),
    "local-global-attention": Proof(("Attention.window", "LayerKind"), f"{LAYERS}::test_layers_follow"),
    "location-tokens": Proof(
        ("Locations|Cells",),
        (
            "tests/prompts/test_tasks.py::test_boxes_survive",
            f"{UNTIED}::test_places_are_points",
            "tests/prompts/test_query_tasks.py::test_cells",
        ),
    ),
    "logit-softcap": Proof(
        ("Attention.softcap", "Decoder.logit_softcap"), f"{LAYERS}::test_logits_are_scaled"
    ),
    "logn-attention-scaling": Proof(("QueryScale",), f"{DECODERS}::test_queries_grow"),
    "longrope": Proof(("LongRope",), f"{DECODERS}::test_long_rope"),
    "mae-vit-encoder": Proof(("ViT.cls=True",), f"{PARITY}[vit_mae_enc]"),
    "mamba-ssm": Proof(("Mamba|Mamba2",), f"{MIXERS}::test_mamba"),
    "map-attention-pooling": Proof(("ViT.pool=attention",), f"{VISION}::test_vit_equals"),
    "mean-pool-text-embedding": Proof(("TextEncoder.pool=mean|TwoWayDecoder",), f"{TEXTS}::test_pools"),
    "med-shared-encoder-decoder": Proof(("Med",), "tests/parts/test_blip.py::test_roles_share"),
    "media-chunk-tokens": Proof(("ChatFormat.name=openflamingo",), "tests/prompts/test_chunks.py"),
    "mel-filterbank": Proof(("LogMel|Fbank",), SOUND),
    "mi-rope": Proof(("HyperAttention", "Rotary"), f"{HYPER}::test_keys_turn"),
    "mixed-resolution-training": Proof(
        ("HdTiles.budgets|Native.sides",),
        ("tests/media/test_native.py::test_training_draws", f"{HD}::test_training_draws"),
    ),
    "mlm-head": Proof(("MaskedToken",), f"{TEXTS}::test_words_behind"),
    "mlp-projector": Proof(
        ("Mlp|MlpExperts",), (f"{CONNECTORS}::test_linear_and_mlp", f"{DEPTHS}::test_projector_experts")
    ),
    "modality-specific-layernorm": Proof(("VisualExpert.norms=True",), f"{EXPERTS}::test_each_token"),
    "modality-adaptive-module": Proof(
        ("VisualExpert.norms=True", "VisualExpert.queries=False"), f"{EXPERTS}::test_mplug_owl2"
    ),
    "modality-specific-heads": Proof(("Pooled.unit=True", "Pooled.scale"), f"{IMAGEBIND}::test_every_sense"),
    "modality-token-splicing": Proof(("Splice",), "tests/parts/test_fusion.py::test_features_stand"),
    "modified-resnet-attnpool": Proof(("ResNet.stride=averages",), f"{STAGED}::test_clip_resnet"),
    "moe-ffn": Proof(("Experts",), "tests/parts/test_experts.py::test_tokens_go_through"),
    "mqa": Proof(("Attention.num_kv_heads=1",), f"{ATTENTION}::test_shared_keys"),
    "multimodal-causal-decoder": Proof(
        ("NextPatch", "NextToken", "Splice"), "tests/parts/test_next_patch.py::test_a_patch_is_foretold"
    ),
    "multi-audio-dialogue": Proof(("ChatFormat.sounds",), "tests/test_hearing.py::test_sounds_stand_where"),
    "multi-image-interleave": Proof(
        ("Splice|GatedCross",), "tests/parts/test_fusion.py::test_several_pictures"
    ),
    "multi-layer-vit-features": Proof(
        ("TiledViT.take|GatedCross.levels=8|LayerMeans|LayerTokens|LayerClasses|Take.layers=(-2, -9)",),
        (f"{LOOKS}::test_layers_read", f"{VISION}::test_depths", DEPTHS),
    ),
    "mup-scaling": Proof(("TokenEmbedding.scale", "Arrangement.scale"), f"{OWN_CODE}[minicpm]"),
    "native-resolution": Proof((f"{NATIVE}|Native",), f"{VITS}::test_views_of_unequal"),
    "nfnet-encoder": Proof(("NfNet",), f"{STAGED}::test_nfnet"),
    "norm-reordering": Proof(("Arrangement.placement=after",), f"{LAYERS}::test_halves"),
    "pad-to-square": Proof(("Fixed.fit=pad",), f"{GEOMETRY}::test_odd_padding"),
    "parallel-attn-mlp": Proof(("Arrangement.parallel",), f"{LAYERS}::test_halves_are_joined"),
    "partial-rope": Proof((PARTIAL,), f"{LAYERS}::test_a_share"),
    "patch-n-pack": Proof((NATIVE,), f"{VITS}::test_views_of_unequal"),
    "partial-lora": Proof(("PartialLora",), "tests/parts/test_partial_lora.py"),
    "penultimate-layer-features": Proof(
        ("Take.layers=(-2,)|ViT.num_layers=39|Take.taps=(-2,)",),
        (f"{VISION}::test_depths", f"{KIN}::test_the_last_but_one"),
    ),
    "perceiver-resampler": Proof(
        ("Resampler|CrossResampler|LatentQueries",),
        (f"{LOOKS}::test_the_resampler", f"{RESAMPLERS}::test_the_cross_resampler", f"{KIN}::test_latents"),
    ),
    "pixel-shuffle": Proof(("PixelShuffle|Folded|ObjectQueries",), f"{CONNECTORS}::test_pixel_shuffle"),
    "polygon-tokens": Proof(("Task.gives=polygons",), "tests/prompts/test_tasks.py::test_polygons"),
    "pos-embed-interpolation": Proof(
        ("GridTable.resize=bicubic|GridTable.resize=bilinear",), f"{VITS}::test_position_tables_resize"
    ),
    "prefix-attention-random-length": Proof(
        ("ViT.prefix=True",), "tests/parts/test_next_patch.py::test_a_prefix_sees"
    ),
    "prompt-ensembling": Proof(("Similarity",), "tests/test_classify.py::test_an_ensemble"),
    "qk-norm": Proof(("Attention.qk_norm|CrossAttention.qk_norm",), f"{LAYERS}::test_queries_and_keys"),
    "qkv-bias": Proof(("Attention.qkv_bias=True",), f"{OWN_CODE}[qwen]"),
    "qllama-middleware": Proof(("QueryCross", "Queries"), "tests/parts/test_query_cross.py"),
    "quad-box-tokens": Proof(("Task.gives=quads",), "tests/prompts/test_tasks.py::test_lines_of_text"),
    "quick-gelu": Proof(("FeedForward.act=quick_gelu",), f"{ATTENTION}::test_activations"),
    "raw-patch-linear-embedding": Proof(("RawPatches", "Linear"), "tests/parts/test_raw_patches.py"),
    "recurrent-state-decoding": Proof(
        ("Mamba|Mamba2|RgLru|Hyena|Lightning|ShortConv|GatedDelta",), f"{MIXERS}::test_generation"
    ),
    "farthest-point-sampling": Proof(("SampledPoints",), f"{REGIONS}::test_points_are_far"),
    "communication-tokens": Proof(("Proposals.pauses",), f"{COMPOSING}::test_writing_stops"),
    "iterative-proposal-decoding": Proof(("Proposals",), f"{COMPOSING}::test_writing_stops"),
    "roi-feature-feedback": Proof(
        ("CellMean", "Proposals"), (f"{COMPOSING}::test_what_follows", f"{COMPOSING}::test_features_of")
    ),
    "yolox-detection-head": Proof(("Proposals",), f"{COMPOSING}::test_boxes_are"),
    "grounded-conversation-phrases": Proof(
        ("PromptedMasks.token_ids|QueryMasks.token_ids",), f"{SEGMENTS}::test_every_phrase"
    ),
    "deformable-pixel-decoder": Proof(("OmgSeg", "QueryDecoder"), f"{OBJECTS}::test_cells_of_all"),
    "masked-attention-mask-decoder": Proof(
        ("QueryDecoder", "QueryMasks"), (f"{OBJECTS}::test_queries_look", f"{OBJECTS}::test_states_are")
    ),
    "object-query-tokens": Proof(("ObjectQueries", "DropStill"), f"{OBJECTS}::test_one_token"),
    "perception-prior-embedding": Proof(("ObjectQueries",), f"{OBJECTS}::test_pixels_know"),
    "visual-prompt-query-encoding": Proof(("RegionQuery",), f"{OBJECTS}::test_a_region"),
    "mask-decoder-sam": Proof(("PromptedMasks", "MaskDecoder"), f"{PARITY}[sam]"),
    "mask-decoder-sam2": Proof(("PromptedMasks", "MaskDecoder.finer=True"), f"{PARITY}[sam2]"),
    "sam2-memory-tracking": Proof(("TrackingMemory",), "tests/parts/test_mask_memory.py"),
    "seg-token-embedding-prompt": Proof(
        ("PromptedMasks.token_ids|QueryMasks.token_ids",),
        (
            f"{SEGMENTS}::test_masks_follow",
            f"{SEGMENTS}::test_masks_come_back",
            f"{OBJECTS}::test_states_are",
        ),
    ),
    "loc-token-embedding-prompt": Proof(("SpokenBoxes",), f"{SEGMENTS}::test_boxes_follow"),
    "grounding-detector-head": Proof(
        ("SpokenBoxes",), (f"{SEGMENTS}::test_boxes_follow", f"{SEGMENTS}::test_each_task")
    ),
    "special-task-tokens": Proof(("SpokenBoxes", "PromptedMasks.token_ids"), f"{SEGMENTS}::test_each_task"),
    "diffusion-decoder-sdxl": Proof(("Drawing",), "tests/test_painting.py::test_a_prompt_is_painted"),
    "text-prompt-image-generation": Proof(("Drawing",), "tests/prompts/test_drawing.py"),
    "hybrid-region-representation": Proof(
        ("SampledPoints", "Coordinates.feature"), f"{REGIONS}::test_a_region_is_words"
    ),
    "mask-pooling-region-tokens": Proof(("MaskPooled",), f"{REGIONS}::test_masks_pool"),
    "region-encoder-roialign": Proof(
        ("RoiLevels",), (f"{REGIONS}::test_boxes_are_read", f"{REGIONS}::test_levels_are_mixed")
    ),
    "spatial-aware-visual-sampler": Proof(("SampledPoints",), f"{REGIONS}::test_the_sampler"),
    "visual-prompt-region-tokens": Proof(
        ("TokensInside",), (f"{REGIONS}::test_tokens_inside", f"{REGIONS}::test_places_behind")
    ),
    "region-features-detector": Proof(("FasterRcnn",), "tests/parts/test_regions.py"),
    "relative-position-bias": Proof(("RelativeBuckets",), f"{TEXTS}::test_buckets"),
    "resnet-encoder": Proof(("ResNet",), f"{STAGED}::test_a_classifier_gives"),
    "rmsnorm": Proof(("Norm.kind=rms",), f"{ATTENTION}::test_norms"),
    "rolling-kv-cache": Proof(("Attention.window",), "tests/parts/test_rolling.py"),
    "rope": Proof(("Rotary",), f"{ATTENTION}::test_scores_depend"),
    "rope-2d": Proof(("AxialRotary",), f"{VITS}::test_axial_rotary"),
    "rope-base-scaling": Proof(("Rotary",), f"{ATTENTION}::test_rotary_turns"),
    "rq-vae": Proof(("VqGan", "Codebooks.averages=means"), f"{CODECS}::test_rq_vae"),
    "rvq-audio-codec": Proof(("SoundCodec",), f"{CODECS}::test_speech_tokenizer"),
    "sam-vit-encoder": Proof(("VitDet",), f"{STAGED}::test_encoders_inside_systems"),
    "scaled-embeddings": Proof(
        ("TokenEmbedding.scale", "Norm.offset=1.0"), f"{LAYERS}::test_tokens_are_scaled"
    ),
    "segment-embeddings": Proof(("Joint.segments",), "tests/parts/test_joint.py::test_kinds_tell"),
    "selective-scan": Proof(("Mamba|Mamba2",), f"{MIXERS}::test_scan"),
    "self-resurrecting-activation": Proof(
        ("Resurrecting",), "tests/parts/test_resurrecting.py::test_a_layer_equals"
    ),
    "semantic-distilled-rvq": Proof(("SoundCodec.semantic",), f"{CODECS}::test_speech_tokenizer"),
    "sentencepiece-tokenizer": Proof(("Decoder|TextEncoder",), TOKENIZER),
    "shared-image-position-ids": Proof(
        ("VisualExpert.one_position=True|OnePosition|SharedPositions",),
        (f"{EXPERTS}::test_the_features_between", "tests/parts/test_shared_positions.py"),
    ),
    "siglip-vit-encoder": Proof(("ViT.cls=False", "ViT.pre_norm=False"), f"{VISION}::test_vit_equals"),
    "sincos-2d-pos": Proof(
        ("Sinusoids|CrossResampler",), (f"{PARITY}[aimv2_native]", f"{RESAMPLERS}::test_the_cross_resampler")
    ),
    "sliding-window-attention": Proof(("Attention.window",), "tests/parts/test_masks.py::test_dense_mask"),
    "spatial-avg-pool-token": Proof(("Placed",), "tests/parts/test_florence.py::test_the_mean_stands"),
    "spectrogram-vq-tokenizer": Proof(("VitVqGan.channels=1",), f"{CODECS}::test_vit_vqgan"),
    "squared-relu-ffn": Proof(("FeedForward.act=relu2",), f"{ATTENTION}::test_activations"),
    "sub-layernorm": Proof(("Attention.inner_norm", "FeedForward.inner_norm"), f"{TEXTS}::test_sub_layer"),
    "swiglu-ffn": Proof(("FeedForward.act=silu", "FeedForward.gated=True"), f"{ATTENTION}::test_gated"),
    "swiglu-projector": Proof(("Glu",), f"{EXPERTS}::test_published_names"),
    "swin-encoder": Proof(("Swin",), f"{STAGED}::test_offsets"),
    "task-prefix-prompt": Proof(("Task",), "tests/prompts/test_tasks.py::test_prompts_take"),
    "task-specific-qformer-masks": Proof(("QueryStack.words=True",), "tests/parts/test_qformer.py::test_"),
    "temporal-position-embedding": Proof(("Resampler.frames=8",), f"{LOOKS}::test_the_resampler"),
    "text-adapter-mlp": Proof(("TextAdapter",), f"{TWO_WAY}::test_vectors"),
    "thermal-encoder": Proof(("Branch.modality=thermal",), f"{AUDIO}::test_imagebind_trunks"),
    "timestamp-text-tokens": Proof(
        ("Frames.end={seconds:.0f}|Frames.intro|ChatFormat.name=glm-4.1v|ChatFormat.name=videollama3",),
        ("tests/media/test_timestamps.py", "tests/media/test_recordings.py::test_a_plan_of"),
    ),
    "tile-tag-xattn-mask": Proof(("GatedCross.sees=tiles",), f"{LOOKS}::test_tags_see"),
    "tile-tags-1d": Proof(("Tiles.tag",), "tests/media/test_tiles.py::test_tags_stand"),
    "tile-tags-row-col": Proof(("Split",), f"{GEOMETRY}::test_split_prompt"),
    "tile-unpad": Proof(("AnyRes",), f"{GEOMETRY}::test_anyres"),
    "tiled-vit-encoder": Proof(("TiledViT",), f"{PARITY}[mllama]"),
    "topk-router": Proof(
        ("Experts|LoraExperts.best=True",),
        ("tests/parts/test_experts.py::test_tokens_go_through", f"{LORA}::test_the_best"),
    ),
    "transformer-xl-relative-position": Proof(
        ("XlAttention",), "tests/parts/test_transformer_xl.py::test_scores"
    ),
    "unified-image-video-frames": Proof(("Patches.frames=2",), f"{VITS}::test_runs_of_frames"),
    "uniform-frame-sampling": Proof(("EvenClips.frames|Frames",), "tests/media/test_clips.py"),
    "visual-prefix": Proof(("Prefix",), f"{KIN}::test_a_prefix"),
    "xpos-rope": Proof(("XPos",), (f"{KIN}::test_xpos", f"{KIN}::test_a_layer_with_xpos")),
    "video-as-composite-image": Proof(("Composite", "HdTiles.one_row=True"), "tests/media/test_composite.py"),
    "visual-abstractor": Proof(
        ("Abstractor",), (f"{EXPERTS}::test_mplug_owl2", f"{RESAMPLERS}::test_the_abstractor")
    ),
    "visual-expert-ffn": Proof(("VisualExpert.mlp=True",), f"{EXPERTS}::test_each_token"),
    "visual-expert-qkv": Proof(
        ("VisualExpert.queries=True", "VisualExpert.out=True"), f"{EXPERTS}::test_each_token"
    ),
    "vit-encoder": Proof(("ViT|TiledViT|SignalPatches.channels=3",), f"{VISION}::test_vit_equals"),
    "vq-tokenizer": Proof(("VqGan|VitVqGan|Seed",), f"{CODECS}::test_vqgan_equals"),
    "wavlm-encoder": Proof(
        ("WaveConvs", "GatedAttention.gate_of=input"), f"{AUDIO}::test_padding_changes_nothing"
    ),
    "whisper-encoder": Proof(
        ("FrameConvs.glu=False", "SignalTransformer"), "tests/weights/test_audio_readers.py::test_encoders_of"
    ),
    "webpage-generation": Proof(
        ("Task.name=screenshot to page",), "tests/prompts/test_formats_tiled.py::test_pages_are"
    ),
    "window-attention": Proof(
        ("Windows|DaVit",),
        (f"{VITS}::test_layers_with_windows", "tests/parts/test_florence.py::test_cells_see"),
    ),
    "xattn-ffn-gated": Proof(("GatedCross.mlp", "GatedCross.gate"), f"{LOOKS}::test_the_gated_layer"),
    "bottleneck-cross-attention": Proof(
        ("GatedCross", "CrossAttention.scale=0.125"), f"{CONTRASTED}::test_a_narrow_layer"
    ),
    "contrastive-in-lm": Proof(
        ("TextQuery", "NextToken"), f"{CONTRASTED}::test_words_and_pictures_are_contrasted"
    ),
    "learnable-text-query": Proof(("TextQuery",), f"{CONTRASTED}::test_a_query_reads"),
    "partitioned-unimodal-multimodal-lm": Proof(
        ("TextQuery", "GatedCross"), f"{CONTRASTED}::test_lower_layers"
    ),
    "unified-vocabulary": Proof(
        ("EncoderDecoder.shared=True", "CodecPart", "Locations"), f"{UNTIED}::test_words_codes_and_places"
    ),
    "zero-shot-classifier": Proof(("Similarity",), "tests/parts/test_heads.py::test_scores_are"),
    "alternate-layer-moe": Proof(
        ("LayerKind", "Experts"), "tests/parts/test_experts.py::test_layers_with_experts"
    ),
    "expert-capacity": Proof(("Routing.training_capacity",), "tests/parts/test_experts.py::test_capacity"),
    "lora-moe": Proof(("LoraExperts",), (f"{LORA}::test_the_best", f"{LORA}::test_new_experts")),
    "soft-lora-moe": Proof(("LoraExperts.best=False",), f"{LORA}::test_all_experts"),
    "token-modality-routers": Proof(
        ("LoraExperts.sets=('all', 'text', 'image')",), f"{LORA}::test_all_experts"
    ),
    "zero-init-attention": Proof(
        ("LayerPrompts",), (f"{ADAPTERS}::test_closed_gates", f"{ADAPTERS}::test_heads_add")
    ),
    "deep-prompt-tuning": Proof(("LayerPrompts",), f"{ADAPTERS}::test_heads_add"),
    "early-fusion-visual-prompts": Proof(("LayerPrompts.early=1",), f"{ADAPTERS}::test_early_layers"),
    "expert-tool-captions": Proof(("Findings",), "tests/prompts/test_formats_adapters.py::test_findings"),
    "mm-adapter": Proof(
        ("RoutedAttention",), (f"{ADAPTERS}::test_routed_adapters", f"{ADAPTERS}::test_encoders_with")
    ),
    "dynamic-adapter-routing": Proof(
        ("RoutedAttention", "ModalityToken"),
        (f"{ADAPTERS}::test_routed_adapters", f"{ADAPTERS}::test_generation_keeps"),
    ),
    "modality-token": Proof(
        ("ModalityToken",), (f"{ADAPTERS}::test_the_modality", f"{ADAPTERS}::test_pictures_take")
    ),
    "llm-adapters": Proof(("Adapters",), f"{ADAPTERS}::test_bottlenecks"),
    "aspect-preserving-padding-mask": Proof(
        ("Trimmed|Bounded",),
        (
            *(f"{TRIMMED}::test_the_longer_side", f"{TRIMMED}::test_a_trimmed_view"),
            f"{RESAMPLERS}::test_pictures_of_any",
        ),
    ),
    "variable-query-count": Proof(("SizedQueries",), f"{TRIMMED}::test_resolution_decides"),
    "shared-experts": Proof(("Experts.shared",), "tests/parts/test_experts.py::test_tokens_go_through"),
    "vss-connector": Proof(("Scans",), "tests/parts/test_scans.py"),
    "temporal-spatial-marker-tokens": Proof(
        ("Frames.end=</img><t>", "ChatFormat.video=('<vid>', '</vid>')"),
        (
            "tests/media/test_timestamps.py::test_frames_stand",
            "tests/prompts/test_formats_adapters.py::test_golden_strings[longllava]",
        ),
    ),
    "moe-connector": Proof(("MlpExperts",), f"{DEPTHS}::test_projector_experts"),
    "moe-vision-encoder": Proof(("ViT", "Experts.act=quick_gelu"), f"{DEPTHS}::test_encoder_with_equal"),
    "cls-text-cross-attention-router": Proof(("LanguageExperts",), f"{DEPTHS}::test_experts_of_languages"),
    "language-expert-moe": Proof(("LanguageExperts",), f"{DEPTHS}::test_experts_of_languages"),
    "residual-feature-blend": Proof(("LanguageExperts.blend",), f"{DEPTHS}::test_blend"),
    "overlap-crop-tiling": Proof(("OverlapCrops",), (f"{CROPS}::test_crops_share", f"{CROPS}::test_tilings")),
    "attention-pooling-connector": Proof(("SquarePool",), f"{CROPS}::test_squares_are"),
    "point-as-text-markup": Proof(("PointTags",), "tests/prompts/test_points.py"),
    "crop-reconstruct-pool": Proof(
        ("CropPool",), (f"{CROPS}::test_the_joint_map", f"{CROPS}::test_the_map_of")
    ),
    "region-coordinate-head": Proof(
        ("PlaceNumbers",),
        ("tests/test_pointing.py::test_the_likeliest", "tests/test_pointing.py::test_boxes"),
    ),
    "fourier-coordinate-encoder": Proof(
        ("PlaceNumbers.features",), "tests/test_pointing.py::test_numbers_are"
    ),
    "gaze-detection": Proof(("PlaceNumbers",), "tests/test_pointing.py::test_a_gaze"),
}


def facts(card: Card) -> set[str]:
    """Everything that `Proof.facts` may name of a card."""
    return set(_facts(card))


def _facts(value: Any) -> Iterator[str]:
    if isinstance(value, Config):
        kind = type(value).__name__
        yield kind
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            if inner is not None:
                yield f"{kind}.{field.name}"
                yield f"{kind}.{field.name}={inner}"
                yield from _facts(inner)
    elif isinstance(value, tuple):
        for item in value:
            yield from _facts(item)
