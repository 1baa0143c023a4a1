"""Audio encoders, speech recognition and audio-language models."""

import math

import torch

from core import DROP, Case, build_model, family, make_config, smallest_margin, token_id
from families.vision import captions, small_text_config
from families.vlm import audio_token_count, image_tokens, text_config


@family("qwen2_audio", "audio-lm")
def qwen2_audio(sizes):
    frames = 40
    audio = dict(
        model_type="qwen2_audio_encoder",
        num_mel_bins=16,
        d_model=32,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=48,
        max_source_positions=frames // 2,
    )
    config = make_config(
        "qwen2_audio",
        audio_config=audio,
        text_config=text_config(sizes, "qwen2"),
        audio_token_index=token_id("<|AUDIO|>"),
    )
    model = build_model("Qwen2AudioForConditionalGeneration", config)
    inputs = sizes.prompt(
        image_tokens(audio_token_count(frames), "<|AUDIO|>", ["<|audio_bos|>"], ["<|audio_eos|>"])
    )
    inputs.update(
        input_features=sizes.randn(1, 16, frames),
        feature_attention_mask=torch.ones(1, frames, dtype=torch.long),
    )
    return Case(model, inputs, gen=True)


def greedy_encoder_decoder(start):
    """Greedy decoding of 12 tokens by calling the forward again and again, for models without a plain `generate`."""

    def generate(model, inputs):
        inputs.pop("decoder_input_ids", None)
        batch = next(iter(inputs.values())).shape[0]
        ids = torch.full((batch, 1), start, dtype=torch.long)
        steps = []
        for _ in range(12):
            steps.append(model(**inputs, decoder_input_ids=ids).logits[:, -1].float())
            ids = torch.cat([ids, steps[-1].argmax(-1, keepdim=True)], 1)
        logits = torch.stack(steps, 1)
        new_ids = ids[:, 1:]
        return (dict(generated_ids=ids, new_ids=new_ids, gen_logits=logits), smallest_margin(logits), new_ids)

    return generate


@family("whisper", "audio")
def whisper(sizes):
    positions = 20
    config = make_config(
        "whisper",
        vocab_size=sizes.vocab,
        num_mel_bins=16,
        d_model=sizes.hidden,
        encoder_layers=sizes.layers,
        decoder_layers=2,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_ffn_dim=sizes.intermediate,
        decoder_ffn_dim=sizes.intermediate,
        max_source_positions=positions,
        max_target_positions=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = build_model("WhisperForConditionalGeneration", config)
    inputs = dict(
        input_features=sizes.randn(2, 16, 2 * positions),
        decoder_input_ids=torch.tensor([[1] + sizes.words(5)] * 2),
    )
    return Case(
        model,
        inputs,
        gen=greedy_encoder_decoder(1),
        feature_extractor=("WhisperFeatureExtractor", dict(feature_size=16, chunk_length=1)),
    )


@family("ast", "audio")
def ast(sizes):
    config = make_config(
        "audio-spectrogram-transformer",
        **sizes.vision(
            image_size=DROP,
            patch_size=16,
            num_mel_bins=32,
            max_length=64,
            frequency_stride=10,
            time_stride=10,
            num_labels=6,
        ),
    )
    return Case(
        build_model("ASTForAudioClassification", config),
        dict(input_values=sizes.randn(2, 64, 32)),
        feature_extractor=("ASTFeatureExtractor", dict(num_mel_bins=32, max_length=64)),
    )


def wav2vec_family(name, model_type, class_name, **settings):

    @family(name, "audio")
    def make_case(sizes):
        values = dict(
            vocab_size=40,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            conv_dim=[16, 16, 16],
            conv_stride=[5, 2, 2],
            conv_kernel=[10, 3, 3],
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            num_feat_extract_layers=3,
            feat_extract_norm="group",
            do_stable_layer_norm=False,
            conv_bias=False,
            pad_token_id=0,
            layerdrop=0.0,
            **settings,
        )
        mask = torch.ones(2, 800, dtype=torch.long)
        mask[1, 600:] = 0
        samples = sizes.randn(2, 800) * mask
        model = build_model(class_name, make_config(model_type, **values))
        return Case(
            model,
            dict(input_values=samples, attention_mask=mask),
            record_features=False,
            feature_extractor=(
                "Wav2Vec2FeatureExtractor",
                dict(do_normalize=True, return_attention_mask=True),
            )
            if model_type == "wav2vec2"
            else None,
        )


wav2vec_family("wav2vec2_ctc", "wav2vec2", "Wav2Vec2ForCTC")
wav2vec_family("hubert", "hubert", "HubertModel")
wav2vec_family("wavlm", "wavlm", "WavLMModel", num_buckets=32, max_bucket_distance=64)
wav2vec_family(
    "wav2vec2_conformer",
    "wav2vec2-conformer",
    "Wav2Vec2ConformerModel",
    position_embeddings_type="relative",
    conv_depthwise_kernel_size=7,
    max_source_positions=64,
)


@family("encodec", "audio")
def encodec(sizes):
    config = make_config(
        "encodec",
        num_filters=4,
        hidden_size=16,
        codebook_size=1024,
        codebook_dim=16,
        upsampling_ratios=[4, 2],
        target_bandwidths=[30.0, 60.0],
        num_lstm_layers=1,
        norm_type="weight_norm",
        use_causal_conv=True,
    )
    model = build_model("EncodecModel", config)
    for name, parameter in model.named_parameters():
        # random lengths under weight normalisation would nearly silence the decoder
        if name.endswith("original0"):
            parameter.requires_grad_(False).mul_(2)
    return Case(
        model,
        dict(input_values=sizes.randn(1, 1, 400) * 0.3, bandwidth=torch.tensor(60.0)),
        extras=lambda model, inputs: dict(enc=model.encoder(inputs["input_values"])),
        record_features=False,
        audit=False,
    )


@family("clap", "audio")
def clap(sizes):
    config = make_config(
        "clap",
        text_config=small_text_config(sizes, projection_dim=24, max_position_embeddings=40),
        audio_config=dict(
            spec_size=64,
            num_mel_bins=16,
            patch_size=4,
            patch_stride=[4, 4],
            depths=[1, 1],
            num_attention_heads=[2, 4],
            window_size=4,
            patch_embeds_hidden_size=16,
            hidden_size=32,
            projection_dim=24,
            num_hidden_layers=2,
        ),
        projection_dim=24,
    )
    input_ids, mask = captions(sizes, 2)
    return Case(
        build_model("ClapModel", config),
        dict(
            input_ids=input_ids,
            attention_mask=mask,
            input_features=sizes.randn(2, 1, 250, 16),
            is_longer=torch.zeros(2, 1, dtype=torch.bool),
        ),
    )


@family("speech_to_text", "audio")
def speech_to_text(sizes):
    config = make_config(
        "speech_to_text",
        vocab_size=sizes.vocab,
        d_model=sizes.hidden,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        conv_channels=24,
        input_feat_per_channel=16,
        max_source_positions=64,
        max_target_positions=40,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    model = build_model("Speech2TextForConditionalGeneration", config)
    return Case(
        model,
        dict(
            input_features=sizes.randn(2, 40, 16),
            attention_mask=torch.ones(2, 40, dtype=torch.long),
            decoder_input_ids=torch.tensor([[2] + sizes.words(5)] * 2),
        ),
        gen=greedy_encoder_decoder(2),
        record_features=False,
        feature_extractor=("Speech2TextFeatureExtractor", dict(feature_size=16, num_mel_bins=16)),
    )


@family("voxtral", "audio-lm")
def voxtral(sizes):
    config = make_config(
        "voxtral",
        audio_config=dict(
            hidden_size=32,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_mel_bins=16,
            max_source_positions=16,
        ),
        text_config=text_config(sizes, "llama", head_dim=8),
        audio_token_id=token_id("<|audio|>"),
    )
    model = build_model("VoxtralForConditionalGeneration", config)
    inputs = sizes.prompt([token_id("<|audio|>")] * 4)
    inputs["input_features"] = sizes.randn(1, 16, 32)
    return Case(model, inputs, gen=True)


@family("audioflamingo3", "audio-lm")
def audioflamingo3(sizes):
    audio_frames = 40
    config = make_config(
        "audioflamingo3",
        audio_config=dict(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_mel_bins=16,
            max_source_positions=audio_frames // 2,
        ),
        text_config=text_config(sizes, "qwen2"),
        audio_token_id=token_id("<|audio|>"),
    )
    model = build_model("AudioFlamingo3ForConditionalGeneration", config)
    count = audio_token_count(audio_frames)
    inputs = sizes.prompt([token_id("<|audio|>")] * count)
    inputs.update(
        input_features=sizes.randn(1, 16, audio_frames),
        input_features_mask=torch.ones(1, audio_frames, dtype=torch.long),
    )
    return Case(model, inputs, gen=True)


@family("granite_speech", "audio-lm")
def granite_speech(sizes):
    config = make_config(
        "granite_speech",
        text_config=text_config(
            sizes,
            "granite",
            embedding_multiplier=2.0,
            attention_multiplier=0.3,
            residual_multiplier=0.6,
            logits_scaling=0.7,
        ),
        encoder_config=dict(
            input_dim=16,
            num_layers=2,
            hidden_dim=32,
            feedforward_mult=2,
            num_heads=4,
            dim_head=8,
            output_dim=10,
            context_size=8,
            max_pos_emb=16,
            conv_kernel_size=5,
            conv_expansion_factor=2,
        ),
        projector_config=dict(
            model_type="blip_2_qformer",
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            cross_attention_frequency=1,
            encoder_hidden_size=32,
            vocab_size=64,
            max_position_embeddings=32,
        ),
        audio_token_index=token_id("<|audio|>"),
        has_lora_adapter=False,
        downsample_rate=3,
        window_size=6,
    )
    model = build_model("GraniteSpeechForConditionalGeneration", config)
    audio_frames = 18
    count = math.ceil(audio_frames / 6) * 2
    inputs = sizes.prompt([token_id("<|audio|>")] * count)
    inputs.update(
        input_features=sizes.randn(1, audio_frames, 16),
        input_features_mask=torch.ones(1, count, dtype=torch.bool),
    )
    return Case(model, inputs, gen=True)
