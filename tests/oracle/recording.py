"""Randomise a family's weights, save the checkpoint and record what the model and its processors output."""

import inspect
import json
import os
import re
import shutil
import time
import traceback
import zlib

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

from core import FAMILIES, Sizes, clone_inputs, flatten, smallest_margin

MAX_WEIGHT_DRAWS = 12
NEW_TOKENS = 12
MIN_MARGIN = 2e-3  # smallest accepted top-1/top-2 distance along the greedy path
MAX_HOOK_ELEMENTS = 60000

# ---------------------------------------------------------------------------- weights

# parameters whose initial value carries meaning: kept, with noise added
KEEP_INIT = re.compile(
    r"(A_log|dt_bias|\.D$|time_decay|time_first|recurrent_param|logit_scale|logit_bias|temperature|inv_freq|A$)"
)
# query/key projections get a larger std: attention is then far from uniform, and errors in rope, scale or mask show
QUERY_KEY = re.compile(
    r"(^|[._])(q_proj|k_proj|query|key|to_q|to_k|q_lin|k_lin|query_proj|key_proj|q|k)\.weight$"
)
FUSED_QKV = re.compile(r"(qkv|qkv_proj|query_key_value|Wqkv|c_attn|att_proj|in_proj_weight)(\.weight)?$")
TOKEN_EMBEDDING = re.compile(
    r"(embed_tokens|wte|word_embeddings|shared|token_embedding|embed_in|embeddings)$"
)


def noise(name, shape, seed):
    """Standard normal values that depend on the seed and the parameter's name only."""
    generator = torch.Generator().manual_seed((zlib.crc32(name.encode()) + seed * 1000003) % (2**63))
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def uniform(name, shape, seed):
    generator = torch.Generator().manual_seed((zlib.crc32(name.encode()) + seed * 1000003) % (2**63))
    return torch.rand(shape, generator=generator)


def token_embedding_std(model):
    """id(weight) -> std. Smaller where the head is tied, so that tiny greedy decodes do not collapse to one token."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    head_weight = getattr(head, "weight", None)
    return {
        id(module.weight): 0.05 if module.weight is head_weight else 0.25
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding)
        and module.num_embeddings >= 256
        and TOKEN_EMBEDDING.search(name)
    }


@torch.no_grad()
def randomise(model, seed, std):
    embedding_std = token_embedding_std(model)
    for name, param in sorted(model.named_parameters(), key=lambda item: item[0]):
        if not param.is_floating_point() or not param.requires_grad:
            continue  # fixed sinusoidal tables stay as initialised
        values = noise(name, param.shape, seed)
        if KEEP_INIT.search(name):
            new = param.float() + 0.1 * values
        elif "gate" in name.split(".")[-1] and param.numel() <= 64 and param.dim() <= 1:
            new = 0.4 * values  # gates that start at zero
        elif param.dim() <= 1 or param.numel() == max(param.shape):
            starts_at_one = param.numel() and torch.all(param.float() == 1).item()
            new = (1.0 if starts_at_one else 0.0) + 0.1 * values
        else:
            scale = 2.5 if QUERY_KEY.search(name) else 1.6 if FUSED_QKV.search(name) else 1.0
            new = embedding_std.get(id(param), std) * scale * values
        param.copy_(new.to(param.dtype))
    for name, buffer in sorted(model.named_buffers(), key=lambda item: item[0]):
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * noise(name, buffer.shape, seed))
        elif name.endswith("running_var"):
            buffer.copy_(1 + 0.5 * uniform(name, buffer.shape, seed))
        elif name.endswith(("codebook.embed", "embed_sum")):
            buffer.copy_(0.5 * noise(name, buffer.shape, seed))


# ---------------------------------------------------------------------------- module outputs

# modules recorded as `hook/<path>` wherever they occur
HOOKED_MODULES = set(
    """
    abstractor aligner audio_embed audio_encoder audio_projector audio_tower backbone connector
    cross_modal_image_transform cross_modal_text_transform decoder embed_audio embed_tokens embed_vision
    embeddings encoder feature_extractor feature_projection generation_aligner generation_embeddings head
    hf_layer_norm high_res_vision_encoder high_res_vision_model high_res_vision_proj image_embed image_encoder
    image_model image_newline image_projection image_text_hidden image_to_text_projection input_proj_vision
    language_model language_projection layernorm ln_post mask_decoder memory_attention memory_encoder merger
    mm_projector modality_projection multi_modal_projector multi_modal_projector_audio multimodal_model neck
    patch_embed patch_embedding patch_embeddings perceiver_resampler pooler position_embedding post_layernorm
    projector prompt_encoder qformer quantize quantizer resampler shared_image_embedding talker text_backbone
    text_encoder text_model text_projection text_projection_layer thinker token2wav vision_adapter
    vision_backbone vision_embed_tokens vision_embedding vision_encoder vision_model vision_projection
    vision_tower vision_transformer visual visual_embeddings_table visual_projection visual_tokenizer vqmodel
    """.split()
)
# modules recorded as `layer/<path>`
LAYER = re.compile(
    r"(^|\.)(layers|layer|blocks|block|h|resblocks|stages|deepstack_merger_list|global_transformer\.layers)\.\d+$"
)
HOOKED_KEYS = (
    "last_hidden_state",
    "pooler_output",
    "feature_maps",
    "deepstack_features",
    "logits",
    "image_embeds",
    "text_embeds",
)


class ModuleRecorder:
    """Context manager: the outputs of key modules and layers (first call only) in `tensors`."""

    def __init__(self, model, extra_modules=()):
        self.tensors = {}
        self.handles = []
        for path, module in model.named_modules():
            if not path or isinstance(module, torch.nn.ModuleList):
                continue
            if path in extra_modules or path.split(".")[-1] in HOOKED_MODULES:
                self.handles.append(module.register_forward_hook(self._hook("hook/" + path, False)))
            elif LAYER.search(path) and path.count(".") <= 5:
                self.handles.append(module.register_forward_hook(self._hook("layer/" + path, True)))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for handle in self.handles:
            handle.remove()

    def _hook(self, key, is_layer):
        called = False

        def record(module, args, output):
            nonlocal called
            if called:
                return
            called = True
            if is_layer:
                while isinstance(output, (tuple, list)) and len(output):
                    output = output[0]
            elif hasattr(output, "keys"):
                output = {name: value for name, value in output.items() if name in HOOKED_KEYS}
            found = {}
            flatten("", output, found)
            if is_layer:
                found = dict(list(found.items())[:1])
            for name, value in found.items():
                if value.numel() < MAX_HOOK_ELEMENTS:
                    self.tensors[f"{key}/{name}" if name else key] = value

        return record


# ---------------------------------------------------------------------------- model outputs


def accepts_any_keyword(signature):
    return any(parameter.kind == parameter.VAR_KEYWORD for parameter in signature.values())


def forward(model, case):
    torch.manual_seed(1234)
    inputs = clone_inputs(case.inputs)
    if case.call:
        return case.call(model, inputs)
    signature = inspect.signature(model.forward).parameters
    if "output_hidden_states" in signature or accepts_any_keyword(signature):
        inputs["output_hidden_states"] = True
    if "return_dict" in signature:
        inputs["return_dict"] = True
    return model(**inputs)


FEATURE_METHODS = (
    "get_image_features",
    "get_video_features",
    "get_text_features",
    "get_audio_features",
    "get_qformer_features",
    "get_speech_features",
)


def record_features(model, inputs, notes):
    """Results of the public feature methods that can be called from the inputs."""
    tensors = {}
    for method_name in FEATURE_METHODS:
        method = getattr(model, method_name, None)
        if method is None:
            continue
        signature = inspect.signature(method).parameters
        kwargs = {key: value for key, value in clone_inputs(inputs).items() if key in signature}
        if method_name == "get_video_features" and not any("video" in key for key in inputs):
            continue
        needs_floats = method_name not in ("get_text_features", "get_qformer_features")
        if needs_floats and not any(torch.is_tensor(x) and x.is_floating_point() for x in kwargs.values()):
            continue
        required = [
            parameter.name
            for parameter in signature.values()
            if parameter.default is parameter.empty and parameter.kind == parameter.POSITIONAL_OR_KEYWORD
        ]
        if not kwargs or any(name not in kwargs for name in required):
            continue
        try:
            with torch.no_grad():
                flatten("feat/" + method_name, method(**kwargs), tensors)
        except Exception as error:
            notes.append(f"{method_name}: {type(error).__name__} {str(error)[:120]}")
    return tensors


@torch.no_grad()
def generate(model, case):
    """Greedy decoding with EOS disabled: (tensors, smallest top-1/top-2 margin, new ids)."""
    inputs = clone_inputs(case.generate_inputs if case.generate_inputs is not None else case.inputs)
    if callable(case.gen):
        return case.gen(model, inputs)
    settings = model.generation_config
    eos_token_id = settings.eos_token_id
    settings.eos_token_id = None
    if settings.pad_token_id is None:
        settings.pad_token_id = 0
    try:
        output = model.generate(
            **inputs,
            max_new_tokens=NEW_TOKENS,
            min_new_tokens=None,
            do_sample=False,
            num_beams=1,
            return_dict_in_generate=True,
            output_logits=True,
        )
    finally:
        settings.eos_token_id = eos_token_id
    logits = torch.stack(list(output.logits), 1).float()  # batch, step, vocabulary
    tensors = dict(
        generated_ids=output.sequences, new_ids=output.sequences[:, -logits.shape[1] :], gen_logits=logits
    )
    return tensors, smallest_margin(logits), logits.argmax(-1)


MULTIMODAL_TOKEN = re.compile(
    r"(image|video|audio|vision|img|boi|eoi|boa|eoa|fake|media).*(token_id|token_index|token)s?$"
)


def multimodal_token_ids(config, depth=0):
    ids = set()
    for key, value in config.to_dict().items():
        try:
            attribute = getattr(config, key, None)
        except Exception:  # settings that differ by layer refuse to be read globally
            attribute = None
        if hasattr(attribute, "to_dict") and depth < 3:
            ids |= multimodal_token_ids(attribute, depth + 1)
        elif isinstance(value, int) and not isinstance(value, bool) and MULTIMODAL_TOKEN.search(key):
            ids.add(value)
    return ids


def dead_parameters(model, case):
    """Parameters without gradient to any main output: the recorded outputs say nothing about them."""
    model.zero_grad()
    model.requires_grad_(True)
    outputs = []

    def collect(value, depth=0):
        if torch.is_tensor(value):
            if value.requires_grad and value.is_floating_point():
                outputs.append(value)
        elif hasattr(value, "items"):
            for key, item in value.items():
                if key not in ("past_key_values", "cache_params") and "hidden_states" not in key:
                    collect(item, depth + 1)
        elif isinstance(value, (tuple, list)) and depth < 3:
            for item in value:
                collect(item, depth + 1)

    collect(forward(model, case))
    loss = 0
    for value in outputs:
        weighted = value * torch.linspace(0.5, 1.5, value.numel()).view(value.shape)
        loss = loss + weighted.nan_to_num(0, 0, 0).clamp(-1e4, 1e4).sum()
    loss.backward()
    return [
        name
        for name, param in model.named_parameters()
        if param.grad is None or not torch.any(param.grad != 0).item()
    ]


def largest_difference(first, second):
    differences = [
        (first[key].float() - second[key].float()).nan_to_num(0, 0, 0).abs().max().item()
        for key in first
        if key in second
        and first[key].shape == second[key].shape
        and first[key].numel()
        and first[key].is_floating_point()
    ]
    return max(differences or [float("nan")])


# ---------------------------------------------------------------------------- files


def as_tensors(values):
    """The dictionary with arrays, lists and numbers turned into tensors; what is not numeric is left out."""
    tensors = {}
    for key, value in values.items():
        if torch.is_tensor(value):
            tensors[key] = value
        elif isinstance(value, (np.ndarray, list, tuple, int, float, bool)):
            array = np.asarray(value)
            if array.dtype.kind in "iufb":
                tensors[key] = torch.from_numpy(np.ascontiguousarray(array)).reshape(array.shape)
    return tensors


def save_tensors(tensors, path, metadata=None):
    half_or_double = (torch.bfloat16, torch.float16, torch.float64)
    tensors = {key: value.contiguous().clone() for key, value in tensors.items()}
    tensors = {
        key: value.float() if value.dtype in half_or_double else value for key, value in tensors.items()
    }
    save_file(tensors, path, metadata={"format": "pt", **(metadata or {})})


def save_json(value, path):
    with open(path, "w") as file:
        json.dump(value, file, indent=1, default=str)


def empty_folder(path):
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)


def save_and_reload(model, folder, notes, attention="eager"):
    """Save the checkpoint and load it again; the file and the returned model hold the same values."""
    empty_folder(folder)
    try:
        model.save_pretrained(folder)
    except Exception as error:
        if getattr(model, "generation_config", None) is None or "eneration" not in str(error):
            raise
        model.generation_config = transformers.GenerationConfig.from_model_config(model.config)
        model.save_pretrained(folder)
    reloaded, info = type(model).from_pretrained(
        folder, attn_implementation=attention, dtype=torch.float32, output_loading_info=True
    )
    reloaded = reloaded.eval()
    before, after = model.state_dict(), reloaded.state_dict()
    changed = [
        key
        for key in before
        if key in after
        and before[key].shape == after[key].shape
        and not torch.equal(before[key], after[key].to(before[key].dtype))
    ]
    if changed:  # e.g. a padding row set to zero on loading
        reloaded.save_pretrained(folder)
        note = "from_pretrained changed (file re-saved from reloaded model): " + ",".join(changed[:4])
        if note not in notes:
            notes.append(note)
    return reloaded, info


# ---------------------------------------------------------------------------- processors


def make_images():
    """Three deterministic RGB images of different aspect ratios."""
    rng = np.random.RandomState(123)
    images = []
    for width, height in [(64, 48), (37, 90), (120, 50)]:
        y, x = np.mgrid[0:height, 0:width]
        array = np.zeros((height, width, 3))
        for channel in range(3):
            fx, fy, phase = rng.rand(3) * [0.25, 0.25, 6]
            array[..., channel] = 127 + 80 * np.sin(fx * x + fy * y + phase) + 40 * rng.rand(height, width)
        array[height // 4 : height // 2, width // 4 : width // 2] = rng.randint(0, 255, 3)
        images.append(Image.fromarray(array.clip(0, 255).astype(np.uint8)))
    return images


def make_audio(samples):
    """Two tones, one of them rising, with a little noise, at 16 kHz."""
    rng = np.random.RandomState(5)
    t = np.arange(samples) / 16000
    tones = 0.4 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * (300 + 200 * t) * t)
    return (tones + 0.05 * rng.randn(samples)).astype(np.float32)


def flatten_arrays(prefix, value, out):
    """Like `flatten`, for processor outputs: arrays and numbers count too, and keys are joined with slashes."""
    if torch.is_tensor(value):
        out[prefix] = value
    elif isinstance(value, np.ndarray) and value.dtype != object:
        out[prefix] = torch.from_numpy(np.ascontiguousarray(value))
    elif isinstance(value, (bool, int, float, np.integer, np.floating)):
        out[prefix] = torch.tensor(value)
    elif hasattr(value, "items"):
        for key, item in value.items():
            flatten_arrays(f"{prefix}/{key}", item, out)
    elif isinstance(value, (list, tuple, np.ndarray)):
        try:
            array = np.asarray(value)
        except ValueError:  # ragged
            array = None
        if array is not None and array.dtype.kind in "iufb":
            out[prefix] = torch.from_numpy(np.ascontiguousarray(array))
            return
        for index, item in enumerate(value):
            flatten_arrays(f"{prefix}.{index}", item, out)


def run_image_processor(image_processor, image):
    """Not every processor can return every kind of tensor."""
    first_error = None
    for kwargs in (dict(return_tensors="pt"), dict(return_tensors="np"), {}):
        try:
            return image_processor(images=image, **kwargs)
        except Exception as error:
            first_error = first_error or error
    raise first_error


def record_image_processor(make_image_processor, folder, sizes):
    image_processor = make_image_processor(sizes)
    image_processor.save_pretrained(folder)
    tensors = {}
    for index, image in enumerate(make_images()):
        tensors[f"image_{index}"] = torch.from_numpy(np.array(image))
        output = run_image_processor(image_processor, image)
        output = dict(pixel_values=output) if isinstance(output, torch.Tensor) else dict(output)
        flatten_arrays(f"out_{index}", output, tensors)
    path = os.path.join(folder, "preprocess.safetensors")
    save_tensors(tensors, path, {"image_processor": type(image_processor).__name__})


def record_feature_extractor(feature_extractor, folder):
    class_name, settings = feature_extractor
    extractor = getattr(transformers, class_name)(**settings)
    extractor.save_pretrained(folder)
    tensors = {}
    for index, samples in enumerate((4000, 2500, 9000)):
        audio = make_audio(samples)
        tensors[f"audio_{index}"] = torch.from_numpy(audio)
        output = extractor(audio, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        flatten_arrays(f"out_{index}", dict(output), tensors)
    save_tensors(tensors, os.path.join(folder, "preprocess.safetensors"), {"feature_extractor": class_name})


def save_processor(processor, folder):
    try:
        processor.save_pretrained(folder)
    except Exception:  # one built without its video processor
        for part in ("tokenizer", "image_processor", "feature_extractor"):
            if getattr(processor, part, None) is not None:
                getattr(processor, part).save_pretrained(folder)


RECORDED_OUTPUTS = (
    "logits",
    "logits_per_image",
    "image_embeds",
    "text_embeds",
    "last_hidden_state",
    "pred_boxes",
)


def record_processor(case, model, folder, sizes):
    processor, prompts, *rest = case.processor(sizes)
    call_kwargs = rest[0] if rest else {}
    messages = rest[1] if len(rest) > 1 else None
    save_processor(processor, folder)
    images = make_images()
    tensors, reference, cases = {}, {}, []
    signature = inspect.signature(model.forward).parameters
    for index, (text, image_indices) in enumerate(prompts):
        output = dict(
            processor(
                text=text if isinstance(text, list) else [text],
                images=[images[k] for k in image_indices],
                return_tensors="pt",
                **call_kwargs,
            )
        )
        flatten_arrays(f"case_{index}", output, tensors)
        cases.append(dict(text=text, images=image_indices, keys=sorted(output)))
        kwargs = {
            key: value.float() if torch.is_tensor(value) and value.is_floating_point() else value
            for key, value in output.items()
            if key in signature or accepts_any_keyword(signature)
        }
        try:
            with torch.no_grad():
                result = model(**kwargs)
        except Exception as error:
            cases[-1]["model_error"] = f"{type(error).__name__} {str(error)[:200]}"
            continue
        flatten(f"case_{index}", {key: result[key] for key in RECORDED_OUTPUTS if key in result}, reference)
    for index, image in enumerate(images):
        tensors[f"image_{index}"] = torch.from_numpy(np.array(image))
    if messages is not None:
        rendered = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        cases.append(dict(messages=messages, rendered=rendered))
    description = dict(
        processor=type(processor).__name__,
        call_kwargs={key: str(value) for key, value in call_kwargs.items()},
        cases=cases,
    )
    save_json(description, os.path.join(folder, "processor_cases.json"))
    save_tensors(tensors, os.path.join(folder, "processor.safetensors"))
    if reference:
        save_tensors(reference, os.path.join(folder, "processor_reference.safetensors"))
    errors = [entry["model_error"] for entry in cases if "model_error" in entry]
    if errors:
        raise RuntimeError("processor saved; model on processor output: " + errors[0])


def attempt(record, notes, *args):
    try:
        record(*args)
        return "ok"
    except Exception as error:
        notes.append(traceback.format_exc()[-600:])
        return f"FAIL {type(error).__name__}: {str(error)[:200]}"


# ---------------------------------------------------------------------------- one family

MAIN_OUTPUTS = ("logits", "last_hidden_state", "logits_per_image", "pred_masks", "start_logits")


def record_family(name, seed, out):
    """Write `<out>/<name>/` and return what went into its meta.json."""
    start = time.time()
    folder = os.path.join(out, name)
    meta = dict(family=name, group=FAMILIES[name]["group"])
    notes = []
    # generative families: draw the weights again until the greedy path is unambiguous and not degenerate
    for draw in range(MAX_WEIGHT_DRAWS):
        sizes = Sizes(seed)
        torch.manual_seed(seed)
        case = FAMILIES[name]["build"](sizes)
        original = case.model.eval().float()
        if case.attention != "eager":
            original.config._attn_implementation = case.attention
            meta["attention"] = case.attention
        weight_seed = seed + 1000 * draw
        randomise(original, weight_seed, case.std)
        model, info = save_and_reload(original, folder, notes, case.attention)
        with torch.no_grad():
            expected, outputs = {}, {}
            flatten("", forward(original, case), expected)
            with ModuleRecorder(model, case.hooks) as recorder:
                flatten("", forward(model, case), outputs)
        reference = {**outputs, **recorder.tensors}
        if case.record_features:
            reference.update(record_features(model, case.inputs, notes))
        if case.extras:
            with torch.no_grad():
                flatten("extra", case.extras(model, clone_inputs(case.inputs)), reference)
        if not case.gen:
            break
        generated, margin, new_ids = generate(model, case)
        reference.update({"gen/" + key: value for key, value in generated.items()})
        distinct = len(set(new_ids.flatten().tolist()))
        forbidden = multimodal_token_ids(original.config)
        special = any(token in forbidden for token in new_ids.flatten().tolist())
        meta.update(gen_margin=margin, gen_special=special, gen_distinct=distinct, new_ids=new_ids.tolist())
        if margin > MIN_MARGIN and not special and distinct > 2:
            break
    else:
        notes.append(
            f"greedy: margin={margin:.2e} special={special} distinct={distinct} (after {draw + 1} draws)"
        )

    if case.audit:
        try:
            meta["dead_params"] = dead_parameters(model, case)
        except Exception as error:
            meta["dead_params"] = f"audit failed: {type(error).__name__} {str(error)[:100]}"
    settings_file = os.path.join(folder, "generation_config.json")
    if (
        case.gen
        and getattr(model, "generation_config", None) is not None
        and not os.path.exists(settings_file)
    ):
        model.generation_config.save_pretrained(folder)
    inputs = as_tensors(case.inputs)
    save_tensors(inputs, os.path.join(folder, "inputs.safetensors"))
    save_tensors(reference, os.path.join(folder, "reference.safetensors"))

    if case.image_processor:
        meta["preprocess"] = attempt(record_image_processor, notes, case.image_processor, folder, sizes)
    if case.feature_extractor:
        meta["preprocess"] = attempt(record_feature_extractor, notes, case.feature_extractor, folder)
    if case.processor:
        meta["processor"] = attempt(record_processor, notes, case, model, folder, sizes)

    main = next((key for key in MAIN_OUTPUTS if key in outputs), next(iter(outputs)))
    finite = outputs[main].float()
    finite = finite[torch.isfinite(finite)]
    missing, mismatched = sorted(info["missing_keys"]), list(info["mismatched_keys"])
    with_nan = [key for key, x in outputs.items() if x.is_floating_point() and torch.isnan(x).any()]
    meta.update(
        status="WARN nan outputs" if with_nan else "WARN missing keys" if missing or mismatched else "OK",
        class_name=type(model).__name__,
        model_type=model.config.model_type,
        weight_seed=weight_seed,
        draws=draw + 1,
        missing=[str(key) for key in missing],
        unexpected=[str(key) for key in sorted(info["unexpected_keys"])],
        mismatched=[str(key) for key in mismatched],
        nan_outputs=with_nan,
        reload_max_diff=largest_difference(expected, outputs),
        inputs={key: list(value.shape) for key, value in inputs.items()},
        outputs=[key for key in outputs if "hidden_states" not in key],
        main_output=main,
        main_std=float(finite.std()) if finite.numel() > 1 else None,
        n_reference_tensors=len(reference),
        n_params=sum(param.numel() for param in model.parameters()),
        notes=([case.notes] if case.notes else []) + notes,
        time_s=round(time.time() - start, 2),
    )
    save_json(meta, os.path.join(folder, "meta.json"))
    return meta
