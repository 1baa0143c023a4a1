"""Teaches a `NamedThings` connector what each cell is the centre of, from pictures that are known to show it. No language
layer runs, so many more pictures are seen in the same time.

V views, N cells, W written words, L letters, J columns of a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from beholder.cards.schema import Card
from beholder.data.cutouts import Concept
from beholder.data.phrases import READING
from beholder.data.samples import Sample, turns_of
from beholder.data.truth import SEVERAL, Thing, Truth, truth_of
from beholder.media.geometry import Fixed
from beholder.media.plan import Grid, PicturePlan
from beholder.model import Batch, Model
from beholder.parts.connectors.named_things import NamedThings, NamedThingsConnector, Seen
from beholder.parts.connectors.spelling import ALPHABET, COLUMNS
from beholder.parts.contracts import BranchOutput, Packed
from beholder.prompts.chat import Prompt
from beholder.prompts.tokenizer import Tokenizer
from beholder.train.collate import Collator, Messages, TrainBatch
from beholder.train.objectives import Answered, Reading, next_token
from beholder.weights.files import open_weights

NONE = -100  # a target that does not count
BESIDE = 0.25  # weight of a thing's cells that are not its centre
NEAR = 0.85  # cells whose middle is nearer to a thing's are neither its centre nor not
PLACES = ("left", "center", "right", "top", "center", "bottom")
SHARPNESS = 20.0  # score of a cell that is exactly a name
SURE = 16.0  # score of an answer that is known
BOX_NOISE = 0.012  # of edges, as shares of the picture's sides
TEXT_EVERY = 3  # batches, of which one brings a row of plain text
JITTER = 0.03  # of boxes in which letters are looked for, as shares of their sides


@dataclass(frozen=True)
class Vocabulary:
    """All names (the last is that of written words), kinds and colours (the last: several), in the order of the connector."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    colours: tuple[str, ...]

    def numbers(self, thing: Thing) -> tuple[int, int, int]:
        """Of its name, kind and colour; NONE for what is not known or has no word."""
        pairs = ((self.names, thing.name), (self.kinds, thing.kind), (self.colours, thing.colour))
        return tuple(known.index(word) if word in known else NONE for known, word in pairs)  # type: ignore[return-value]


@dataclass(frozen=True)
class Targets:
    """Per cell: the number of a name, a kind and a colour, a box, how much they count, whether the cell is a centre and how
    much that counts; per view its background; per written word its view, box, letters and which columns these are in.
    """

    names_VN: Tensor
    kinds_VN: Tensor
    colours_VN: Tensor
    boxes_VN4: Tensor
    weights_VN: Tensor
    centres_VN: Tensor
    counts_VN: Tensor
    grounds_V: Tensor
    written_W: Tensor
    boxes_W4: Tensor
    letters_WL: Tensor
    columns_WL: Tensor


@dataclass(frozen=True)
class ShownBatch:
    """A training batch and what its pictures show."""

    item: TrainBatch
    targets: Targets


class ShownCollator:
    """`Collator` with the truth about each picture; samples are composed scenes and easy-VQA's."""

    def __init__(
        self,
        collate: Callable[[Sequence[Sample]], TrainBatch],
        card: Card,
        vocabulary: Vocabulary,
        concepts: Mapping[str, Concept],
    ) -> None:
        (branch,) = card.branches
        assert isinstance(branch.connector, NamedThings) and isinstance(branch.geometry, Fixed)
        self.collate, self.vocabulary, self.concepts = collate, vocabulary, concepts
        self.grid = branch.encoders[0].grid(branch.geometry.size)
        self.letters = branch.connector.letters

    def __call__(self, samples: Sequence[Sample]) -> ShownBatch:
        truths = [truth_of(sample, self.concepts) for sample in samples]
        return ShownBatch(self.collate(samples), targets(truths, self.vocabulary, self.grid, self.letters))


def targets(truths: Sequence[Truth], vocabulary: Vocabulary, grid: Grid, letters: int) -> Targets:
    """Of cells in a box, that with the thing's middle is its centre; smaller things lie on larger ones."""
    height, width = grid.height, grid.width
    shape = (len(truths), height, width)
    numbers = torch.full((3, *shape), NONE)
    boxes, weights, centres = torch.zeros(*shape, 4), torch.zeros(shape), torch.zeros(shape)
    counts = torch.ones(shape)
    grounds = torch.full((len(truths),), NONE)
    rows = (torch.arange(height) + 0.5)[:, None]
    columns = (torch.arange(width) + 0.5)[None]
    words: list[tuple[int, tuple[float, ...], list[int], list[int]]] = []
    for v, truth in enumerate(truths):
        if truth.ground in vocabulary.colours:
            grounds[v] = vocabulary.colours.index(str(truth.ground))
        middles = []
        for thing in sorted(truth.things, key=area, reverse=True):
            left, top, right, bottom = thing.box
            x, y = (left + right) / 2 * width, (top + bottom) / 2 * height
            inside = (columns > left * width) & (columns < right * width)
            inside = inside & (rows > top * height) & (rows < bottom * height)
            middle = (min(int(y), height - 1), min(int(x), width - 1))
            middles.append(middle)
            counts[v][((columns - x).abs() < NEAR) & ((rows - y).abs() < NEAR)] = 0.0
            inside[middle] = True
            numbers[:, v, inside] = torch.tensor(vocabulary.numbers(thing))[:, None]
            boxes[v, inside] = torch.tensor(thing.box)
            weights[v, inside] = BESIDE
        for middle in middles:
            centres[v][middle] = weights[v][middle] = counts[v][middle] = 1.0
        if truth.word:
            box = next(thing.box for thing in truth.things if thing.name == vocabulary.names[-1])
            spelt = [ALPHABET.index(letter) for letter in truth.word]
            none = letters - len(spelt)
            spots = [min(COLUMNS - 1, int(centre * COLUMNS)) for centre in truth.centres]
            words.append((v, box, spelt + [len(ALPHABET)] * none, spots + [NONE] * none))
    views, spans, spelt_all, spots_all = zip(*words, strict=True) if words else ((), (), (), ())
    names_VN, kinds_VN, colours_VN = numbers.flatten(2)
    return Targets(
        names_VN,
        kinds_VN,
        colours_VN,
        boxes.flatten(1, 2),
        weights.flatten(1),
        centres.flatten(1),
        counts.flatten(1),
        grounds,
        torch.tensor(views, dtype=torch.long),
        torch.tensor(spans).view(-1, 4),
        torch.tensor(spelt_all, dtype=torch.long).view(-1, letters),
        torch.tensor(spots_all, dtype=torch.long).view(-1, letters),
    )


def area(thing: Thing) -> float:
    """Of its box, as a share of the picture."""
    left, top, right, bottom = thing.box
    return (right - left) * (bottom - top)


def shown(model: Model, item: ShownBatch) -> Tensor:
    """The loss of all that the connector foretells. An objective."""
    (features,), connector = _encoded(model, item), connector_of(model)
    return torch.stack(list(losses(connector, connector.see(features), item.targets).values())).sum()


@torch.no_grad()
def fill(model: Model, tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    """Start the connector's vectors from the language model's own words, so that it reads them from the first step."""
    connector = connector_of(model)

    def rows(text: str) -> Tensor:
        return model.language.embed(torch.tensor(tokenizer.encode(text))).float()

    def both(word: str) -> Tensor:
        return (rows(word).mean(0) + rows(f" {word}").mean(0)) / 2

    nothing_D = rows(" none").mean(0)
    names = [rows(f" {name}") for name in vocabulary.names]
    rests = [vectors[1:].mean(0) if len(vectors) > 1 else nothing_D for vectors in names]
    connector.name_values.copy_(
        torch.stack((torch.stack([vectors[0] for vectors in names]), torch.stack(rests)))
    )
    apart_WD = torch.stack([rows(name).mean(0) for name in vocabulary.names])
    apart_WD = apart_WD - apart_WD.mean(0)
    connector.names.copy_(F.normalize(apart_WD, dim=1) * SHARPNESS / apart_WD.norm(dim=1).mean())
    connector.kind_values.copy_(torch.stack([both(kind) for kind in vocabulary.kinds]))
    colours = [both(colour) for colour in vocabulary.colours if colour != SEVERAL]
    connector.colour_values.copy_(torch.stack([*colours, torch.zeros_like(nothing_D)]))
    connector.digit_values.copy_(
        torch.stack([rows(str(digit))[0] for digit in range(len(connector.digit_values))])
    )
    connector.place_values.copy_(torch.stack([both(place) for place in PLACES]))
    connector.letter_values.copy_(torch.stack([*(rows(letter)[0] for letter in ALPHABET), nothing_D]))
    connector.nothing.copy_(nothing_D[None])


def connector_of(model: Model) -> NamedThingsConnector:
    """The connector of the model's one branch."""
    connector = model.branch("image").connector
    assert isinstance(connector, NamedThingsConnector)
    return connector


def losses(connector: NamedThingsConnector, seen: Seen, wanted: Targets) -> dict[str, Tensor]:
    """By what they are of."""
    weights_VN, centres_VN = wanted.weights_VN, wanted.centres_VN
    things = centres_VN.sum().clamp(min=1)
    found_VN = F.binary_cross_entropy_with_logits(seen.centres_VN, centres_VN, reduction="none")
    in_box = weights_VN > 0
    near_M, weight_M = wanted.boxes_VN4[in_box], weights_VN[in_box]
    said = {
        "centres": 2 * (found_VN * wanted.counts_VN).sum() / things,
        "boxes": (box_loss(seen.boxes_VN4[in_box], near_M) * weight_M).sum() / weight_M.sum().clamp(min=1),
    }
    answers = (
        ("names", seen.names_VNW, wanted.names_VN, 1.0),
        ("kinds", seen.kinds_VNK, wanted.kinds_VN, 0.3),
        ("colours", seen.colours_VNC, wanted.colours_VN, 0.7),
    )
    for task, scores_VNX, targets_VN, share in answers:
        known = in_box & (targets_VN != NONE)
        each_M = F.cross_entropy(scores_VNX[known], targets_VN[known], reduction="none")
        said[task] = share * (each_M * weights_VN[known]).sum() / weights_VN[known].sum().clamp(min=1)
    if bool((wanted.grounds_V != NONE).any()):
        said["ground"] = 0.5 * F.cross_entropy(seen.ground_VC, wanted.grounds_V, ignore_index=NONE)
    if len(wanted.written_W):
        said["letters"] = letter_loss(connector, seen, wanted)
    return said


def letter_loss(connector: NamedThingsConnector, seen: Seen, wanted: Targets) -> Tensor:
    """Letters are looked for in boxes a little off the true ones, drawn from the words themselves."""
    boxes_W4, letters_WL = wanted.boxes_W4, wanted.letters_WL
    generator = torch.Generator().manual_seed(int(letters_WL.sum()) + 31 * len(letters_WL))
    sides_W4 = (boxes_W4[:, 2:] - boxes_W4[:, :2]).repeat(1, 2)
    boxes_W4 = boxes_W4 + JITTER * sides_W4 * torch.randn(boxes_W4.shape, generator=generator)
    letters_WLC, columns_WLJ = connector.spelling(seen.fine_VChw[wanted.written_W], boxes_W4)
    spelt = F.cross_entropy(letters_WLC.flatten(0, 1), letters_WL.flatten())
    found = F.cross_entropy(
        columns_WLJ.flatten(0, 1), wanted.columns_WL.flatten(), ignore_index=NONE, label_smoothing=0.1
    )
    return spelt + 0.3 * found


def box_loss(given_M4: Tensor, wanted_M4: Tensor) -> Tensor:
    """1 - GIoU (1902.09630) and a share of how far each edge is off, (M,)."""
    low_M2, high_M2 = (
        torch.maximum(given_M4[:, :2], wanted_M4[:, :2]),
        torch.minimum(given_M4[:, 2:], wanted_M4[:, 2:]),
    )
    shared_M = (high_M2 - low_M2).clamp(min=0).prod(-1)
    both_M = _area(given_M4) + _area(wanted_M4) - shared_M
    around_M2 = torch.maximum(given_M4[:, 2:], wanted_M4[:, 2:]) - torch.minimum(
        given_M4[:, :2], wanted_M4[:, :2]
    )
    around_M = around_M2.prod(-1).clamp(min=1e-6)
    giou_M = shared_M / both_M.clamp(min=1e-6) - (around_M - both_M) / around_M
    return 1 - giou_M + 4 * (given_M4 - wanted_M4).abs().mean(-1)


def _area(boxes_M4: Tensor) -> Tensor:
    return (boxes_M4[:, 2:] - boxes_M4[:, :2]).clamp(min=0).prod(-1)


def _encoded(model: Model, item: ShownBatch) -> tuple[Packed, ...]:
    return model.branch("image").encode(item.item.batch.views["image"])


def next_token_of_truth(model: Model, item: ShownBatch) -> Tensor:
    """`next_token` where the connector says what is true, with some doubt."""
    connector, batch = connector_of(model), item.item.batch
    assert batch.ids_BT is not None
    seen, cells_VK, sure_VK, letters_VLC = known(connector, item.targets, int(batch.ids_BT.sum()))
    tokens_VTD = connector.say(seen, cells_VK, sure_VK, letters_VLC).to(torch.bfloat16)
    plans = tuple(tuple(row) for row in batch.plans)
    packed = Packed(tokens_VTD.flatten(0, 1), (Grid(1, 1, tokens_VTD.shape[1]),) * len(tokens_VTD))
    branches = {"image": BranchOutput(packed, plans, ())}
    return Answered()(Reading(model, item.item, branches, model.read(batch, branches)))


def known(connector: NamedThingsConnector, wanted: Targets, seed: int) -> tuple[Seen, Tensor, Tensor, Tensor]:
    """What a connector would see that is rarely wrong: what is foretold, cells, how sure they are, and letters."""
    config, generator = connector.config, torch.Generator().manual_seed(seed)
    views, cells = wanted.names_VN.shape

    def scores(numbers: Tensor, count: int) -> Tensor:
        """Scores of a right answer mostly far above the others', sometimes beside a wrong one."""
        noise = torch.randn(*numbers.shape, count, generator=generator)
        sure = SURE * torch.rand(*numbers.shape, 1, generator=generator).clamp(min=0.4)
        return noise + sure * F.one_hot(numbers.clamp(min=0), count) * (numbers >= 0)[..., None]

    seen = Seen(
        torch.zeros(views, cells, connector.names.shape[1]),
        scores(wanted.names_VN, config.words),
        scores(wanted.kinds_VN, config.kinds),
        scores(wanted.colours_VN, config.colours + 1),
        wanted.centres_VN,
        wanted.boxes_VN4 + BOX_NOISE * torch.randn(wanted.boxes_VN4.shape, generator=generator),
        scores(wanted.grounds_V, config.colours),
        torch.zeros(views, 1, 1, 1),
    )
    order_VN = wanted.centres_VN * (1 + torch.rand(views, cells, generator=generator))
    order_VN, cells_VN = order_VN.sort(1, descending=True)
    sure_VK = (order_VN[:, : config.things] > 0).float()
    sure_VK = sure_VK * (1 - 0.2 * torch.rand(sure_VK.shape, generator=generator).pow(2))
    letters_VL = torch.full((views, config.letters), len(ALPHABET))
    letters_VL[wanted.written_W] = wanted.letters_WL
    return seen, cells_VN[:, : config.things], sure_VK, scores(letters_VL, len(ALPHABET) + 1)


class Told:
    """`next_token` of the questions, and behind one batch in three how far the model's next words in a row of plain text are
    from those of the language model that it was made of (distillation, 1503.02531). An objective. true: share of batches whose
    pictures are told of as they are, not as they are seen, so that the language model can learn to read before there is
    anything to see. file: ids (R, T), and of every place but the last the likeliest next tokens and their log-probabilities
    (R, T - 1, X).
    """

    def __init__(self, file: Path | None, share: float = 1.0, *, true: float = 0.0) -> None:
        texts = {} if file is None else {name: each.load() for name, each in open_weights(file).items()}
        self.texts, self.share, self.true = texts, share, true

    def __call__(self, model: Model, item: ShownBatch) -> Tensor:
        ids_BT = item.item.batch.ids_BT
        assert ids_BT is not None
        number = int(ids_BT.sum())
        told_truth = number % 100 < 100 * self.true
        loss = next_token_of_truth(model, item) if told_truth else next_token(model, item.item)
        if not self.texts or number % TEXT_EVERY:
            return loss
        return loss + self.share * self.drift(model, number // TEXT_EVERY % len(self.texts["ids"]))

    def drift(self, model: Model, number: int) -> Tensor:
        """Mean KL divergence over a row's places."""
        ids_1T = self.texts["ids"][number : number + 1].long()
        likely_TX, logs_TX = self.texts["likely"][number].long(), self.texts["logs"][number].float()
        hidden_TD = model.read(Batch(ids_BT=ids_1T), {}).hidden_BTD[0, :-1]
        given_TX = model.language.logits(hidden_TD).float().log_softmax(-1).gather(1, likely_TX)
        within_T = (logs_TX.exp() * (logs_TX - given_TX)).sum(1)
        rest_T, rest_given_T = (1 - logs.exp().sum(1).clamp(max=0.999) for logs in (logs_TX, given_TX))
        return (within_T + rest_T * (rest_T / rest_given_T).log()).mean()


class LetterCollator(Collator):
    """Words that are read are answered letter by letter, so that words never seen can be."""

    def _render(
        self, key: str, text: Messages, plans: Sequence[PicturePlan], sounds: Sequence[PicturePlan] = ()
    ) -> Prompt:
        prompt, (turn, *_) = super()._render(key, text, plans, sounds), turns_of(text)
        if turn.question not in READING:
            return prompt
        first, count = prompt.answer.index(True), len(self.tokenizer.encode(turn.answer))
        letters = [number for letter in turn.answer for number in self.tokenizer.encode(letter)]
        ids = (*prompt.ids[:first], *letters, *prompt.ids[first + count :])
        answer = (*prompt.answer[:first], *[True] * len(letters), *prompt.answer[first + count :])
        return replace(prompt, ids=ids, answer=answer)
