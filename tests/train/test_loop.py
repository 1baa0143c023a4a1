"""The loop: it learns, it can be stopped and goes on exactly, it says what it does."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from beholder.cards.schema import Stage, Trains
from beholder.data.samples import Sample, Turn
from beholder.errors import BeholderError, WeightsError
from beholder.model import Model, build
from beholder.parts.blocks.moe import Experts, Routing
from beholder.train.checkpoints import Progress
from beholder.train.collate import Collator
from beholder.train.loop import Settings, closing_feed, done, learning_rate_factor, train_stage
from beholder.train.objectives import Grounded, Words, next_token
from beholder.train.run import TRAINED, Task, run
from beholder.weights.files import open_weights
from beholder.weights.pull import with_trained
from tests.toys import SEES, byte_tokenizer

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (250, 250, 250)}
STAGE = Stage(
    "join",
    rules=(Trains("branches.*", lr=3e-3), Trains("languages.main.blocks.*", lr=3e-3, rank=4)),
    steps=6,
    batch=4,
    accumulate=2,
    warmup=2,
)


class Plain:
    """Pictures of one colour; what is asked is the colour, and of every other whether it is red."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Sample:
        name = str(np.random.default_rng(index).choice(list(COLOURS)))
        pixels = np.empty((28, 28, 3), np.uint8)
        pixels[:] = COLOURS[name]
        turns = (Turn("c?", name, "colour"), Turn("red?", "yes" if name == "red" else "no", "presence"))
        return Sample(pixels, turns[: 1 + index % 2], f"plain/{index}")


COLLATE = Collator(SEES, byte_tokenizer())


def settings(folder: Path, **changes: object) -> Settings:
    return Settings(**{"folder": folder, "precision": torch.float32, **changes})  # type: ignore[arg-type]


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def fresh() -> Model:
    torch.manual_seed(0)
    return build(SEES)


def test_the_loss_falls(tmp_path: Path) -> None:
    stage = STAGE.but(rules=(Trains("*", lr=3e-3),), steps=40, accumulate=1, batch=8)
    result = train_stage(fresh(), stage, Plain(), COLLATE, settings(tmp_path))
    losses = [record["loss"] for record in metrics(tmp_path)]
    assert result.finished and result.progress.samples == 320
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_experts_add_their_losses_to_the_answers() -> None:
    torch.manual_seed(0)
    model = build(SEES.but(**{"language.mlp": Experts(4, 24, Routing(active=1))}))
    batch = COLLATE([Plain()[index] for index in range(4)])
    language = model.read(batch.batch, model.encode(batch.batch))
    balance, z = language.aux_losses["load balance"], language.aux_losses["router z"]
    with torch.no_grad():  # where experts report no losses
        answers = next_token(model, batch)
    assert balance > 1 and z > 0
    torch.testing.assert_close(next_token(model, batch), answers + 0.01 * balance + 0.001 * z)


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path) -> None:
    whole = fresh()
    train_stage(whole, STAGE, Plain(), COLLATE, settings(tmp_path / "whole"))

    class Stops(Plain):
        """Asks the process to end while the third step's samples are made."""

        def __getitem__(self, index: int) -> Sample:
            if index == 2 * 8 + 5:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__getitem__(index)

    parted = fresh()
    first = train_stage(parted, STAGE, Stops(), COLLATE, settings(tmp_path / "parted", ahead=1))
    assert not first.finished and 0 < first.progress.step < STAGE.steps
    resumed = fresh()
    second = train_stage(resumed, STAGE, Plain(), COLLATE, settings(tmp_path / "parted"))
    assert second.finished
    for name in ("loss", "norm", "factor"):
        assert [r[name] for r in metrics(tmp_path / "parted")] == [
            r[name] for r in metrics(tmp_path / "whole")
        ]
    for (name, one), other in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_metrics_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    """As a run leaves them that was killed at once: steps past its checkpoint, the last line cut."""
    train_stage(fresh(), STAGE, Plain(), COLLATE, settings(tmp_path))
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 7, "loss": 1.0}\n{"step": 8, "lo')
    train_stage(fresh(), STAGE.but(steps=8), Plain(), COLLATE, settings(tmp_path))
    assert [record["step"] for record in metrics(tmp_path)] == list(range(1, 9))


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    class Doubled(Plain):
        def __getitem__(self, index: int) -> Sample:
            train_stage(fresh(), STAGE, Plain(), COLLATE, settings(tmp_path))
            return super().__getitem__(index)

    with pytest.raises(BeholderError, match="another run is training in"):
        train_stage(fresh(), STAGE, Doubled(), COLLATE, settings(tmp_path))


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    train_stage(fresh(), STAGE, Plain(), COLLATE, settings(tmp_path))
    again = train_stage(fresh(), STAGE, Plain(), COLLATE, settings(tmp_path))
    assert again.finished and len(metrics(tmp_path)) == STAGE.steps


def test_a_checkpoint_of_another_stage_is_refused(tmp_path: Path) -> None:
    train_stage(fresh(), STAGE, Plain(), COLLATE, settings(tmp_path))
    with pytest.raises(WeightsError, match="not of stage other"):
        train_stage(fresh(), STAGE.but(name="other"), Plain(), COLLATE, settings(tmp_path))
    with pytest.raises(WeightsError, match="names differ"):
        train_stage(fresh(), STAGE.but(rules=STAGE.rules[:1]), Plain(), COLLATE, settings(tmp_path))


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    train_stage(fresh(), STAGE, Plain(), COLLATE, settings(tmp_path))
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_error_in_the_data_reaches_the_caller_and_leaves_no_thread(tmp_path: Path) -> None:
    class Broken(Plain):
        def __getitem__(self, index: int) -> Sample:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        train_stage(fresh(), STAGE, Broken(), COLLATE, settings(tmp_path))
    assert not [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_batches_come_in_order_from_any_step() -> None:
    stage = STAGE.but(batch=3, accumulate=2)
    seen = []
    with closing_feed(Plain(), lambda samples: seen.append([s.key for s in samples]), stage, 2, 1) as batches:
        next(batches), next(batches)
    assert seen[:2] == [["plain/12", "plain/13", "plain/14"], ["plain/15", "plain/16", "plain/17"]]


def test_the_rate_rises_and_falls_to_nothing() -> None:
    factors = [learning_rate_factor(step, step / 100, warmup=10) for step in range(101)]
    assert factors[0] == pytest.approx(0.1, rel=0.01) and factors[-1] == 0
    assert max(factors) == factors[9] and factors[9:] == sorted(factors[9:], reverse=True)
    assert learning_rate_factor(50, 0.5, warmup=10) == pytest.approx(0.5)


def test_time_can_end_the_schedule_early() -> None:
    stage = STAGE.but(steps=100)
    assert done(Progress(step=10, seconds=30.0), stage, seconds=60.0) == 0.5
    assert done(Progress(step=70, seconds=30.0), stage, seconds=60.0) == 0.7
    assert done(Progress(step=10, seconds=1e9), stage, seconds=None) == 0.1


def test_words_pull_the_pictures_tokens_to_their_names(tmp_path: Path) -> None:
    model = fresh()
    objective = Words(model, byte_tokenizer(), {"colour": sorted(COLOURS)})
    stage = Stage("align", rules=(Trains("branches.*", lr=3e-3),), steps=60, batch=8, warmup=5)
    train_stage(model, stage, Plain(), COLLATE, settings(tmp_path), objective=objective)
    item = COLLATE([Plain()[index] for index in range(24)])
    with torch.no_grad():
        (features,) = model.encode(item.batch).values()
        scores = torch.stack(features.packed.split()).float() @ objective.directions_DW["colour"]
    said = scores.logsumexp(1).argmax(1).tolist()
    wanted = [sorted(COLOURS).index(turns[0].answer) for turns in item.turns]
    assert np.mean(np.equal(said, wanted)) > 0.9


def test_grounding_adds_a_share_of_the_words_loss() -> None:
    model, item = fresh(), COLLATE([Plain()[index] for index in range(4)])
    words = Words(model, byte_tokenizer(), {"colour": sorted(COLOURS)})
    with torch.no_grad():
        apart = next_token(model, item) + 0.3 * words(model, item)
        torch.testing.assert_close(Grounded(words, share=0.3)(model, item), apart)
        elsewhere = Words(model, byte_tokenizer(), {"naming": ["cat", "dog"]})
        torch.testing.assert_close(Grounded(elsewhere)(model, item), next_token(model, item))
    with pytest.raises(BeholderError, match="no sample of the batch has a turn of naming"):
        elsewhere(model, item)


def test_a_longer_run_goes_on_with_the_last_stage_alone(tmp_path: Path) -> None:
    first, second = STAGE.but(name="one", rules=STAGE.rules[:1], steps=2), STAGE.but(steps=2)
    assert run(fresh(), COLLATE, [Task(first, Plain()), Task(second, Plain())], tmp_path)
    longer = [Task(first.but(steps=4), Plain()), Task(second.but(steps=4), Plain())]
    assert run(fresh(), COLLATE, longer, tmp_path)
    assert [len(metrics(tmp_path / name)) for name in ("one", "join")] == [2, 4]


def test_trained_tensors_put_on_base_weights_give_the_trained_model(tmp_path: Path) -> None:
    """`trained.safetensors` is read by `weights.pull`."""
    model = fresh()
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tasks = [Task(STAGE.but(name="one", rules=STAGE.rules[:1]), Plain()), Task(STAGE, Plain())]
    assert run(model, COLLATE, tasks, tmp_path)
    trained = {name: tensor.load() for name, tensor in open_weights(tmp_path / TRAINED).items()}
    assert all(tensor.dtype == torch.bfloat16 for tensor in trained.values())
    written = (tmp_path / TRAINED).stat().st_mtime_ns
    assert run(fresh(), COLLATE, tasks, tmp_path) and (tmp_path / TRAINED).stat().st_mtime_ns == written
    again = build(SEES)
    again.load_state_dict(with_trained(base, trained))
    item = COLLATE([Plain()[0], Plain()[1]])
    with torch.no_grad():
        one, other = (each.float()(item.batch).heads["text"] for each in (model, again))
    keep = item.batch.visibility.segments_BT >= 0
    torch.testing.assert_close(one[keep], other[keep], atol=0.05, rtol=0.05)
