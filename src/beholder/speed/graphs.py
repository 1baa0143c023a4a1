"""Steps of fixed shape: one token more of every row over preallocated slots, with rows and places padded to a few sizes, so
that each size is recorded once as a CUDA graph and played back from then on. Elsewhere than on CUDA the same steps are computed
one operation after the other.

R rows that are computed, B of them real, S places for tokens, V words of the vocabulary.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from beholder.errors import BeholderError
from beholder.generate import steps
from beholder.model import Batch, Model
from beholder.parts.blocks.masks import Visibility
from beholder.parts.contracts import LanguageInputs
from beholder.parts.language.decoder import DecoderModel
from beholder.parts.language.layer_states import SelfKeyValues
from beholder.parts.language.state import State
from beholder.planning import placeholders
from beholder.sending import sent
from beholder.speed.slots import FixedState, Slots, places_for, rows_for

UNRECORDED = 2  # first steps of a size, which are computed before it is recorded


def allowed() -> bool:
    """Whether steps of fixed shape may be used; `BEHOLDER_GRAPHS=0` in the environment turns them off."""
    return os.environ.get("BEHOLDER_GRAPHS", "1") != "0"


def why_not(model: Model) -> str | None:
    """Why a model's steps have no fixed shape; None where `FixedSteps.of` gives them."""
    found = _missing(model)
    if found is not None:
        return found
    try:
        _try_out(model)
    except (BeholderError, RuntimeError, ValueError, IndexError, AssertionError) as error:
        return str(error).partition("\n")[0]
    return None


def _missing(model: Model) -> str | None:
    if model.card.main is None:
        return "there is no language part"
    language = model.language
    if not isinstance(language, DecoderModel) or type(language).forward is not DecoderModel.forward:
        return f"language is {type(model.card.main).__name__}, which is no plain Decoder"
    if language.config.cross is not None:
        return "language.cross: an encoder's output is read"
    return None


@torch.no_grad()
def _try_out(model: Model) -> None:
    """One step behind one word. Raises what is in the way: layers that keep something else than keys and values, or ask for
    values in the middle of a step; `BeholderError` where a fusion does something to words.
    """
    taken = {token_id for _, token_id in placeholders(model.card)}
    word = next(token_id for token_id in range(len(taken) + 1) if token_id not in taken)
    batch, state = Batch(torch.tensor([[word]], device=model.device)), State(1, capacity=2)
    model.read(batch, {}, state)
    draft = model._draft(batch, state)
    for fusion in model._fusions:
        given = fusion.prepare(draft, {})
        same = all(getattr(given, each.name) is getattr(draft, each.name) for each in fields(draft))
        if fusion.read(draft.ids_BT, {}) is not draft.ids_BT or not same:
            raise BeholderError(f"{type(fusion).__name__} does something to words")
    fixed = FixedSteps(model)
    reason = fixed.declines(state)
    if reason is not None:
        raise BeholderError(reason)
    fixed.settle(state)
    size = fixed._size([word], state, None)
    with Watch():
        size.compute()


class FixedSteps:
    """`steps.advance` by steps of fixed shape. A state must be settled in slots first, which a scheduler does between steps;
    what is not settled, or not covered, is computed by ordinary steps. Later changes of the model's weights are seen where they
    are made in place. One step at a time.

    recorded: whether steps become CUDA graphs; where recording one fails, `failure` says why, and none is recorded any more.
    """

    def __init__(self, model: Model, recorded: bool | None = None) -> None:
        """Use `of`. recorded: None for wherever the model is on CUDA."""
        self.model = model
        self.recorded = model.device.type == "cuda" if recorded is None else recorded
        self.failure: str | None = None
        self._adapters = model.card.adapters
        self._slots: list[Slots] = []
        self._sizes: dict[tuple[int, int, int, Form], Size] = {}
        self._places = {token_id for _, token_id in placeholders(model.card)}
        self._pool: Any = None
        language = model.language
        assert isinstance(language, DecoderModel)
        self._table = language.config.embedding.positions is not None

    @classmethod
    def of(cls, model: Model) -> FixedSteps:
        """Raises `BeholderError` that says what about the model has no fixed shape."""
        reason = why_not(model)
        if reason is not None:
            raise BeholderError(f"no steps of fixed shape for {model.card.name}: {reason}")
        return cls(model)

    # Memory

    @property
    def idle_bytes(self) -> int:
        """Of slots that no state keeps anything in."""
        return sum(slots.nbytes for slots in self._slots if slots.free)

    def release(self) -> None:
        """Give back slots that no state keeps anything in, and what was recorded on them."""
        gone = {id(slots) for slots in self._slots if slots.free}
        self._slots = [slots for slots in self._slots if id(slots) not in gone]
        self._sizes = {key: size for key, size in self._sizes.items() if key[0] not in gone}

    def declines(self, state: State) -> str | None:
        """Why a state cannot be settled."""
        if state.memory is not None:
            return "an encoder's output is read"
        for (kind, number), layer in state.layers.items():
            if type(layer) is not SelfKeyValues or layer.keys is None:
                return f"layer {number} keeps {kind} of kind {type(layer).__name__}"
        return None if state.layers and state.segments_BS is not None else "nothing was read yet"

    @torch.no_grad()
    def settle(self, state: State, room: int | None = None) -> bool:
        """Bring what a state keeps into slots with place for a token more of every row; False, and nothing happens, where that
        is not possible or takes more than `room` bytes more than now. Nothing is copied where all is there already.
        """
        if self.declines(state) is not None:
            return False
        slots = self._found(state)
        if slots is None:
            rows, places = rows_for(state.rows), places_for(max(max(state.lengths) + 1, state.room[1]))
            slots = self._chosen(state, rows, places, room)
        if slots is None:
            return False
        slots.take(state)
        return True

    def _found(self, state: State) -> Slots | None:
        """The slots that a state is in, if they have place for a token more."""
        for slots in self._slots:
            if slots.holds(state):
                return slots if max(state.lengths) < slots.places and state.rows <= slots.rows else None
        return None

    def _chosen(self, state: State, rows: int, places: int, room: int | None) -> Slots | None:
        """Free slots of such a size, or new ones."""
        most = None if room is None else room + state.nbytes + self.idle_bytes
        fit = [
            slots
            for slots in self._slots
            if slots.free and slots.rows >= rows and slots.places >= places and slots.like(state)
        ]
        if fit:
            return min(fit, key=lambda slots: slots.nbytes)
        self.release()
        if most is not None and Slots.bytes_for(state, rows, places) > most:
            return None
        self._slots.append(Slots(state, rows, places))
        return self._slots[-1]

    # Steps

    def refuses(self, ids: Sequence[int], state: State, tail: steps.Tail | None = None) -> str | None:
        """Why a step is an ordinary one; None where `step` takes it."""
        if self.model.card.adapters != self._adapters:
            return "adapters were put on, or taken off, since"
        if self._found(state) is None:
            return self.declines(state) or "the state is not settled in slots"
        if tail is not None and len(tail.parents) > 1:
            return f"{len(tail.parents)} segments: a token does not see all before it"
        main = self.model.card.main
        assert main is not None
        told = tail is not None or state.shift_B is not None
        last = max(state.lengths) + self.model.card.virtual_tokens
        if self._table and (told or last >= main.context):
            return "positions have a table, and it is not known whether these are in it"
        words = main.num_readable
        if any(not 0 <= token_id < words or token_id in self._places for token_id in ids):
            return "an id is no word"
        return None

    def __call__(self, model: Model, ids: Sequence[int], state: State, tail: steps.Tail | None) -> Tensor:
        if model is not self.model or self.refuses(ids, state, tail) is not None:
            return steps.advance(model, ids, state, tail)
        return self.step(ids, state, tail)

    @torch.inference_mode()
    def step(self, ids: Sequence[int], state: State, tail: steps.Tail | None = None) -> Tensor:
        """Scores (B, V) float32 after one more token per row, until the next step; `state` is then as `Model.read` leaves it.
        The processor waits for nothing. Raises `BeholderError` where `refuses` says why.
        """
        reason = self.refuses(ids, state, tail)
        if reason is not None:
            raise BeholderError(f"no step of fixed shape: {reason}")
        size = self._size(ids, state, tail)
        self._run(size)
        self._count(state, tail)
        return size.logits_RV[: state.rows]

    @torch.inference_mode()
    def best(self, ids: Sequence[int], state: State, count: int) -> Tensor:
        """The likeliest word after each row, and so on `count` times, (B, count): each is read without the processor knowing.
        The last one is not read. Raises `BeholderError` where `refuses` says why, and where slots lack the places.
        """
        reason = self.refuses(ids, state)
        slots = self._found(state)
        if reason is not None or slots is None or max(state.lengths) + count > slots.places:
            raise BeholderError(f"no steps of fixed shape: {reason or f'no place for {count} tokens more'}")
        found, given = [], None
        for _ in range(count):
            size = self._size(ids, state, None, given)
            self._run(size)
            self._count(state, None)
            given = size.logits_RV.argmax(-1)
            found.append(given[: state.rows])
        return torch.stack(found, 1)

    def _count(self, state: State, tail: steps.Tail | None) -> None:
        state.plain = state.plain and tail is None
        state.commit(1, None)

    def _size(
        self, ids: Sequence[int], state: State, tail: steps.Tail | None, given_R: Tensor | None = None
    ) -> Size:
        """The step of a state's size, told what to read. given_R: the ids, where the device alone has them."""
        slots = self._found(state)
        assert slots is not None, "settle the state first"
        rows = rows_for(state.rows)
        places = min(places_for(max(state.lengths) + 1), slots.places)
        form = Form.of(state, tail)
        key = (id(slots), rows, places, form)
        if key not in self._sizes:
            self._sizes[key] = Size(self.model, slots, rows, places, form)
        size = self._sizes[key]
        size.tell(ids, state, tail, given_R)
        return size

    def _run(self, size: Size) -> None:
        """Compute a step, or play it back; one that comes again is recorded."""
        if size.graph is not None:
            size.graph.replay()
            return
        if self.recorded and self.failure is None and size.times >= UNRECORDED:
            try:
                self._pool = self._pool or torch.cuda.graph_pool_handle()
                size.record(self._pool)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self.failure = str(error).partition("\n")[0]
                warnings.warn(f"steps are not recorded as CUDA graphs: {self.failure}", stacklevel=2)
            else:
                self._run(size)
                return
        size.times += 1
        size.compute()


@dataclass(frozen=True)
class Form:
    """What a step is told beside ids and lengths. axes: of the positions, 0 where they are those of text. told: segments,
    blocks and positions come from a tail; shifted: positions are ahead of the tokens' numbers; placed: see `State`.
    """

    axes: int
    told: bool
    shifted: bool
    placed: bool

    @classmethod
    def of(cls, state: State, tail: steps.Tail | None) -> Form:
        axes = 0 if tail is None or tail.positions.ndim == 2 else len(tail.positions)
        return cls(axes, tail is not None, state.shift_B is not None, state.placed)


@dataclass(eq=False)
class Size:
    """One step of fixed shape: inputs that are written before it, scores that are read after it. times: it was computed;
    graph: its record.
    """

    model: Model
    slots: Slots
    rows: int
    places: int
    form: Form
    times: int = 0
    graph: Any = None
    logits_RV: Tensor = field(init=False)

    def __post_init__(self) -> None:
        main, device = self.model.card.main, self.model.device
        assert main is not None
        positions = (self.form.axes, self.rows, 1) if self.form.axes else (self.rows, 1)
        self._told_2R, self._tables_2R1, self._positions, self._shift_R1 = (
            torch.zeros(shape, dtype=torch.long, device=device)
            for shape in ((2, self.rows), (2, self.rows, 1), positions, (self.rows, 1))
        )
        self.logits_RV = torch.zeros(self.rows, main.vocab_size, device=device)

    def tell(self, ids: Sequence[int], state: State, tail: steps.Tail | None, given_R: Tensor | None) -> None:
        """Write what the step reads; rows that are not real read the word 0 at place 0."""
        rows, spare = state.rows, [0] * (self.rows - state.rows)
        self._told_2R.copy_(sent([[*ids, *spare], [*state.lengths, *spare]], self._told_2R.device))
        if given_R is not None:
            self._told_2R[0].copy_(given_R)
        if state.shift_B is not None:
            self._shift_R1[:rows, 0] = state.shift_B
        if tail is not None:
            self._tables_2R1[0, :rows] = tail.segments_B1
            self._tables_2R1[1, :rows] = tail.blocks_B1
            self._positions[..., :rows, :] = tail.positions

    @torch.inference_mode()
    def record(self, pool: Any) -> None:
        """Make a CUDA graph of the step. Raises `RuntimeError` where something cannot be recorded."""
        with torch.cuda.device(self.model.device):
            apart = torch.cuda.Stream()
            apart.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(
                apart
            ):  # what libraries set up at first use; the same token is written again
                self.compute()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=apart, capture_error_mode="thread_local"):
                self.compute()
            torch.cuda.current_stream().wait_stream(apart)
        self.graph = graph

    def compute(self) -> None:
        """The step: nothing in it depends on values, and nothing asks for them."""
        language, ids_R1 = self.model.language, self._told_2R[0][:, None]
        with torch.device(ids_R1.device):  # tables that layers make are made there
            lengths_R = self._told_2R[1]
            state = FixedState(self.slots, self.rows, self.places, lengths_R, placed=self.form.placed)
            segments_R1, blocks_R1 = torch.zeros_like(ids_R1), lengths_R[:, None]
            positions = blocks_R1
            if self.form.told:
                (segments_R1, blocks_R1), positions = self._tables_2R1, self._positions
            if self.form.shifted:
                positions = positions + self._shift_R1
            positions = positions + self.model.card.virtual_tokens
            seen = Visibility(segments_R1, blocks_R1)
            words_R1D, prompts = language.embed(ids_R1), (0,) * self.rows
            inputs = LanguageInputs(ids_R1, words_R1D, positions, seen, prompts=prompts, in_context=True)
            self.logits_RV.copy_(
                language.logits(language(inputs, state, layer_parts=self.model.layer_parts).last())
            )


class Watch(TorchDispatchMode):
    """Raises `BeholderError` for what no graph can hold: questions about values, and moves between devices."""

    ASKS = ("item", "is_nonzero", "_local_scalar_dense", "equal")
    INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
    MOVES = ("to", "_to_copy", "copy_")

    def __enter__(self) -> Watch:
        self._lists = _WatchLists()
        self._lists.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *given: Any) -> None:
        super().__exit__(*given)
        self._lists.__exit__(*given)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, found = func.overloadpacket.__name__, func(*args, **(kwargs or {}))
        if name in self.INDEXED:
            asks = any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1])
        else:
            asks = name in self.ASKS or torch.Tag.dynamic_output_shape in func.tags
        if asks:
            raise BeholderError(f"a layer asks for values in the middle of a step ({name})")
        source = args[1 if name == "copy_" else 0] if name in self.MOVES else found
        if isinstance(source, Tensor) and source.device != found.device:
            raise BeholderError(f"a layer moves a tensor from {source.device} in the middle of a step")
        return found


class _WatchLists(TorchFunctionMode):
    """What does not come by as an operation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.tolist, Tensor.numpy):
            raise BeholderError(f"a layer asks for values in the middle of a step ({func.__name__})")
        return func(*args, **(kwargs or {}))
