"""The loop: it learns, it can be stopped and goes on exactly, it says what it does."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from beholder.cards.schema import Stage, Trains
from beholder.data.order import Order
from beholder.data.samples import Sample, Turn
from beholder.errors import BeholderError, UnknownName, WeightsError
from beholder.model import Model, build
from beholder.parts.adapters.low_rank import Lora
from beholder.parts.blocks.moe import Experts, Routing
from beholder.train.checkpoints import Progress, checkpoints
from beholder.train.collate import Collator, TrainBatch
from beholder.train.feed import closing_feed
from beholder.train.gradients import draws
from beholder.train.guards import Guard
from beholder.train.loop import Settings, Watch, done, train_stage
from beholder.train.objectives import Grounded, Words, next_token
from beholder.train.recompute import recomputed
from beholder.train.reports import Answered
from beholder.train.run import TRAINED, Task, run
from beholder.train.schedules import learning_rate_factor
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
    def taken(**share: int) -> list[list[str]]:
        with closing_feed(
            Plain(), lambda samples: [s.key for s in samples], Order(Plain(), None, 3), 4, 1, **share
        ) as feed:
            return feed.take(2)

    assert taken() == [["plain/12", "plain/13", "plain/14"], ["plain/15", "plain/16", "plain/17"]]
    assert taken(every=2, offset=1) == [
        ["plain/15", "plain/16", "plain/17"],
        ["plain/21", "plain/22", "plain/23"],
    ]


def test_the_rate_rises_and_falls_to_nothing() -> None:
    stage = STAGE.but(warmup=10)
    factors = [learning_rate_factor(stage, step, step / 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.1, rel=0.01) and factors[-1] == 0
    assert max(factors) == factors[9] and factors[9:] == sorted(factors[9:], reverse=True)
    assert learning_rate_factor(stage, 50, 0.5) == pytest.approx(0.5)
    assert learning_rate_factor(stage.but(floor=0.2), 50, 0.5) == pytest.approx(0.6)


def test_schedules() -> None:
    def factors(**changes: object) -> list[float]:
        return [learning_rate_factor(STAGE.but(warmup=1, **changes), step, step / 10) for step in range(11)]

    assert factors(schedule="constant") == [1.0] * 11
    assert factors(schedule="linear") == pytest.approx([1 - step / 10 for step in range(11)])
    assert factors(schedule="wsd", decay=0.2) == pytest.approx([1.0] * 9 + [0.5, 0.0])
    with pytest.raises(UnknownName, match="schedule of stage join"):
        STAGE.but(schedule="cosin")


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
    assert run(fresh(), COLLATE, [Task(first, Plain()), Task(second, Plain())], tmp_path).finished
    longer = [Task(first.but(steps=4), Plain()), Task(second.but(steps=4), Plain())]
    assert run(fresh(), COLLATE, longer, tmp_path).finished
    assert [len(metrics(tmp_path / name)) for name in ("one", "join")] == [2, 4]


def test_trained_tensors_put_on_base_weights_give_the_trained_model(tmp_path: Path) -> None:
    """`trained.safetensors` is read by `weights.pull`."""
    model = fresh()
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tasks = [Task(STAGE.but(name="one", rules=STAGE.rules[:1]), Plain()), Task(STAGE, Plain())]
    assert run(model, COLLATE, tasks, tmp_path).finished
    trained = {name: tensor.load() for name, tensor in open_weights(tmp_path / TRAINED).items()}
    assert all(tensor.dtype == torch.bfloat16 for tensor in trained.values())
    written = (tmp_path / TRAINED).stat().st_mtime_ns
    assert (
        run(fresh(), COLLATE, tasks, tmp_path).finished and (tmp_path / TRAINED).stat().st_mtime_ns == written
    )
    again = build(SEES)
    again.load_state_dict(with_trained(base, trained))
    item = COLLATE([Plain()[0], Plain()[1]])
    with torch.no_grad():
        one, other = (each.float()(item.batch).heads["text"] for each in (model, again))
    keep = item.batch.visibility.segments_BT >= 0
    torch.testing.assert_close(one[keep], other[keep], atol=0.05, rtol=0.05)


def test_an_average_of_the_weights_is_what_an_averaged_stage_gives(tmp_path: Path) -> None:
    stage = STAGE.but(ema=0.5, accumulate=1)
    model, seen = fresh(), []
    name = "branches.image.vision.positions"
    before = model.get_parameter(name).detach().clone()

    class Watching:
        def __call__(self, model: Model, item: TrainBatch) -> torch.Tensor:
            return next_token(model, item)

        def after_step(self, model: Model) -> None:
            seen.append(model.get_parameter(name).detach().clone())

    train_stage(model, stage, Plain(), COLLATE, settings(tmp_path), objective=Watching())
    average = before
    for step, value in enumerate(seen):
        average = average.lerp(value, 1 - min(0.5, (1 + step) / (10 + step)))
    assert len(seen) == stage.steps
    torch.testing.assert_close(model.get_parameter(name), average)
    again = fresh()
    train_stage(again, stage, Plain(), COLLATE, settings(tmp_path, closed=True))
    torch.testing.assert_close(again.get_parameter(name), average)


def test_recomputed_layers_give_the_same_run(tmp_path: Path) -> None:
    plain, thrifty = fresh(), fresh()
    train_stage(plain, STAGE, Plain(), COLLATE, settings(tmp_path / "plain"))
    train_stage(thrifty, STAGE, Plain(), COLLATE, settings(tmp_path / "thrifty", recompute=True))
    assert metrics(tmp_path / "plain")[-1]["loss"] == metrics(tmp_path / "thrifty")[-1]["loss"]
    with recomputed(thrifty) as layers:
        assert layers == len(thrifty.get_submodule("languages.main.blocks")) + len(
            thrifty.get_submodule("branches.image.vision.blocks")
        )
        kept: list[torch.Size] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
            next_token(thrifty.train(), COLLATE([Plain()[0]]))
        thrifty_count = len(kept)
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
        next_token(thrifty, COLLATE([Plain()[0]]))
    assert thrifty_count < 0.6 * len(kept)


def test_steps_without_numbers_are_left_out_and_five_stop_the_run(tmp_path: Path) -> None:
    class Sick:
        """Loses its numbers in the calls of `sick`."""

        def __init__(self, *sick: int) -> None:
            self.sick, self.calls = sick, 0

        def __call__(self, model: Model, item: TrainBatch) -> torch.Tensor:
            self.calls += 1
            return next_token(model, item) * (torch.nan if self.calls - 1 in self.sick else 1.0)

    stage = STAGE.but(accumulate=1, steps=8)
    model = fresh()
    result = train_stage(
        model, stage, Plain(), COLLATE, settings(tmp_path / "one", workers=1), objective=Sick(3)
    )
    assert result.progress.skipped == 1 and result.finished
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    with pytest.raises(BeholderError, match="step 6: the loss is nan .* lower the learning rate"):
        train_stage(
            fresh(),
            stage,
            Plain(),
            COLLATE,
            settings(tmp_path / "two", workers=1),
            objective=Sick(*range(2, 9)),
        )


def test_a_loss_that_leaves_for_good_stops_the_run() -> None:
    guard = Guard(divergence=3.0)
    for step in range(60):
        assert guard.admits(step, 1.0, 1.0)
    with pytest.raises(BeholderError, match="the run diverges"):
        for step in range(60, 200):
            guard.admits(step, 9.0, 1.0)


def test_the_last_checkpoints_stay_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    train_stage(fresh(), STAGE, Plain(), COLLATE, settings(tmp_path, checkpoint=0.0))
    newest, before = checkpoints(tmp_path)
    assert (newest.name, before.name) == ("checkpoint-00000006", "checkpoint-00000005")
    (newest / "trained.safetensors").write_bytes(b"torn")
    again = fresh()
    result = train_stage(again, STAGE, Plain(), COLLATE, settings(tmp_path))
    assert result.taken == 1 and result.finished
    (checkpoints(tmp_path)[0] / "trained.safetensors").write_bytes(b"torn")
    (checkpoints(tmp_path)[1] / "trained.safetensors").write_bytes(b"torn")
    with pytest.raises(WeightsError, match="no checkpoint of .* opens"):
        train_stage(fresh(), STAGE, Plain(), COLLATE, settings(tmp_path))


def test_a_checkpoint_of_other_samples_is_refused(tmp_path: Path) -> None:
    train_stage(fresh(), STAGE, Plain(), COLLATE, settings(tmp_path))
    with pytest.raises(WeightsError, match="was made with batch=4, this run has batch=2"):
        train_stage(fresh(), STAGE.but(batch=2), Plain(), COLLATE, settings(tmp_path))


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BeholderError, match="the data set is empty"):
        train_stage(fresh(), STAGE, [], COLLATE, settings(tmp_path))


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_stage(fresh(), STAGE.but(steps=3), Plain(), COLLATE, settings(tmp_path))

    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("beholder.train.checkpoints.write_safetensors", full)
    with pytest.raises(BeholderError, match="no space left"):
        train_stage(fresh(), STAGE, Plain(), COLLATE, settings(tmp_path))
    monkeypatch.undo()
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-00000003"]
    assert train_stage(fresh(), STAGE, Plain(), COLLATE, settings(tmp_path)).finished


def test_held_out_samples_choose_the_best_checkpoint(tmp_path: Path) -> None:
    def answer(model: Model) -> list[Answered]:
        return [Answered(Plain()[0].pixels, "c?", "red", "Red")]

    watch = Watch(Plain(), every=2, count=8, answer=answer)
    stage = STAGE.but(rules=(Trains("*", lr=3e-3),), steps=6)
    result = train_stage(fresh(), stage, Plain(), COLLATE, settings(tmp_path, watch=watch, board=True))
    looked = [record for record in metrics(tmp_path) if "held_out" in record]
    assert [record["step"] for record in looked] == [2, 4, 6]
    lowest = min(looked, key=lambda record: record["held_out"])
    state = json.loads((tmp_path / "best" / "state.json").read_text())
    assert state["step"] == lowest["step"] and result.progress.best == lowest["held_out"]
    assert list((tmp_path / "board").glob("events.*"))


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """kill -9 at a random step, then the same command again."""
    program = "import sys; from pathlib import Path; from tests.train.test_loop import slow_run; slow_run(Path(sys.argv[1]))"
    run = [sys.executable, "-c", program, str(tmp_path / "killed")]
    child = subprocess.Popen(run)
    until = time.monotonic() + 120
    while not checkpoints(tmp_path / "killed") and time.monotonic() < until:
        time.sleep(0.05)
    child.kill()
    child.wait()
    assert 0 < json.loads((checkpoints(tmp_path / "killed")[0] / "state.json").read_text())["step"] < 12
    killed, whole = slow_run(tmp_path / "killed", pause=0.0), slow_run(tmp_path / "whole", pause=0.0)
    for (name, one), other in zip(whole.named_parameters(), killed.parameters(), strict=True):
        assert torch.equal(one, other), name


def slow_run(folder: Path, pause: float = 0.2) -> Model:
    """Twelve steps with a checkpoint after each."""

    class Slow(Plain):
        def __getitem__(self, index: int) -> Sample:
            time.sleep(pause / 8)
            return super().__getitem__(index)

    model = fresh()
    train_stage(model, STAGE.but(steps=12), Slow(), COLLATE, settings(folder, checkpoint=0.0, ahead=1))
    return model


def test_a_resumed_run_draws_the_same_random_numbers(tmp_path: Path) -> None:
    rules = (Trains("languages.main.blocks.*", lr=3e-3, adapter=Lora(rank=4, dropout=0.3)),)
    stage = STAGE.but(rules=rules, schedule="constant")
    at_once, parted, again = fresh(), fresh(), fresh()
    train_stage(at_once, stage, Plain(), COLLATE, settings(tmp_path / "at once"))
    assert draws(at_once) and not draws(parted)
    train_stage(parted, stage.but(steps=3), Plain(), COLLATE, settings(tmp_path / "parted"))
    torch.manual_seed(99)  # the process's own state says nothing
    train_stage(again, stage, Plain(), COLLATE, settings(tmp_path / "parted"))
    for (name, one), other in zip(at_once.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other), name
