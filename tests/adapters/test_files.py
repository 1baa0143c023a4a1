"""Folders of adapters: written and read in both forms, saved with the model or merged; errors of one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from beholder.cards.schema import Stage, Trains
from beholder.errors import BeholderError, UnknownName, WeightsError
from beholder.model import Batch, build
from beholder.parts.adapters.apply import adapter_tensors, adapters, known_as, merge_adapters, put_on
from beholder.parts.adapters.low_rank import Lora
from beholder.parts.adapters.named import NAMED, chosen
from beholder.pipeline import Pipeline, load
from beholder.train.checkpoints import trained_tensors
from beholder.train.stages import prepare_stage
from beholder.weights.files import open_weights, write_safetensors
from beholder.weights.pull import with_trained
from tests.toys import SEES, byte_tokenizer

LAYERS = "languages.main.blocks.*"
PEFT = ("lora", "rslora", "dora", "ia3", "prefix", "prompt", "p-tuning")
IDS = torch.tensor([[11, 22, 33, 44]])
FILE = "adapter_model.safetensors"


def stirred(name: str, pattern: str = LAYERS) -> Pipeline:
    model = build(SEES)
    adapter = chosen(name, 4, pattern)
    assert adapter is not None
    put_on(model, adapter)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if known_as(parameter_name)[1]:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return Pipeline(model, byte_tokenizer())


def scores(pipeline: Pipeline) -> Tensor:
    with torch.no_grad():
        return pipeline.model(Batch(ids_BT=IDS)).heads["text"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Pipeline(build(SEES), byte_tokenizer()).save(tmp_path / "base")


@pytest.mark.parametrize("name", NAMED)
def test_a_saved_model_keeps_its_adapters(name: str, tmp_path: Path) -> None:
    pipeline = stirred(name)
    again = load(pipeline.save(tmp_path / "m"))
    assert again.card.adapters == pipeline.card.adapters
    torch.testing.assert_close(scores(again), scores(pipeline), atol=1e-6, rtol=1e-5)
    assert again.ask(None, "hm?", max_tokens=4).ids == pipeline.ask(None, "hm?", max_tokens=4).ids


@pytest.mark.parametrize("name", ["lora", "rslora", "dora", "ia3"])
def test_a_model_is_saved_merged(name: str, tmp_path: Path) -> None:
    pipeline = stirred(name)
    want = scores(pipeline)
    again = load(pipeline.save(tmp_path / "m", merge=True))
    assert not again.card.adapters and not adapters(again.model) and again.card == SEES
    torch.testing.assert_close(scores(again), want, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("form", ["peft", "own"])
@pytest.mark.parametrize("name", NAMED)
def test_adapters_are_kept_apart(name: str, form: str, base: Path, tmp_path: Path) -> None:
    pipeline = stirred(name)
    if form == "peft" and name not in PEFT:
        with pytest.raises(BeholderError, match="PEFT has no .* use form='own'"):
            pipeline.save_adapter(tmp_path / "a", form=form)
        return
    folder = pipeline.save_adapter(tmp_path / "a", form=form)
    again = load(base, adapter=folder)
    torch.testing.assert_close(scores(again), scores(pipeline), atol=1e-6, rtol=1e-5)
    assert pipeline.save_adapter(folder, form=form) == folder  # its own kind of folder may be replaced
    with pytest.raises(BeholderError, match="may be replaced"):
        pipeline.save_adapter(base, form=form)


def test_what_was_trained_beside_adapters_comes_along(base: Path, tmp_path: Path) -> None:
    pipeline = stirred("lora")
    with torch.no_grad():
        for parameter in pipeline.model.get_submodule("branches.image.connector").parameters():
            parameter += 1
    for form in ("peft", "own"):
        folder = pipeline.save_adapter(tmp_path / form, form=form, also=("branches.image.connector.*",))
        again = load(base, adapter=folder).model.get_submodule("branches.image.connector").state_dict()
        for name, value in pipeline.model.get_submodule("branches.image.connector").state_dict().items():
            assert torch.equal(again[name], value)
    with pytest.raises(BeholderError, match="no parameter matches 'branchs"):
        pipeline.save_adapter(tmp_path / "x", also=("branchs.*",))
    with pytest.raises(BeholderError, match="has an adapter and was trained itself"):
        pipeline.save_adapter(tmp_path / "x", also=("*.blocks.0.attn.q.weight",))


def test_several_ranks_and_scales_in_one_folder(base: Path, tmp_path: Path) -> None:
    model = build(SEES)
    put_on(model, Lora(pattern="*.attn.q.weight", rank=2, alpha=3.0))
    put_on(model, Lora(pattern="*.mlp.*", rank=5, alpha=20.0))
    for layer in adapters(model).values():
        torch.nn.init.normal_(layer.lora_b, generator=torch.Generator().manual_seed(1))
    pipeline = Pipeline(model, byte_tokenizer())
    folder = pipeline.save_adapter(tmp_path / "a")
    assert json.loads((folder / "adapter_config.json").read_text())["rank_pattern"]
    again = load(base, adapter=folder)
    torch.testing.assert_close(scores(again), scores(pipeline), atol=1e-6, rtol=1e-5)
    assert sorted((adapter.rank, adapter.alpha) for adapter in again.card.adapters) == [(2, 3.0), (5, 20.0)]


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_adapters_on_packed_weights_and_merged_before_packing(precision: str, tmp_path: Path) -> None:
    pipeline = stirred("lora")
    folder = pipeline.save_adapter(tmp_path / "a")
    pipeline.save(tmp_path / "merged", merge=True)
    base = Pipeline(build(SEES), byte_tokenizer()).save(tmp_path / "base")
    beside = load(base, adapter=folder, precision=precision)
    assert adapters(beside.model) and beside.card.adapters
    merged = load(base, adapter=folder, merge=True, precision=precision)
    want = scores(load(tmp_path / "merged"))
    for each in (beside, merged):
        assert (scores(each).float() - want).norm() < (1e-5 if precision == "float32" else 0.1) * want.norm()
    with pytest.raises(BeholderError, match="give adapter=FOLDER too"):
        load(base, merge=True)


def broken(folder: Path, **changes: Any) -> Path:
    """A copy of a folder with other settings, or tensors (by the end of their names; None takes them away)."""
    copy = folder.with_name("broken")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    config = json.loads((copy / "adapter_config.json").read_text())
    tensors = {name: tensor.load().clone() for name, tensor in open_weights(folder / FILE).items()}
    for key, value in changes.items():
        if key == "rename":
            tensors = {name.replace(*value): tensor for name, tensor in tensors.items()}
        elif key == "drop":
            tensors = {name: tensor for name, tensor in tensors.items() if value not in name}
        elif key == "cut":
            tensors = {name: tensor[:, :-1] if value in name else tensor for name, tensor in tensors.items()}
        else:
            config[key] = value
    (copy / "adapter_config.json").write_text(json.dumps(config))
    write_safetensors(copy / FILE, {name: tensor.contiguous() for name, tensor in tensors.items()})
    return copy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rename": ("blocks.1.", "blocks.7.")},
            r"no linear layer languages\.main\.blocks\.7\.attn\.k and 6 more; the adapter was made for",
        ),
        ({"r": 9}, r"matrices of rank 4 and 4, but adapter_config\.json says 9"),
        (
            {"cut": "q.lora_A"},
            r"is for 31 inputs and 32 outputs, the layer has 32 and 32; the adapter was made for",
        ),
        ({"drop": "0.attn.q.lora_B"}, r"blocks\.0\.attn\.q has one half of an adapter"),
        (
            {"drop": "1.mlp.up."},
            r"names the target languages\.main\.blocks\.1\.mlp\.up, but adapter_model\.safetensors has nothing",
        ),
        ({"rename": ("lora_A", "lora_embedding_A")}, "is of a kind that is not read"),
        ({"use_dora": True}, "use_dora in adapter_config.json do not go together"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices is set, which is not read"),
    ],
)
def test_what_does_not_fit(changes: dict[str, Any], message: str, base: Path, tmp_path: Path) -> None:
    folder = stirred("lora").save_adapter(tmp_path / "a")
    with pytest.raises(WeightsError, match=message) as error:
        load(base, adapter=broken(folder, **changes))
    assert "\n" not in str(error.value)


def test_folders_that_are_none(base: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no adapter_config\.json and no beholder_adapter\.json"):
        load(base, adapter=tmp_path)
    folder = stirred("lora").save_adapter(tmp_path / "a")
    with pytest.raises(UnknownName, match="unknown kind of adapter in .* 'LOHA'; nearest: LORA"):
        load(base, adapter=broken(folder, peft_type="LOHA"))
    with pytest.raises(BeholderError, match="has no adapters to save"):
        load(base).save_adapter(tmp_path / "b")
    with pytest.raises(UnknownName, match="unknown form of adapters 'pefft'"):
        stirred("lora").save_adapter(tmp_path / "b", form="pefft")
    (folder / FILE).unlink()
    (folder / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match="holds pickles; run beholder convert"):
        load(base, adapter=folder)


def test_an_adapter_of_our_form_for_another_model(tmp_path: Path) -> None:
    folder = stirred("mixture").save_adapter(tmp_path / "a", form="own")
    other = SEES.but(**{"language.num_layers": 3})
    base = Pipeline(build(other), byte_tokenizer()).save(tmp_path / "other")
    with pytest.raises(
        WeightsError, match="differ in 21 names, first .*; the adapter was made for 'toy-sees'"
    ):
        load(base, adapter=folder)


def test_an_adapted_system_is_not_exported(oracle: Callable[[str], Path], tmp_path: Path) -> None:
    pipeline = load(oracle("qwen2"))
    put_on(pipeline.model, Lora(pattern=LAYERS))
    with pytest.raises(BeholderError, match="has adapters, for which its publisher's files have no place"):
        pipeline.export(tmp_path / "x")
    merge_adapters(pipeline.model)
    pipeline.export(tmp_path / "x")


@pytest.mark.parametrize("name", ["lora", "dora"])
def test_what_a_run_writes_gives_the_merged_weights(name: str) -> None:
    """`trained.safetensors`, as `mini`'s is assembled from it."""
    rule = Trains(LAYERS, lr=1.0, rank=3, adapter=name)
    stage = Stage("s", rules=(Trains("branches.image.connector.*", lr=1.0), rule))
    model = build(SEES)
    prepare_stage(model, stage)
    for layer in adapters(model).values():
        torch.nn.init.normal_(layer.lora_b, generator=torch.Generator().manual_seed(1))
    trained = trained_tensors(model, (stage,), torch.float32)
    assert set(adapter_tensors(model)) <= set(trained) and any("connector" in name for name in trained)
    values = with_trained(dict(build(SEES).state_dict()), trained)
    merge_adapters(model)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(values[key], value, atol=1e-5, rtol=1e-4)


def test_standing_adapters_are_in_what_a_run_writes() -> None:
    stage = Stage("s", rules=(Trains(LAYERS, lr=1.0, adapter="prefix"),))
    model = build(SEES)
    plan = prepare_stage(model, stage)
    assert trained_tensors(model, (stage,)).keys() == plan.trained.keys()
