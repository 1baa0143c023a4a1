"""Answers in which a system stops to look: where its words ask for a box, a head proposes some, and the features of the
likeliest are put behind before it goes on (communicative decoding, CoVLM, 2311.03354).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from beholder.errors import BeholderError
from beholder.generate.results import Piece, Result, Timings
from beholder.generate.rows import TextStream, check_context
from beholder.generate.sampling import Sampling
from beholder.media.plan import Box
from beholder.media.regions import Region
from beholder.model import Batch, Model
from beholder.parts.heads.proposals import ProposalsHead
from beholder.parts.language.state import State
from beholder.segments import row_of


@dataclass(frozen=True)
class Proposal:
    """box: in pixels of the original. score: 0 to 1. place: of the token that asked, among the answer's. others: further boxes,
    the likeliest first. label: ids of what was last spoken of before.
    """

    box: Box
    score: float
    place: int
    others: tuple[Box, ...] = ()
    label: tuple[int, ...] = ()


@dataclass(frozen=True)
class Spoken:
    """A box (pixels of the original) that an answer asked for, how sure it is (0 to 1), and what was spoken of before it."""

    label: str
    box: Box
    score: float


def asks(model: Model) -> ProposalsHead | None:
    """The head that proposes boxes while a system writes; None where there is none."""
    return next((head for head in model.heads if isinstance(head, ProposalsHead)), None)


@torch.inference_mode()
def compose(
    model: Model, batch: Batch, ends: Sequence[int], max_tokens: int
) -> tuple[list[int], list[Proposal]]:
    """The likeliest answer to a batch of one row, and the boxes that it asked for. It ends with one of `ends` (left out) or
    after `max_tokens`, tokens that stand for boxes counted.
    """
    head = asks(model)
    assert head is not None and batch.ids_BT is not None and len(batch.ids_BT) == 1
    features = dict(head.config.pauses)
    answer: list[int] = []
    proposals: list[Proposal] = []
    state, step = State(1), batch
    while len(answer) < max_tokens:
        token_id = int(model(step, state).heads["text"][0, -1].argmax())
        if token_id in ends:
            break
        answer.append(token_id)
        step = Batch(batch.ids_BT.new_tensor([[token_id]]))
        if token_id in features and len(answer) < max_tokens:
            proposals.append(propose(model, head, _with(batch, answer, proposals), answer))
            answer.append(features[token_id])
            state, step = State(1), _with(batch, answer, proposals)
    return answer, proposals


def propose(model: Model, head: ProposalsHead, batch: Batch, answer: Sequence[int]) -> Proposal:
    """What the batch's last token, which is the answer's, asks for."""
    found = model(batch).heads[head.config.output]
    boxes_N4, scores_N = head.kept(found.boxes[-1], found.logits[-1])
    plans = [plan for plan in batch.plans[0] if plan.branch == head.config.branch]
    view = plans[int(found.owners[-1, 2])].views[0]
    limits = (*view.original[::-1], *view.original[::-1])
    boxes = []
    for left, top, right, bottom in boxes_N4.tolist():
        edges = (*view.to_original(left, top), *view.to_original(right, bottom))
        boxes.append(
            Box(*(min(max(edge, 0.0), float(most)) for edge, most in zip(edges, limits, strict=True)))
        )
    label = last_phrase(answer, head.config.phrase)
    return Proposal(boxes[0], float(scores_N[0]), len(answer) - 1, tuple(boxes[1:]), label)


def last_phrase(answer: Sequence[int], marks: tuple[int, int]) -> tuple[int, ...]:
    """The ids between the last pair of marks; () where there is none."""
    ends = [place for place, token_id in enumerate(answer) if token_id == marks[1]]
    for end in reversed(ends):
        starts = [place for place in range(end) if answer[place] == marks[0]]
        if starts:
            return tuple(answer[starts[-1] + 1 : end])
    return ()


def _with(batch: Batch, answer: Sequence[int], proposals: Sequence[Proposal]) -> Batch:
    """The prompt with the answer so far behind it, and the regions that it has asked for behind the prompt's."""
    assert batch.ids_BT is not None
    ids_BT = torch.cat((batch.ids_BT, batch.ids_BT.new_tensor([list(answer)])), 1)
    given = batch.regions[0] if batch.regions else ()
    regions = (*given, *(Region(box=proposal.box) for proposal in proposals))
    return replace(batch, ids_BT=ids_BT, lengths=None, regions=(regions,))


def write(
    model: Model,
    batch: Batch,
    samplings: Sequence[Sampling],
    *,
    eos_ids: Sequence[int],
    decode: Callable[[], TextStream],
) -> Iterator[Piece]:
    """`generate` for systems that stop to look: a piece for each row. Raises `BeholderError` where words are to be drawn."""
    usages = check_context(model, batch)
    for row, (sampling, usage) in enumerate(zip(samplings, usages, strict=True)):
        if sampling.temperature:
            raise BeholderError(
                f"{model.card.name} writes the likeliest words alone; leave out the temperature"
            )
        begun = time.perf_counter()
        most = min(sampling.max_tokens, model.card.room(usage.prompt))
        answer, _ = compose(model, row_of(batch, row, ()), eos_ids, most)
        stream = decode()
        text = "".join([*map(stream.add, answer), stream.finish()])
        finish = "end" if len(answer) < most else "length"
        usage = replace(usage, new=len(answer) + (finish == "end"))
        timings = Timings(answer=time.perf_counter() - begun)
        yield Piece(row, text, Result(text, tuple(answer), finish, usage, timings))


def boxes_of(
    model: Model, batch: Batch, row: int, ids: Sequence[int], decode: Callable[[Sequence[int]], str]
) -> tuple[Spoken, ...]:
    """The boxes that an answer of `write` to a row of the batch asked for."""
    head = asks(model)
    if head is None:
        return ()
    own, features, proposals = row_of(batch, row, ()), dict(head.config.pauses), list[Proposal]()
    with torch.inference_mode():
        for place, token_id in enumerate(ids):
            if features.get(token_id) in ids[place + 1 : place + 2]:
                answer = ids[: place + 1]
                proposals.append(propose(model, head, _with(own, answer, proposals), answer))
    return tuple(Spoken(decode(list(p.label)).strip(), p.box, p.score) for p in proposals)
