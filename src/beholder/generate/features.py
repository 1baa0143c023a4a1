"""Pictures through encoders and connectors: those of several requests together, a few views at a time, and none that was
seen before.

V views, N feature tokens.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from beholder.media.plan import PicturePlan
from beholder.model import Batch, BranchModule, Model
from beholder.parts.contracts import AudioEncoder, BranchOutput, Context, Encoder, Packed
from beholder.sending import send


class Features(dict[str, BranchOutput]):
    """One request's features by branch. reused: pictures that had been encoded before."""

    reused: int = 0


@dataclass(eq=False)
class FeatureCache:
    """What connectors made of pictures, the longest unused left out first once they hold more than `limit` bytes. Pictures
    are told apart by their pixels as an encoder sees them and by their plan.
    """

    limit: int
    nbytes: int = 0
    hits: int = 0
    misses: int = 0
    _kept: OrderedDict[bytes, _Seen] = field(default_factory=OrderedDict)

    def find(self, key: bytes) -> _Seen | None:
        found = self._kept.get(key)
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
            self._kept.move_to_end(key)
        return found

    def add(self, key: bytes, seen: _Seen) -> None:
        if key in self._kept or seen.nbytes > self.limit:
            return
        self._kept[key] = seen
        self.nbytes += seen.nbytes
        while self.nbytes > self.limit:
            _, oldest = self._kept.popitem(last=False)
            self.nbytes -= oldest.nbytes

    def clear(self) -> None:
        self._kept.clear()
        self.nbytes = 0


@dataclass(frozen=True)
class _Seen:
    """One picture's features, and what encoders gave where a fusion reads that."""

    packed: Packed
    encoded: tuple[Packed, ...]

    @property
    def nbytes(self) -> int:
        return sum(_nbytes(packed) for packed in (self.packed, *self.encoded))


@dataclass
class _Picture:
    """One picture of one request, or all of a request where its connector reads the question: what there is to do for it.
    there: views by number, where the model is.
    """

    request: int
    context: Context
    views: Sequence[Tensor]
    columns: Sequence[int] | None
    key: bytes = b""
    seen: _Seen | None = None
    gathered: list[dict[int, Packed]] = field(default_factory=list)  # encoder -> view -> tokens
    there: dict[int, Tensor] = field(default_factory=dict)

    def owned(self, encoder: int) -> list[int]:
        """Numbers of the views that an encoder looks at."""
        owners = [view.encoder for plan in self.context.pictures for view in plan.views]
        return [i for i in range(len(self.views)) if not owners or owners[i] in (None, encoder)]


def with_digests(batch: Batch) -> Batch:
    """The same batch, which knows by what its views are known again."""
    return replace(batch, digests={name: digests_of(batch, name) for name in batch.views})


def without_pixels(batch: Batch) -> Batch:
    """The same batch, whose views have nothing but sizes: for who has their features."""
    return replace(
        batch, views={name: [view.to("meta") for view in views] for name, views in batch.views.items()}
    )


def digests_of(batch: Batch, branch: str) -> tuple[bytes, ...]:
    """One for each view of a branch, the same for the same pixels."""
    if branch in batch.digests:
        return batch.digests[branch]
    return tuple(
        hashlib.blake2b(
            view.detach().to("cpu").contiguous().view(torch.uint8).numpy().data, digest_size=16
        ).digest()
        for view in batch.views.get(branch, ())
    )


def picture_key(branch: str, plan: PicturePlan, digests: Sequence[bytes]) -> bytes:
    """The same for pictures whose views, by their digests, and plans are the same."""
    shown = repr((branch, plan.original, plan.views, plan.grids)).encode()
    return hashlib.blake2b(b"".join((*digests, shown)), digest_size=16).digest()


@torch.inference_mode()
def encode_requests(
    model: Model, batches: Sequence[Batch], at_once: int, cache: FeatureCache | None = None
) -> Iterator[list[Features] | None]:
    """Every request's features as `Model.encode` has them, so many views through an encoder at a time. Gives None between two
    times, where it can be left for other work, and the features in the end.
    """
    outputs = [Features() for _ in batches]
    whole = any(fusion.reads_encoded or fusion.region_branch for fusion in model.card.fusion)
    names = dict.fromkeys(name for batch in batches for name, views in batch.views.items() if views)
    for number, name in enumerate(names):
        if number:
            yield None
        branch = model.branch(name)
        requests = [i for i, batch in enumerate(batches) if batch.views.get(name)]
        pictures = [picture for i in requests for picture in _pictures(model, batches[i], name, i)]
        if cache is not None:
            for picture in pictures:
                picture.seen = cache.find(picture.key) if picture.key else None
                outputs[picture.request].reused += picture.seen is not None
        new = [picture for picture in pictures if picture.seen is None]
        once = {picture.key or id(picture): picture for picture in reversed(new)}
        yield from _encode(branch, list(once.values()), at_once, model.device)
        for picture in once.values():
            encoded = tuple(_pack([views[i] for i in sorted(views)]) for views in picture.gathered)
            context = replace(picture.context, views=tuple(picture.there[i] for i in sorted(picture.there)))
            picture.seen = _Seen(branch.connect(encoded, context), encoded if whole else ())
            picture.there.clear()
            if cache is not None and picture.key:
                cache.add(picture.key, picture.seen)
        for picture in new:
            picture.seen = once[picture.key or id(picture)].seen
        for i in requests:
            own = [picture.seen for picture in pictures if picture.request == i and picture.seen is not None]
            encoded = tuple(_pack(list(packs)) for packs in zip(*(seen.encoded for seen in own), strict=True))
            plans = model.context(batches[i], name).plans
            outputs[i][name] = BranchOutput(_pack([seen.packed for seen in own]), plans, encoded)
    yield outputs


def _pictures(model: Model, batch: Batch, name: str, request: int) -> list[_Picture]:
    context, views = model.context(batch, name), list(batch.views[name])
    columns = batch.columns.get(name)
    connector = model.branch(name).config.connector
    counts = [len(plan.views) for plan in context.pictures]
    together = connector is not None and connector.reads_text
    if together or sum(counts) != len(views):
        return [_Picture(request, context, views, columns)]
    pictures, first, digests = [], 0, digests_of(batch, name)
    for plan, count in zip(context.pictures, counts, strict=True):
        own = views[first : first + count]
        alone = replace(context, plans=((plan,),), views=tuple(own), words=None)
        shown = None if columns is None else columns[first : first + count]
        key = picture_key(name, plan, digests[first : first + count]) + repr(shown).encode()
        pictures.append(_Picture(request, alone, own, shown, key))
        first += count
    return pictures


def _encode(
    branch: BranchModule, pictures: Sequence[_Picture], at_once: int, device: torch.device
) -> Iterator[None]:
    """Fill `gathered` of all pictures, same ones once; gives None between two groups of views."""
    begun = False
    for number, encoder in enumerate((branch.vision, *branch.others)):
        items: list[list[tuple[_Picture, int]]] = []  # what stays together
        for picture in pictures:
            owned = picture.owned(number)
            picture.gathered.append({} if owned else {0: encoder([])})
            views = [(picture, view) for view in owned]
            items += [views] if encoder.whole_pictures else [[view] for view in views]
        for group in _groups(items, at_once):
            if begun:
                yield None
            begun = True
            for picture, view in group:
                if view not in picture.there:
                    picture.there[view] = send(picture.views[view], device)
            for (picture, view), packed in zip(group, _views(encoder, group), strict=True):
                picture.gathered[number][view] = packed


def _groups(items: Sequence[list[tuple[_Picture, int]]], most: int) -> Iterator[list[tuple[_Picture, int]]]:
    """`most` views in each, or as many as stay together."""
    group: list[tuple[_Picture, int]] = []
    for item in items:
        if group and len(group) + len(item) > most:
            yield group
            group = []
        group = group + item
    if group:
        yield group


def _views(encoder: Encoder, group: Sequence[tuple[_Picture, int]]) -> list[Packed]:
    """What an encoder gives for each view of a group."""
    views = [picture.there[i] for picture, i in group]
    if isinstance(encoder, AudioEncoder) and any(picture.columns is not None for picture, _ in group):
        columns = [
            picture.views[i].shape[-1] if picture.columns is None else picture.columns[i]
            for picture, i in group
        ]
        return _split(encoder(views, columns))
    return _split(encoder(views))


def _split(packed: Packed) -> list[Packed]:
    """One for each view."""
    taps = {number: _split(tap) for number, tap in packed.taps.items()}
    pooled = packed.pooled_VD
    return [
        Packed(
            tokens_ND,
            (grid,),
            {number: views[i] for number, views in taps.items()},
            None if pooled is None else pooled[i : i + 1],
        )
        for i, (tokens_ND, grid) in enumerate(zip(packed.split(), packed.grids, strict=True))
    ]


def _pack(packs: Sequence[Packed]) -> Packed:
    """Several as one."""
    if len(packs) == 1:
        return packs[0]
    pooled = [pack.pooled_VD for pack in packs if pack.pooled_VD is not None]
    return Packed(
        torch.cat([pack.tokens_ND for pack in packs]),
        tuple(grid for pack in packs for grid in pack.grids),
        {number: _pack([pack.taps[number] for pack in packs]) for number in packs[0].taps},
        torch.cat(pooled) if len(pooled) == len(packs) else None,
    )


def _nbytes(packed: Packed) -> int:
    own = [packed.tokens_ND, *([] if packed.pooled_VD is None else [packed.pooled_VD])]
    return sum(t.numel() * t.element_size() for t in own) + sum(map(_nbytes, packed.taps.values()))
