"""Losses from what something else knows: the language model's own words, a vision teacher, a larger or an earlier model.

V views, N feature tokens of a view, D width, W words, A answer tokens, T words of the vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.model import Model
from beholder.parts.adapters.apply import adapters as adapters_of
from beholder.parts.blocks.masks import Visibility
from beholder.parts.contracts import BranchOutput
from beholder.parts.heads.alignment import TeacherAlignmentHead
from beholder.prompts.tokenizer import Tokenizer
from beholder.train.collate import TrainBatch
from beholder.train.cross_entropy import answer_losses
from beholder.train.objectives.reading import Reading, Sum, head_of, read, words_of
from beholder.train.objectives.text import Answered, answered_places, first_answers


def alignment(reading: Reading) -> Tensor:
    """How far the states at pictures are from what a teacher sees there (EVE, 2406.11832, section 3.3), for a card with the
    head `TeacherAlignment`. Raises `BeholderError` for another.
    """
    head_of(reading.model, TeacherAlignmentHead, "TeacherAlignment")
    given: Tensor = reading.given("alignment")
    return given


def aligned(model: Model, item: TrainBatch) -> Tensor:
    """`next_token` and `alignment`, alike."""
    return Sum((Answered(), alignment))(model, item)


@torch.no_grad()
def _vectors(model: Model, tokenizer: Tokenizer, answers: Sequence[str]) -> Tensor:
    """The language model's own vector of each answer, the mean of its tokens', (W, D) in float32."""
    rows = [
        model.language.embed(torch.tensor(tokenizer.encode(answer))).float().mean(0) for answer in answers
    ]
    return torch.stack(rows)


class Words:
    """A picture's tokens should lie, in the language model's space of words, near the words that answer its questions.

    Each token scores each word by its product with the word's direction; a picture says a word as well as the token
    that says it best (a soft maximum), so tokens learn to name what is where they are. No language layer runs, which
    makes this an order of magnitude cheaper than `next_token`.

    words: task -> all answers it has. Turns of other tasks do not count.
    """

    SHARPNESS = 20.0  # score of a token that is exactly a word

    def __init__(self, model: Model, tokenizer: Tokenizer, words: Mapping[str, Sequence[str]]) -> None:
        self.index = {task: {word: i for i, word in enumerate(answers)} for task, answers in words.items()}
        self.vectors_WD = {task: _vectors(model, tokenizer, answers) for task, answers in words.items()}
        self.directions_DW = {task: self._directions(vectors) for task, vectors in self.vectors_WD.items()}

    @classmethod
    def _directions(cls, words_WD: Tensor) -> Tensor:
        """One column per word: what sets it apart from the others."""
        apart_WD = words_WD - words_WD.mean(0)
        return (F.normalize(apart_WD, dim=1) * cls.SHARPNESS / apart_WD.norm(dim=1).mean()).T.contiguous()

    def table(self) -> tuple[Tensor, Tensor]:
        """Directions and vectors of all words, both (W, D): what a `VisualWords` connector can start from."""
        keys_WD = torch.cat([directions_DW.T for directions_DW in self.directions_DW.values()])
        return keys_WD, torch.cat(list(self.vectors_WD.values()))

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        losses = self.losses(item, model.encode(item.batch))
        if not losses:
            raise BeholderError(f"no sample of the batch has a turn of {', '.join(self.index)}")
        return torch.stack(losses).sum()

    def losses(self, item: TrainBatch, branches: Mapping[str, BranchOutput]) -> list[Tensor]:
        """The mean loss of each task that the batch has turns of, from the branch's features."""
        (features,) = branches.values()
        tokens_VND = torch.stack(features.packed.split()).float()
        losses = []
        for task, index in self.index.items():
            asked = [
                (view, index[turn.answer])
                for view, turns in enumerate(item.turns)
                for turn in turns
                if turn.task == task and turn.answer in index
            ]
            if asked:
                views, targets = (torch.tensor(numbers) for numbers in zip(*asked, strict=True))
                scores_VNW = tokens_VND[views] @ self.directions_DW[task]
                losses.append(F.cross_entropy(scores_VNW.logsumexp(1), targets))
        return losses


@dataclass(frozen=True, eq=False)
class Grounded:
    """`next_token` with `share` of `words` on the same features: without it, the pictures' tokens drift away from the words
    they had learned to name before the language model has learned to read them.
    """

    words: Words
    share: float = 0.1

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        return Sum((Answered(), self._said))(model, item)

    def _said(self, reading: Reading) -> Tensor:
        said = reading.language.hidden_BTD.new_zeros((), dtype=torch.float32)
        for each in self.words.losses(reading.item, reading.branches):
            said = said + self.share * each
        return said


def frozen_copy(model: Model, *, adapters: bool = True) -> Model:
    """The model as it is, for what compares it with itself later. It shares all that does not train and has its own copy of the
    rest, which does not train either. adapters: False leaves those of linear maps out of what the copy computes. Raises
    `BeholderError` where others would have to be left out.
    """
    shared: dict[int, object] = {id(p): p for p in model.parameters() if not p.requires_grad}
    copied = copy.deepcopy(model, shared)
    for parameter in copied.parameters():
        if id(parameter) not in shared:
            parameter.requires_grad_(False)
    if not adapters:
        if len(copied.adapters):
            raise BeholderError(
                "prefixes and prompts stand in the layers and cannot be left out; give the model without them as teacher"
            )
        for layer in adapters_of(copied).values():
            layer.__dict__.update(adapt=_as_it_is, forward=layer.product)
    return copied.eval()


def _as_it_is(_x: Tensor, y: Tensor) -> Tensor:
    """In place of what an adapter makes of a map's output."""
    return y


def own_parameters(copied: Model, model: Model) -> dict[str, nn.Parameter]:
    """What of a `frozen_copy` is not shared with the model, by name."""
    values = dict(model.named_parameters())
    return {name: own for name, own in copied.named_parameters() if own is not values[name]}


class Reference:
    """A model that an objective compares the one in training with: `teacher`, or where it is None the model itself as it was
    before the first step, which checkpoints keep. adapters: False leaves its low-rank adapters off.
    """

    def __init__(self, teacher: Model | None = None, *, adapters: bool = True) -> None:
        self.teacher, self.own, self.adapters = teacher, teacher is None, adapters
        self.kept: dict[str, nn.Parameter] = {}

    def prepare(self, model: Model) -> None:
        """Once, before the first step. Raises `BeholderError` for a teacher with another vocabulary."""
        if self.own:
            self.teacher = frozen_copy(model, adapters=self.adapters)
            self.kept = own_parameters(self.teacher, model)
        assert self.teacher is not None
        sizes = [each.card.main.vocab_size if each.card.main else 0 for each in (self.teacher, model)]
        if sizes[0] != sizes[1]:
            raise BeholderError(
                f"{self.teacher.card.name} has {sizes[0]} words and {model.card.name} {sizes[1]}; "
                "a teacher needs the same tokenizer"
            )

    def read(self, model: Model, item: TrainBatch) -> Reading:
        """What the reference makes of a batch. Raises `BeholderError` before `prepare`."""
        if self.teacher is None:
            raise BeholderError(
                "there is nothing to compare with yet; call prepare(model) before the first step"
            )
        return read(self.teacher, item)

    def state_dict(self) -> dict[str, Tensor]:
        """What of the reference is a copy of the model's."""
        return {name: value.detach() for name, value in self.kept.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Behind `prepare`."""
        for name, value in self.kept.items():
            value.copy_(state[name])


class Distilled(Reference):
    """KL divergence from a teacher's words to the model's at the answers' tokens, both softened by `temperature`, whose square
    it is multiplied by, and `share` of `next_token` beside it (Hinton, 1503.02531, section 2). Without a teacher the model is
    held to what it was, or with adapters=False to what it is without adapters.
    """

    def __init__(
        self,
        teacher: Model | None = None,
        *,
        temperature: float = 1.0,
        share: float = 0.0,
        adapters: bool = True,
    ) -> None:
        if temperature <= 0:
            raise BeholderError(f"temperature {temperature:g} of a teacher; it must be above 0")
        super().__init__(teacher, adapters=adapters)
        self.temperature, self.share = temperature, share

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        with torch.no_grad():
            wanted_AT = self._scores(self.read(model, item))
        shares = (1.0, self.share) if self.share else (1.0,)
        return Sum((lambda reading: self._apart(wanted_AT, reading), Answered())[: len(shares)], shares)(
            model, item
        )

    def _apart(self, wanted_AT: Tensor, reading: Reading) -> Tensor:
        divergence_A = F.kl_div(self._scores(reading), wanted_AT, reduction="none", log_target=True).sum(-1)
        weights_A = reading.item.answers.weights_A.to(divergence_A.device)
        return self.temperature**2 * (divergence_A * weights_A).sum() / weights_A.sum()

    def _scores(self, reading: Reading) -> Tensor:
        """Logarithms of the chances of words at the answers' tokens."""
        hidden_AD, _, _ = answered_places(reading)
        return (reading.model.language.logits(hidden_AD).float() / self.temperature).log_softmax(-1)


class Preferred(Reference):
    """Direct preference optimisation (2305.18290, equation 7): of the two turns of each sample, whose answers stand behind one
    picture and one question, the first is better. The chances of all tokens of an answer are multiplied; `beta` holds the model
    to the reference, which is itself before the first step.
    """

    def __init__(self, beta: float = 0.1, teacher: Model | None = None) -> None:
        super().__init__(teacher)
        self.beta = beta

    def __call__(self, model: Model, item: TrainBatch) -> Tensor:
        with torch.no_grad():
            before_B2 = _chances(self.read(model, item))
        gains_B2 = _chances(read(model, item)) - before_B2
        better_B, worse_B = gains_B2.unbind(1)
        return -F.logsigmoid(self.beta * (better_B - worse_B)).mean()


def _chances(reading: Reading) -> Tensor:
    """Logarithms of the chances of the answers, in pairs, (B, 2). Raises `BeholderError` where a question has not two."""
    item, (ids_BT, lengths) = reading.item, words_of(reading.item.batch)
    seen = item.batch.visibility or Visibility.causal_rows(lengths, ids_BT.shape[1], device=ids_BT.device)
    keys = list(first_answers(item, seen))
    asked = [turn.question for turns in item.turns for turn in turns]
    if len(asked) != len(keys) or len(keys) % 2 or asked[::2] != asked[1::2]:
        raise BeholderError(
            "a preference needs two answers to each question; give samples of two turns, the better first"
        )
    hidden_AD, targets_A, _ = answered_places(reading)
    losses_A = answer_losses(hidden_AD, reading.model.language.logits, targets_A)
    segments_A = seen.segments_BT[item.answers.rows_A, item.answers.places_A + 1]
    numbers = {key: number for number, key in enumerate(keys)}
    own_A = [numbers[key] for key in zip(item.answers.rows_A.tolist(), segments_A.tolist(), strict=True)]
    sums = losses_A.new_zeros(len(keys)).index_add(0, torch.tensor(own_A, device=losses_A.device), losses_A)
    return -sums.view(-1, 2)
