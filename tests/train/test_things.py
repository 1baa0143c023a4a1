"""Targets for cells, and losses that are nothing where all is foretold rightly."""

from __future__ import annotations

from pathlib import Path

import torch

from beholder.cards import card
from beholder.data.truth import Thing, Truth
from beholder.media.plan import Grid
from beholder.model import Batch, build
from beholder.parts.connectors.named_things import NamedThings, Seen
from beholder.parts.connectors.projections import Mlp
from beholder.train.things import NONE, Targets, Told, Vocabulary, box_loss, known, losses, targets
from beholder.weights.files import write_safetensors

VOCABULARY = Vocabulary(("cat", "dog", "text"), ("animal",), ("red", "blue", "several"))
GRID = Grid(1, 7, 7)
CAT = Thing("cat", (0.0, 0.0, 0.3, 0.3), "animal", "several")
DOG = Thing("dog", (0.5, 0.5, 0.95, 0.95), "animal", "red")
WORD = Thing("text", (0.1, 0.6, 0.4, 0.7), None, "blue")


def wanted(*truths: Truth) -> Targets:
    return targets(truths, VOCABULARY, GRID, letters=4)


def test_the_cell_with_a_things_middle_is_its_centre() -> None:
    given = wanted(Truth((CAT, DOG), "blue"), Truth(()))
    assert given.centres_VN[0].nonzero()[:, 0].tolist() == [1 * 7 + 1, 5 * 7 + 5]
    assert given.names_VN[0, 8] == 0 and given.names_VN[0, 40] == 1 and given.colours_VN[0, 8] == 2
    assert given.weights_VN[0, 8] == 1 > given.weights_VN[0, 0] > 0 == given.weights_VN[0, 3]
    assert given.grounds_V.tolist() == [1, NONE] and not given.centres_VN[1].any()
    torch.testing.assert_close(given.boxes_VN4[0, 40], torch.tensor(DOG.box))


def test_cells_beside_a_centre_count_neither_way() -> None:
    given = wanted(Truth((DOG,)))
    x = y = 0.725 * 7
    near = [
        row * 7 + column
        for row in range(7)
        for column in range(7)
        if abs(row + 0.5 - y) < 0.85 and abs(column + 0.5 - x) < 0.85
    ]
    silent = (given.counts_VN[0] == 0).nonzero()[:, 0].tolist()
    assert silent == [cell for cell in near if cell != 40]


def test_letters_and_their_columns() -> None:
    given = wanted(Truth((WORD,), "red", "abc", (0.1, 0.5, 0.9)))
    assert given.letters_WL.tolist() == [[0, 1, 2, 26]]
    assert given.columns_WL.tolist() == [[2, 12, 21, NONE]] and given.written_W.tolist() == [0]


def test_boxes_that_agree_cost_nothing_and_worse_ones_more() -> None:
    box_14 = torch.tensor([DOG.box])
    costs = [float(box_loss(box_14 + shift, box_14)) for shift in (0.0, 0.05, 0.2, 0.6)]
    assert abs(costs[0]) < 1e-6 and costs == sorted(costs)


def test_what_is_known_costs_little_and_what_is_wrong_much() -> None:
    connector = NamedThings(Mlp(depth=1), words=3, kinds=1, colours=2, things=3, letters=4, hidden=8).build(
        8, 6
    )
    given = wanted(Truth((CAT, DOG), "blue"))
    seen, cells_VK, sure_VK, _ = known(connector, given, seed=0)
    sure = Seen(**{**vars(seen), "centres_VN": 40 * given.centres_VN - 20, "boxes_VN4": given.boxes_VN4})
    wrong = Seen(**{**vars(sure), "names_VNW": -seen.names_VNW, "centres_VN": -sure.centres_VN})
    right, much = (losses(connector, each, given) for each in (sure, wrong))
    assert float(right["centres"]) < 1e-3 and float(right["boxes"]) < 1e-3 and float(right["names"]) < 0.1
    assert float(much["centres"]) > 10 and float(much["names"]) > 5
    assert set(cells_VK[0, :2].tolist()) == {8, 40}
    assert bool((sure_VK[0, :2] > 0.5).all()) and float(sure_VK[0, 2]) == 0


def test_batches_of_one_seed_are_known_alike() -> None:
    connector = NamedThings(Mlp(depth=1), words=3, kinds=1, colours=2, things=3, letters=4, hidden=8).build(
        8, 6
    )
    given = wanted(Truth((CAT, DOG), "blue"))
    first, again, other = (known(connector, given, seed)[0].names_VNW for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_text_is_kept_where_the_model_says_what_it_said(tmp_path: Path) -> None:
    """Nothing is lost by the model that wrote the file down, something by a changed one."""
    model = build(card("mini").tiny(), seed=0).eval()
    ids_RT = torch.randint(0, 500, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden_RTD = model.read(Batch(ids_BT=ids_RT), {}).hidden_BTD[:, :-1]
        logs, likely = model.language.logits(hidden_RTD).float().log_softmax(-1).topk(16, -1)
    file = tmp_path / "texts.safetensors"
    write_safetensors(file, {"ids": ids_RT.int(), "likely": likely.int(), "logs": logs}, {})
    told = Told(file)
    with torch.no_grad():
        same = float(told.drift(model, 1))
        for parameter in model.language.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        other = float(told.drift(model, 1))
    assert abs(same) < 1e-4 < 1e-2 < other
