"""Tokenizers of pictures and sound by themselves, with what they decode."""

import torch
from core import Case, build_model, family
from transformers import EncodecConfig
from transformers.models.emu3.configuration_emu3 import Emu3VQVAEConfig
from transformers.models.janus.configuration_janus import JanusVQVAEConfig


def encodec_case(sizes, samples, **settings):
    """Codes and sound at every bandwidth. Rows under weight normalisation have twice their initial lengths: random ones
    nearly silence the decoder, and shorter ones give the same code everywhere.
    """
    config = EncodecConfig(
        num_filters=4,
        hidden_size=16,
        codebook_size=64,
        upsampling_ratios=[4, 2],
        num_residual_layers=2,
        sampling_rate=24000,
        **settings,
    )
    model = build_model("EncodecModel", config)
    for name, parameter in model.named_parameters():
        if name.endswith("original0"):
            parameter.requires_grad_(False).mul_(2)

    def extras(model, inputs):
        found = {}
        for bandwidth in config.target_bandwidths:
            output = model(inputs["input_values"], bandwidth=bandwidth)
            found[f"codes.{bandwidth:g}"], found[f"audio.{bandwidth:g}"] = (
                output.audio_codes,
                output.audio_values,
            )
        return found

    sounds = sizes.randn(2, config.audio_channels, samples) * 0.3
    inputs = dict(input_values=sounds, bandwidth=torch.tensor(config.target_bandwidths[-1]))
    return Case(model, inputs, extras=extras, record_features=False, audit=False, std=0.3)


@family("encodec_causal", "codec")
def encodec_causal(sizes):
    """As the 24 kHz model: four codebooks, a length that is no whole number of frames."""
    return encodec_case(sizes, 401, target_bandwidths=[18.0, 36.0, 72.0])


@family("encodec_stereo", "codec")
def encodec_stereo(sizes):
    """As the 48 kHz model: two channels, centred convolutions with group norms, normalised pieces that overlap."""
    return encodec_case(
        sizes,
        1000,
        target_bandwidths=[36.0, 72.0],
        audio_channels=2,
        normalize=True,
        chunk_length_s=0.01,
        overlap=0.05,
        use_causal_conv=False,
        norm_type="time_group_norm",
    )


@family("encodec_plain", "codec")
def encodec_plain(sizes):
    """Residual paths without convolutions, padding by zeros, surplus cut from both ends."""
    settings = dict(pad_mode="constant", use_conv_shortcut=False, trim_right_ratio=0.5)
    return encodec_case(sizes, 233, target_bandwidths=[36.0], **settings)


@family("janus_vq", "codec")
def janus_vq(sizes):
    config = JanusVQVAEConfig(
        embed_dim=8,
        num_embeddings=24,
        latent_channels=32,
        base_channels=32,
        channel_multiplier=[1, 2, 1],
        num_res_blocks=2,
        num_patches=4,
    )

    def extras(model, inputs):
        encoded = model.encode(**inputs)
        return dict(
            latents=encoded.last_hidden_state,
            quantized=encoded.quantized_last_hidden_state,
            codes=encoded.image_tokens,
            loss=encoded.embedding_loss,
        )

    inputs = dict(pixel_values=sizes.randn(2, 3, 16, 16))
    return Case(build_model("JanusVQVAE", config), inputs, extras=extras, record_features=False, audit=False)


@family("emu3_vq", "codec")
def emu3_vq(sizes):
    """A clip; and a picture, which is recorded besides."""
    config = Emu3VQVAEConfig(
        codebook_size=24,
        base_channels=32,
        channel_multiplier=[1, 2, 2],
        num_res_blocks=2,
        attn_resolutions=[2],
        hidden_size=64,
        num_attention_heads=2,
    )

    def encode(model, pixels):
        encoded = model.encode(pixels, torch.tensor([pixels.shape[-2:]]))
        codes = encoded.image_tokens[0][None]
        return dict(latents=encoded.last_hidden_state, codes=codes, pixels=model.decode(codes))

    return Case(
        build_model("Emu3VQVAE", config),
        dict(pixel_values=sizes.randn(1, 8, 3, 16, 16)),
        call=lambda model, inputs: encode(model, inputs["pixel_values"]),
        extras=lambda model, inputs: encode(model, inputs["pixel_values"][:, 0]),
        record_features=False,
        audit=False,
    )
