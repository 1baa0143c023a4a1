"""Pairs of two processes are each other's negatives: the same losses and gradients as of one process with all pairs."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from beholder.errors import BeholderError
from beholder.train.collate import TrainBatch
from beholder.train.objectives import Contrast, MomentumPairs, Objective, Sigmoids, processes
from beholder.train.pairs import PairCollator
from tests.toys import DUAL, byte_tokenizer
from tests.train.learning import stirred, titled

TITLES = ("a cat", "two", "a cat", "red", "blue", "a cat")  # the same text in both halves
OBJECTIVES: dict[str, Objective] = {
    "local": Contrast(),
    "global": Contrast(local=False),
    "local, others still": Contrast(gradients=False),
    "global, others still": Contrast(local=False, gradients=False),
    "apart": Contrast(gather=False),
    "sigmoids": Sigmoids(),
    "sigmoids in pieces": Sigmoids(chunk=2),
    "sigmoids apart": Sigmoids(gather=False),
}


def half(rank: int | None) -> TrainBatch:
    """The pairs of one process, or all."""
    samples = titled(TITLES)
    return PairCollator(DUAL, byte_tokenizer())(samples if rank is None else samples[3 * rank : 3 * rank + 3])


def losses_and_gradients(item: TrainBatch) -> dict[str, tuple[Tensor, list[Tensor]]]:
    out = {}
    for name, objective in OBJECTIVES.items():
        model = stirred(DUAL, spread=0.2)
        loss = objective(model, item)
        given = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True, allow_unused=True)
        out[name] = loss.detach(), list(given)
    with torch.no_grad():
        out["no gradient"] = Contrast()(stirred(DUAL, spread=0.2), item), []
    model, momentum = stirred(DUAL), MomentumPairs(size=8)
    momentum.prepare(model)
    momentum(model, item)
    momentum.after_step(model)
    out["queues"] = momentum.state_dict()["queues"], []
    return out


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(losses_and_gradients(half(rank)), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, tuple[Tensor, list[Tensor]]]]:
    """What either process gives."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


def mean(found, name: str) -> tuple[Tensor, list[Tensor]]:
    """Of both processes, as the loop adds up their shares."""
    (one, first), (other, second) = (each[name] for each in found)
    return (one + other) / 2, [(a + b) / 2 for a, b in zip(first, second, strict=True)]


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[Tensor, list[Tensor]]]:
    return losses_and_gradients(half(None))


@pytest.mark.parametrize("name", ["local", "global", "sigmoids", "sigmoids in pieces"])
def test_two_processes_give_what_one_gives(found, alone, name: str) -> None:
    loss, gradients = mean(found, name)
    assert torch.allclose(loss, alone[name][0], atol=1e-5)
    for given, wanted in zip(gradients, alone[name][1], strict=True):
        assert torch.allclose(given, wanted, atol=1e-5)
    assert any(bool(wanted.abs().max() > 1e-3) for wanted in alone[name][1])


@pytest.mark.parametrize("name", ["local, others still", "global, others still"])
def test_still_vectors_of_others_give_the_loss_and_less_of_the_gradient(found, alone, name: str) -> None:
    loss, gradients = mean(found, name)
    assert torch.allclose(loss, alone["local"][0], atol=1e-5)
    differ = [not torch.allclose(a, b, atol=1e-5) for a, b in zip(gradients, alone["local"][1], strict=True)]
    assert any(differ)


def test_what_is_not_gathered_stays_apart(found) -> None:
    for name, objective in (("apart", Contrast()), ("sigmoids apart", Sigmoids())):
        for rank in range(2):
            want = objective(stirred(DUAL, spread=0.2), half(rank))
            assert torch.allclose(found[rank][name][0], want, atol=1e-5)


def test_held_out_pairs_wait_for_nobody(found) -> None:
    for rank in range(2):
        want = Contrast()(stirred(DUAL, spread=0.2), half(rank))
        assert torch.allclose(found[rank]["no gradient"][0], want, atol=1e-5)


def test_queues_of_all_processes_are_the_same(found) -> None:
    queues = [each["queues"][0] for each in found]
    assert torch.equal(*queues)
    both = [stirred(DUAL)(half(rank).batch).heads["similarity"].images_VD for rank in range(2)]
    assert torch.allclose(queues[0][0, :6], torch.cat(both), atol=1e-5)


def test_two_threads_of_a_process_may_not_meet_others_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would wait for each other's partners for ever."""
    inside, leave = threading.Event(), threading.Event()

    def slow(rows: list[Tensor], x: Tensor) -> None:
        for row in rows:
            row.copy_(x)
        inside.set()
        leave.wait(10)

    monkeypatch.setattr(processes, "world", lambda: (0, 2))
    monkeypatch.setattr(distributed, "all_gather", slow)
    first = threading.Thread(target=processes.gathered, args=(torch.ones(2, 3),))
    first.start()
    assert inside.wait(10)
    with pytest.raises(BeholderError, match="train with workers=1"):
        processes.gathered(torch.ones(2, 3))
    leave.set()
    first.join()
    assert processes.gathered(torch.ones(2, 3)).shape == (4, 3)
