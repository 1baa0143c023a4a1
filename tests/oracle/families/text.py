"""Text decoders, encoders and encoder-decoders."""

import torch

from core import DROP, Case, build_model, family, make_config


def decoder_family(name, model_type=None, padded=True, placed=False, attention="eager", **settings):
    """A decoder-only language model; settings may be functions of the sizes. padded: whether a row has padding, which
    some official models with recurrent layers read as text (RecurrentGemma; MiniMax after the first generated token).
    placed: whether the forward is told positions, without which some official models count padding.
    """

    @family(name, "text-decoder")
    def make_case(sizes):
        values = {key: value(sizes) if callable(value) else value for key, value in settings.items()}
        config = make_config(model_type or name, **sizes.text(**values))
        inputs = sizes.text_inputs()
        if not padded:
            inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
        alone = dict(inputs)
        if placed:
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        model = build_model("AutoModelForCausalLM", config)
        return Case(model, inputs, gen=True, generate_inputs=alone, attention=attention)


NO_KV_HEADS = dict(num_key_value_heads=DROP)
GPT2_NAMES = dict(
    hidden_size=DROP,
    intermediate_size=DROP,
    num_hidden_layers=DROP,
    num_attention_heads=DROP,
    num_key_value_heads=DROP,
    max_position_embeddings=DROP,
    n_embd=lambda sizes: sizes.hidden,
    n_layer=lambda sizes: sizes.layers,
    n_head=lambda sizes: sizes.heads,
    n_positions=256,
)
decoder_family("llama")
decoder_family("llama_tied_hd", model_type="llama", head_dim=16, tie_word_embeddings=True)
decoder_family("mistral", sliding_window=None)
decoder_family("mixtral", num_local_experts=4, num_experts_per_tok=2)
decoder_family("qwen2")
decoder_family(
    "qwen2_moe",
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=32,
    shared_expert_intermediate_size=40,
    decoder_sparse_step=1,
    norm_topk_prob=False,
)
decoder_family("qwen3", head_dim=8)
decoder_family(
    "qwen3_moe",
    head_dim=8,
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=32,
    norm_topk_prob=True,
)
decoder_family(
    "qwen3_next",
    head_dim=16,
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=32,
    shared_expert_intermediate_size=32,
    linear_num_value_heads=4,
    linear_num_key_heads=2,
    linear_key_head_dim=8,
    linear_value_head_dim=8,
    num_hidden_layers=4,
    layer_types=["linear_attention", "linear_attention", "full_attention", "linear_attention"],
)
decoder_family("gemma", head_dim=8, tie_word_embeddings=True)
decoder_family(
    "gemma2",
    head_dim=8,
    sliding_window=6,
    query_pre_attn_scalar=16,
    tie_word_embeddings=True,
    attn_logit_softcapping=5.0,
    final_logit_softcapping=3.0,
)
decoder_family(
    "gemma3_text",
    head_dim=8,
    sliding_window=6,
    query_pre_attn_scalar=16,
    tie_word_embeddings=True,
    layer_types=["sliding_attention", "full_attention"],
)
decoder_family("phi", **NO_KV_HEADS)
decoder_family("phi_gqa", model_type="phi", qk_layernorm=True, partial_rotary_factor=0.5)
decoder_family("phi3", sliding_window=None)
decoder_family("phimoe", num_local_experts=4, num_experts_per_tok=2, sliding_window=None)
decoder_family("gpt_neox", **NO_KV_HEADS)
decoder_family("gpt2", placed=True, **GPT2_NAMES)
decoder_family("gptj", **GPT2_NAMES, rotary_dim=4)
decoder_family("gpt_bigcode", placed=True, **GPT2_NAMES, multi_query=True)
decoder_family(
    "gpt_neo",
    placed=True,
    intermediate_size=64,
    num_hidden_layers=DROP,
    num_attention_heads=DROP,
    num_key_value_heads=DROP,
    num_layers=2,
    num_heads=4,
    attention_types=[[["global", "local"], 1]],
    window_size=6,
)
decoder_family(
    "falcon_mqa",
    model_type="falcon",
    new_decoder_architecture=False,
    multi_query=True,
    parallel_attn=True,
    bias=False,
    alibi=False,
    **NO_KV_HEADS,
    intermediate_size=DROP,
)
decoder_family(
    "falcon_new",
    model_type="falcon",
    new_decoder_architecture=True,
    num_kv_heads=lambda sizes: sizes.kv_heads,
    num_key_value_heads=DROP,
    bias=False,
    intermediate_size=DROP,
)
# ALiBi once, as in the first release: the eager code of transformers 5.23.0 adds it to the mask and to the scores
decoder_family(
    "falcon_rw",
    attention="sdpa",
    model_type="falcon",
    new_decoder_architecture=False,
    multi_query=False,
    parallel_attn=False,
    bias=True,
    alibi=True,
    **NO_KV_HEADS,
    intermediate_size=DROP,
)
decoder_family(
    "mpt",
    hidden_size=DROP,
    intermediate_size=DROP,
    num_hidden_layers=DROP,
    num_attention_heads=DROP,
    num_key_value_heads=DROP,
    max_position_embeddings=DROP,
    d_model=32,
    n_heads=4,
    n_layers=lambda sizes: sizes.layers,
    max_seq_len=64,
    expansion_ratio=2,
)
decoder_family(
    "opt",
    intermediate_size=DROP,
    num_key_value_heads=DROP,
    ffn_dim=lambda sizes: sizes.intermediate,
    word_embed_proj_dim=32,
)
decoder_family(
    "bloom",
    num_key_value_heads=DROP,
    intermediate_size=DROP,
    num_hidden_layers=DROP,
    num_attention_heads=DROP,
    n_layer=lambda sizes: sizes.layers,
    n_head=4,
    max_position_embeddings=DROP,
)
decoder_family("stablelm")
decoder_family("olmo")
decoder_family("olmo2")
decoder_family("olmo3", sliding_window=6, layer_types=["sliding_attention", "full_attention"])
decoder_family("olmoe", num_experts=4, num_experts_per_tok=2)
decoder_family("persimmon", num_key_value_heads=DROP)
decoder_family("starcoder2", sliding_window=None)
decoder_family("codegen", **{**GPT2_NAMES, "n_head": 4, "n_embd": lambda sizes: 32}, rotary_dim=4)
decoder_family("cohere", logit_scale=0.5)
decoder_family(
    "cohere2",
    head_dim=8,
    logit_scale=0.5,
    sliding_window=6,
    layer_types=["sliding_attention", "full_attention"],
)
decoder_family("glm", head_dim=8)
decoder_family("glm4", head_dim=8)
decoder_family(
    "granite", embedding_multiplier=2.0, attention_multiplier=0.3, residual_multiplier=0.6, logits_scaling=0.7
)
decoder_family("granitemoe", num_local_experts=4, num_experts_per_tok=2)
decoder_family(
    "mamba",
    intermediate_size=DROP,
    num_attention_heads=DROP,
    num_key_value_heads=DROP,
    max_position_embeddings=DROP,
    state_size=8,
    expand=2,
    conv_kernel=4,
)
decoder_family(
    "falcon_mamba",
    intermediate_size=DROP,
    num_attention_heads=DROP,
    num_key_value_heads=DROP,
    max_position_embeddings=DROP,
    state_size=8,
)
decoder_family(
    "mamba2",
    intermediate_size=DROP,
    num_attention_heads=DROP,
    num_key_value_heads=DROP,
    max_position_embeddings=DROP,
    state_size=8,
    num_heads=8,
    head_dim=8,
    n_groups=2,
    chunk_size=8,
    expand=2,
)
decoder_family(
    "recurrent_gemma",
    padded=False,
    num_hidden_layers=3,
    lru_width=32,
    attention_window_size=64,
    num_key_value_heads=1,
    head_dim=DROP,
    tie_word_embeddings=True,
    max_position_embeddings=DROP,
)
decoder_family(
    "jamba",
    num_hidden_layers=4,
    attn_layer_period=2,
    attn_layer_offset=1,
    expert_layer_period=2,
    expert_layer_offset=1,
    num_experts=4,
    num_experts_per_tok=2,
    mamba_d_state=8,
    mamba_dt_rank=4,
    use_mamba_kernels=False,
)
decoder_family(
    "bamba",
    num_hidden_layers=3,
    attn_layer_indices=[1],
    mamba_n_heads=8,
    mamba_d_head=8,
    mamba_n_groups=2,
    mamba_d_state=8,
    mamba_chunk_size=8,
)
decoder_family(
    "deepseek_v2",
    moe_intermediate_size=32,
    n_routed_experts=4,
    num_experts_per_tok=2,
    n_shared_experts=1,
    first_k_dense_replace=1,
    kv_lora_rank=16,
    q_lora_rank=None,
    qk_rope_head_dim=8,
    qk_nope_head_dim=8,
    v_head_dim=8,
    head_dim=8,
    n_group=1,
    topk_group=1,
    num_key_value_heads=lambda sizes: sizes.heads,
)
decoder_family(
    "deepseek_v3",
    moe_intermediate_size=32,
    n_routed_experts=8,
    num_experts_per_tok=2,
    n_shared_experts=1,
    first_k_dense_replace=1,
    kv_lora_rank=16,
    q_lora_rank=24,
    qk_rope_head_dim=8,
    qk_nope_head_dim=8,
    v_head_dim=8,
    n_group=2,
    topk_group=1,
    num_key_value_heads=lambda sizes: sizes.heads,
)
decoder_family(
    "minimax",
    padded=False,
    head_dim=8,
    num_local_experts=4,
    num_experts_per_tok=2,
    block_size=8,
    rotary_dim=8,
    layer_types=["linear_attention", "full_attention"],
)
decoder_family(
    "minicpm3",
    kv_lora_rank=16,
    q_lora_rank=24,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=8,
    scale_emb=2,
    num_key_value_heads=lambda sizes: sizes.heads,
)
decoder_family("nemotron", head_dim=8, partial_rotary_factor=0.5)
decoder_family("smollm3", no_rope_layers=[1, 0])
decoder_family("helium", head_dim=8)
decoder_family("ernie4_5", head_dim=8)
decoder_family(
    "exaone4",
    head_dim=8,
    sliding_window=6,
    sliding_window_pattern=2,
    layer_types=["sliding_attention", "full_attention"],
)
decoder_family("lfm2", layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False)
decoder_family(
    "gpt_oss",
    head_dim=8,
    num_local_experts=4,
    num_experts_per_tok=2,
    sliding_window=6,
    layer_types=["sliding_attention", "full_attention"],
)
decoder_family("hunyuan_v1_dense", padded=False, head_dim=8)
decoder_family("internlm3", head_dim=8)
decoder_family("apertus")
decoder_family("arcee")
decoder_family("diffllama", num_key_value_heads=2)
decoder_family("seed_oss", head_dim=8)
decoder_family("ministral3", head_dim=8)
decoder_family(
    "xglm",
    placed=True,
    hidden_size=DROP,
    intermediate_size=DROP,
    num_hidden_layers=DROP,
    num_attention_heads=DROP,
    num_key_value_heads=DROP,
    d_model=32,
    ffn_dim=64,
    num_layers=2,
    attention_heads=4,
)
decoder_family("biogpt", placed=True, num_key_value_heads=DROP)
decoder_family(
    "rwkv",
    intermediate_size=64,
    num_attention_heads=DROP,
    num_key_value_heads=DROP,
    max_position_embeddings=DROP,
    attention_hidden_size=32,
    hidden_size=32,
    context_length=64,
)


def encoder_family(name, model_type=None, class_name="AutoModel", token_types=False, **settings):
    """A text encoder; the second half of each row has token type 1 where there are token types."""
    model_type = model_type or name

    @family(name, "text-encoder")
    def make_case(sizes):
        values = {key: value(sizes) if callable(value) else value for key, value in settings.items()}
        values.setdefault("num_key_value_heads", DROP)
        values.setdefault("tie_word_embeddings", True)
        if model_type != "modernbert":
            values.setdefault("max_position_embeddings", 64)
        model = build_model(class_name, make_config(model_type, **sizes.text(**values)))
        inputs = sizes.text_inputs(left=False)
        if token_types:
            positions = torch.arange(inputs["input_ids"].shape[1])
            inputs["token_type_ids"] = positions.expand_as(inputs["input_ids"]).ge(7).long()
        return Case(model, inputs)


encoder_family("bert", token_types=True)
encoder_family("bert_mlm", model_type="bert", class_name="BertForMaskedLM", token_types=True)
encoder_family("roberta")
encoder_family("roberta_mlm", model_type="roberta", class_name="RobertaForMaskedLM")
encoder_family("xlm_roberta", model_type="xlm-roberta")
encoder_family("electra", embedding_size=24)
encoder_family("albert", embedding_size=24, token_types=True)
encoder_family("mpnet")
encoder_family("nomic_bert")
encoder_family(
    "modernbert",
    local_attention=6,
    global_attn_every_n_layers=2,
    class_name="ModernBertForMaskedLM",
    cls_token_id=1,
    sep_token_id=2,
)
encoder_family(
    "distilbert",
    hidden_size=DROP,
    intermediate_size=DROP,
    num_hidden_layers=DROP,
    num_attention_heads=DROP,
    dim=lambda sizes: sizes.hidden,
    hidden_dim=lambda sizes: sizes.intermediate,
    n_layers=lambda sizes: sizes.layers,
    n_heads=lambda sizes: sizes.heads,
)
encoder_family(
    "deberta_v2",
    model_type="deberta-v2",
    relative_attention=True,
    position_buckets=8,
    max_relative_positions=16,
    pos_att_type=["p2c", "c2p"],
    norm_rel_ebd="layer_norm",
    share_att_key=True,
)
encoder_family(
    "clip_text", model_type="clip_text_model", class_name="CLIPTextModelWithProjection", projection_dim=24
)


def seq2seq_family(name, model_type=None, t5=False, **settings):
    """A text encoder-decoder, with the setting names of T5 or of BART."""

    @family(name, "text-encdec")
    def make_case(sizes):
        if t5:
            values = dict(
                vocab_size=sizes.vocab,
                d_model=sizes.hidden,
                d_ff=sizes.intermediate,
                d_kv=8,
                num_layers=sizes.layers,
                num_decoder_layers=2,
                num_heads=sizes.heads,
                relative_attention_num_buckets=8,
                relative_attention_max_distance=16,
                pad_token_id=0,
                eos_token_id=2,
                decoder_start_token_id=0,
            )
        else:
            values = dict(
                vocab_size=sizes.vocab,
                d_model=sizes.hidden,
                encoder_layers=sizes.layers,
                decoder_layers=2,
                encoder_attention_heads=sizes.heads,
                decoder_attention_heads=sizes.heads,
                encoder_ffn_dim=sizes.intermediate,
                decoder_ffn_dim=sizes.intermediate,
                max_position_embeddings=64,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=2,
                forced_eos_token_id=None,
            )
        values.update(settings)
        model = build_model("AutoModelForSeq2SeqLM", make_config(model_type or name, **values))
        generate_inputs = sizes.text_inputs(left=False)
        decoder_input_ids = torch.tensor(
            [[values["decoder_start_token_id"]] + sizes.words(6) for _ in range(2)]
        )
        return Case(
            model,
            dict(generate_inputs, decoder_input_ids=decoder_input_ids),
            gen=True,
            generate_inputs=generate_inputs,
        )


seq2seq_family("t5", t5=True)
seq2seq_family(
    "t5_gated", model_type="t5", t5=True, feed_forward_proj="gated-gelu", tie_word_embeddings=False
)
seq2seq_family("mt5", t5=True)
seq2seq_family("umt5", t5=True)
seq2seq_family("bart")
seq2seq_family("mbart")
seq2seq_family("pegasus")
seq2seq_family("m2m_100")
seq2seq_family("marian")
seq2seq_family("blenderbot")
seq2seq_family(
    "switch_transformers",
    t5=True,
    num_experts=4,
    num_sparse_encoder_layers=1,
    num_sparse_decoder_layers=1,
    expert_capacity=64,
)


@family("gemma3n_text", "text-decoder")
def gemma3n_text(sizes):
    config = make_config(
        "gemma3n_text",
        **sizes.text(
            num_hidden_layers=4,
            head_dim=8,
            sliding_window=6,
            tie_word_embeddings=True,
            layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
            vocab_size_per_layer_input=sizes.vocab,
            hidden_size_per_layer_input=8,
            num_kv_shared_layers=2,
            laurel_rank=8,
            activation_sparsity_pattern=[0.5, 0.5, 0.0, 0.0],
            altup_num_inputs=3,
            intermediate_size=[sizes.intermediate] * 4,
        ),
    )
    return Case(build_model("Gemma3nForCausalLM", config), sizes.text_inputs(), gen=True)


@family("gemma4_text", "text-decoder")
def gemma4_text(sizes):
    layer_types = ["sliding_attention", "full_attention"] * 2
    config = make_config(
        "gemma4_text",
        **sizes.text(
            num_hidden_layers=4,
            head_dim=8,
            sliding_window=6,
            tie_word_embeddings=True,
            layer_types=layer_types,
            vocab_size_per_layer_input=sizes.vocab,
            hidden_size_per_layer_input=8,
            num_kv_shared_layers=0,
            per_layer_config={"1": {"head_dim": 16}, "3": {"head_dim": 16}},
        ),
    )
    return Case(build_model("Gemma4ForCausalLM", config), sizes.text_inputs(), gen=True)
