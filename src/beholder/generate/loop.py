"""The generation loop: one pass over the prompts, then one token per row and step.

B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from beholder.errors import BeholderError
from beholder.generate.forms import Maker
from beholder.generate.jobs import Job
from beholder.generate.results import Piece, Result
from beholder.generate.rows import TextStream, check_context, make_rows
from beholder.generate.runtime import Runtime
from beholder.generate.sampling import Sampling
from beholder.generate.scheduler import Limits, Scheduler
from beholder.model import Batch, Model

WHOLE = Limits(rows=2**31, chunk=2**31, views=2**31)  # nobody else waits


def generate(
    model: Model,
    batch: Batch,
    samplings: Sequence[Sampling],
    *,
    eos_ids: Sequence[int],
    decode: Callable[[], TextStream],
    follow: Maker | None = None,
    runtime: Runtime = Runtime(),
) -> Iterator[Piece]:
    """Answers to the batch's prompts, piece by piece; each row's last piece holds its `Result`.

    samplings: one per row. eos_ids end an answer. decode: makes a row's ids-to-text stream, `Tokenizer.stream`. follow: makes
    what keeps answers in their form, `forms.maker`. Rows that are done leave the batch. Raises `BeholderError` before any
    computation where a prompt leaves no room for an answer in the model's context.
    """
    ids_BT = batch.ids_BT
    assert ids_BT is not None
    if len(samplings) != len(ids_BT):
        raise BeholderError(
            f"{len(samplings)} sampling settings for {len(ids_BT)} prompts; give one for each"
        )
    usages = check_context(model, batch)
    if any(sampling.beams > 1 for sampling in samplings):
        from beholder.generate.beams import search

        if len({(s.beams, s.length_penalty, s.max_tokens) for s in samplings}) > 1:
            raise BeholderError("prompts of one batch are searched with the same beams; answer them apart")
        return search(model, batch, samplings, usages, eos_ids=eos_ids, decode=decode)
    rows = make_rows(model, batch, samplings, usages, eos_ids=eos_ids, decode=decode, follow=follow)
    return _run(Scheduler(model, WHOLE, runtime), Job(batch, rows))


def answers(pieces: Iterator[Piece]) -> list[Result]:
    """The results of all rows, in order, once the last is done."""
    done = {piece.row: piece.result for piece in pieces if piece.result is not None}
    return [done[row] for row in sorted(done)]


def _run(scheduler: Scheduler, job: Job) -> Iterator[Piece]:
    scheduler.submit(job)
    while not job.finished:
        scheduler.step()
        yield from job.take()
