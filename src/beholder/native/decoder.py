"""The decode step of a decoder in compiled code: one more token for each row.

B rows, V words of the vocabulary, H key heads, S capacity, K head width, R kinds of rotary positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from beholder.errors import BeholderError
from beholder.model import Model
from beholder.native import library
from beholder.native.call import Call
from beholder.native.covered import missing
from beholder.native.formats import Formats
from beholder.native.rotary import Turns
from beholder.native.weights import Weights
from beholder.parts.blocks.masks import Visibility
from beholder.parts.language.decoder import DecoderModel
from beholder.parts.language.state import SelfKeyValues, State

CACHES = (torch.float32, torch.bfloat16)


def why_not(model: Model) -> str | None:
    """Why PyTorch has to compute the model's steps; None where `NativeDecoder.of` gives a decoder."""
    try:
        library.kernels()
    except BeholderError as error:
        return str(error)
    return missing(model)


class NativeDecoder:
    """A model's decode step over its packed weights. What the state holds is PyTorch's own keys and values, read and written
    in place, so that both may go on from each other at any token. Later changes of the model's weights are not seen. One step
    at a time: threads of Python that share a decoder must take turns.
    """

    def __init__(
        self,
        model: Model,
        formats: Formats,
        *,
        threads: int | None = None,
        instruction_set: str | None = None,
        shared: bool = False,
    ) -> None:
        """Use `of`."""
        self.formats = formats
        self.kernels = library.kernels()
        self.threads = threads or torch.get_num_threads()
        self.set_number = self.kernels.number(instruction_set)
        language = model.language
        assert isinstance(language, DecoderModel)
        kernel = library.Kernel(self.kernels, self.set_number)
        self.weights = Weights.of(language, formats, kernel, shared=shared)
        self.turns = Turns(language.config.layers, self.weights)
        self._readable = language.config.num_readable
        self._places = {place[1] for place in (part.placeholder() for part in model.card.fusion) if place}
        self._calls: dict[int, Call] = {}

    @classmethod
    def of(
        cls,
        model: Model,
        formats: Formats = Formats(),
        *,
        threads: int | None = None,
        instruction_set: str | None = None,
        shared: bool = False,
    ) -> NativeDecoder:
        """threads: torch's where None. instruction_set: the best one where None, else one of `doctor`'s, for tests. shared: the
        model reads the packed weights too and lets go its own. Raises `BeholderError` that names the field where the kernels
        lack something, or why there are none.
        """
        reason = why_not(model)
        if reason is not None:
            raise BeholderError(f"no compiled decode step for {model.card.name}: {reason}")
        return cls(model, formats, threads=threads, instruction_set=instruction_set, shared=shared)

    def point_at_words(self) -> None:
        """Go on with the model's table of words after it was given another type."""
        self.weights.point_at_words()

    @property
    def nbytes(self) -> int:
        """Of the packed weights."""
        return self.weights.nbytes

    def refuses(self, state: State, visibility: Visibility | None = None) -> str | None:
        """Why a step on this state is PyTorch's; None where `step` takes it. visibility: what the step would get."""
        if state.memory is not None:
            return "state.memory: an encoder's output is read"
        for (kind, number), layer in state.layers.items():
            if type(layer) is not SelfKeyValues:
                return f"layer {number} keeps {kind} of kind {type(layer).__name__}"
            if layer.keys is not None and layer.keys.dtype not in CACHES:
                return f"keys are {layer.keys.dtype}"
        if visibility is not None and (len(visibility.parents) > 1 or visibility.both_ways):
            return f"{len(visibility.parents)} segments: a token does not see all before it"
        return None

    @torch.inference_mode()
    def step(
        self,
        ids: Sequence[int],
        state: State,
        positions: Tensor | None = None,
        visibility: Visibility | None = None,
    ) -> Tensor:
        """Scores (B, V) float32 after one more token per row; `state` is then as `Model.read` leaves it.

        positions: (B, 1) or (axes, B, 1) where they are not those of plain text; visibility: of the new tokens, likewise.
        Raises `BeholderError` for ids that are no words, and where `refuses` says why.
        """
        self._check(ids, state, visibility)
        rows, starts = state.rows, state.lengths
        seen = visibility or Visibility.causal_rows((1,) * rows, 1, starts=starts)
        call = self._call(rows)
        call.ids[:] = list(ids)
        call.lengths[:] = list(starts)
        self._point_at_cache(state, call)
        if positions is None:
            shifts = [0] * rows if state.shift_B is None else state.shift_B.tolist()
            blocks = starts if visibility is None else visibility.blocks_BT[:, 0].tolist()
            places = [start + shift for start, shift in zip(blocks, shifts, strict=True)]
            kept = self.turns.at(places, call)
        else:
            shift_B = 0 if state.shift_B is None else state.shift_B[:, None]
            kept = self.turns.at_positions(positions + shift_B, call)
        logits_BV = torch.empty(rows, self.weights.decoder.head.outputs)
        call.step.logits = logits_BV.data_ptr()
        state.append(seen)
        self.kernels.step(self.weights.decoder, call.step, self.set_number, self.threads)
        del kept  # tables that the step has read
        state.commit(1, None)
        return logits_BV

    def _check(self, ids: Sequence[int], state: State, visibility: Visibility | None) -> None:
        if len(ids) != state.rows:
            raise BeholderError(f"{len(ids)} ids for {state.rows} rows; give one for each")
        reason = self.refuses(state, visibility)
        if reason is not None:
            raise BeholderError(f"no compiled decode step: {reason}")
        for row, token_id in enumerate(ids):
            if not 0 <= token_id < self._readable or token_id in self._places:
                raise BeholderError(
                    f"row {row} goes on with the id {token_id}, which is none of the {self._readable} words of the model"
                )

    def _call(self, rows: int) -> Call:
        if rows not in self._calls:
            decoder = self.weights.decoder
            count = self.kernels.scratch_bytes(decoder, rows, self.threads)
            self._calls[rows] = Call(rows, decoder.num_layers, len(self.turns), count)
        return self._calls[rows]

    def _point_at_cache(self, state: State, call: Call) -> None:
        """Tell the call where keys and values are, with room for one token more."""
        decoder, end, like_BHTK = self.weights.decoder, max(state.lengths) + 1, None
        for layer in range(decoder.num_layers):
            kept = state.layers.get(("self", layer)) or state.self_attention(layer)
            assert isinstance(kept, SelfKeyValues)
            keys, values = kept.keys, kept.values
            if keys is None or values is None or keys.shape[2] < end:
                if like_BHTK is None:
                    dtype = self.weights.words.dtype if keys is None else keys.dtype
                    like_BHTK = torch.empty(state.rows, decoder.kv_heads, 1, decoder.head_dim, dtype=dtype)
                keys, values = kept.reserve(like_BHTK, end)
            if keys.data_ptr() != call.keys[layer] or values.data_ptr() != call.values[layer]:
                self._check_cache(layer, (keys, values), state.rows)
                call.keys[layer], call.values[layer] = keys.data_ptr(), values.data_ptr()
            call.capacities[layer] = keys.shape[2]
            decoder.cache_bf16 = keys.dtype == torch.bfloat16

    def _check_cache(self, layer: int, kept: tuple[Tensor, Tensor], rows: int) -> None:
        """Raises `BeholderError` for keys of another decoder, which the kernels would read as their own."""
        decoder = self.weights.decoder
        wanted = (rows, decoder.kv_heads, kept[0].shape[2], decoder.head_dim)
        for each in kept:
            if each.shape != wanted or not each.is_contiguous() or each.device.type != "cpu":
                raise BeholderError(f"layer {layer} keeps {tuple(each.shape)} but this decoder has {wanted}")
