"""What was read of prompts and answers before, for requests that begin alike: earlier turns, system prompts, pictures.

T positions of a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from beholder.generate.features import digests_of, picture_key
from beholder.model import Batch, Model
from beholder.parts.language.state import State
from beholder.planning import placeholders

WORTH = 16  # tokens; shorter beginnings are read anew


@dataclass(eq=False)
class _Prefix:
    key: list[int]
    state: State
    cuts: list[int] | None
    nbytes: int
    used: int = 0


@dataclass(eq=False)
class PrefixCache:
    """States of one row each by the tokens they have read, the longest unused left out first once they hold more than `limit`
    bytes. hits, misses: prompts that did and did not begin like another; reused: tokens that were not read again.
    """

    limit: int
    hits: int = 0
    misses: int = 0
    reused: int = 0
    nbytes: int = 0
    _kept: list[_Prefix] = field(default_factory=list)
    _clock: int = 0

    def find(self, key: list[int], cuts: list[int] | None, capacity: int) -> State | None:
        """A state of its own that has read the longest known beginning of a prompt, with room for `capacity` tokens. cuts:
        where the prompt may be cut, everywhere where None. The last token is left to be read.
        """
        best, most = None, 0
        for prefix in self._kept:
            length = _usable(prefix, common(prefix.key, key), key, cuts)
            if length > most:
                best, most = prefix, length
        if best is None or most < WORTH:
            self.misses += 1
            return None
        self._clock += 1
        best.used = self._clock
        self.hits += 1
        self.reused += most
        return best.state.head(0, most, capacity)

    def add(self, key: list[int], state: State, cuts: list[int] | None, row: int = 0) -> None:
        """Keep a copy of what a row has read; beginnings of it that add nothing to it are left out."""
        if len(key) < WORTH or any(prefix.key == key for prefix in self._kept):
            return
        copy = state.head(row, len(key), len(key))
        nbytes = copy.nbytes
        if nbytes > self.limit:
            return
        if copy.cuttable and cuts is None:
            self._drop([p for p in self._kept if p.state.cuttable and p.key == key[: len(p.key)]])
        self._clock += 1
        self._kept.append(_Prefix(key, copy, cuts, nbytes, self._clock))
        self.nbytes += nbytes
        while self.nbytes > self.limit:
            self._drop([min(self._kept, key=lambda prefix: prefix.used)])

    def _drop(self, gone: Sequence[_Prefix]) -> None:
        for prefix in gone:
            self._kept.remove(prefix)
            self.nbytes -= prefix.nbytes

    def clear(self) -> None:
        self._kept.clear()
        self.nbytes = 0


def prompt_key(model: Model, batch: Batch) -> list[int] | None:
    """A number for every token of a one-row prompt: its id, or for features of pictures one that those of other pictures do
    not have. None where what is read of pictures depends on the question.
    """
    assert batch.ids_BT is not None
    if any(branch.connector is not None and branch.connector.reads_text for branch in model.card.branches):
        return None
    if any(fusion.region_branch is not None for fusion in model.card.fusion):
        return None
    ids = batch.ids_BT[0].tolist()
    shown = [plan for row in batch.plans for plan in row]
    if not shown and not any(batch.views.values()):
        return ids
    left, keys = {name: list(digests_of(batch, name)) for name in batch.views}, list[bytes]()
    for plan in shown:
        digests, count = left.get(plan.branch, []), len(plan.views)
        keys.append(picture_key(plan.branch, plan, digests[:count]))
        del digests[:count]
    counts = [plan.num_tokens for plan in shown]
    marks = {token_id for _, token_id in placeholders(model.card)}
    places = [place for place, token_id in enumerate(ids) if token_id in marks]
    if len(places) != sum(
        counts
    ):  # not one for each token of each picture: a change of any picture counts for all
        keys, counts = [b"".join(keys)], [len(places)]
    numbers = (
        -1 - (int.from_bytes(key, "big") << 32) - index
        for key, count in zip(keys, counts, strict=True)
        for index in range(count)
    )
    for place, number in zip(places, numbers, strict=True):
        ids[place] = number
    return ids


def common(one: list[int], other: list[int]) -> int:
    """Tokens that two prompts begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _usable(prefix: _Prefix, common: int, key: list[int], cuts: list[int] | None) -> int:
    """How much of a common beginning a state gives."""
    length = min(common, len(key) - 1)
    if not prefix.state.cuttable:
        return len(prefix.key) if length >= len(prefix.key) else 0
    for allowed in (cuts, prefix.cuts):
        if allowed is not None:
            length = max((cut for cut in allowed if cut <= length), default=0)
    return length
