"""The one module and its forward. It knows kinds of part, never names of systems.

B rows, T positions, N feature tokens, D width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from beholder.cards.schema import Branch, Card
from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Features, PicturePlan
from beholder.media.regions import Region
from beholder.parts.adapters.apply import put_on
from beholder.parts.adapters.base import Adapter
from beholder.parts.adapters.mixtures import collecting
from beholder.parts.blocks.masks import PADDING, Visibility
from beholder.parts.contracts import (
    SLOTS,
    BranchOutput,
    Context,
    Encoder,
    Fusion,
    Head,
    HeadInputs,
    Language,
    LanguageInputs,
    LanguageOutput,
    Packed,
    TextInputs,
    TokenSpan,
)
from beholder.parts.language.state import State
from beholder.sending import send

Plans = tuple[tuple[PicturePlan, ...], ...]


@dataclass(frozen=True)
class Batch:
    """Everything one forward needs, already planned.

    ids_BT:  token ids with placeholders, rows left-aligned; None for pictures alone
    lengths: tokens of each row, None where all are full
    target_BT, target_lengths: what an encoder-decoder's decoder reads, while ids are the encoder's; None for its first
             token alone
    kinds_BT: kinds of tokens (BERT's token types), None where all are 0
    views:   branch -> the views (3, h, w) of all its pictures, row after row, in plan order
    plans:   per row the plans of its pictures, in prompt order
    positions, visibility: where they are not those of plain causal text
    columns: branch of sounds -> how many columns of each view are no padding; all where a branch is absent
    words:   `Context.words`: each row's question in a connector's own vocabulary
    regions: per row the regions of its pictures that are spoken of, in order; () where there are none
    prompts: tokens of each row that are the question, where its answer follows; None: all that comes before generation
    encoded: branch -> what its encoders gave for its views, where that is known already
    digests: branch -> for each view, by which its pixels are known again, where somebody wants to know
    """

    ids_BT: Tensor | None = None
    lengths: tuple[int, ...] | None = None
    views: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)
    plans: Plans = ()
    positions: Tensor | None = None
    visibility: Visibility | None = None
    columns: Mapping[str, Sequence[int]] = field(default_factory=dict)
    target_BT: Tensor | None = None
    target_lengths: tuple[int, ...] | None = None
    kinds_BT: Tensor | None = None
    words: tuple[Tensor, Tensor] | None = None
    regions: tuple[tuple[Region, ...], ...] = ()
    prompts: tuple[int, ...] | None = None
    encoded: Mapping[str, tuple[Packed, ...]] = field(default_factory=dict)
    digests: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """`heads`: output name -> what the head gave. `branches` and `language` are the stages before."""

    heads: Mapping[str, Any]
    branches: Mapping[str, BranchOutput]
    language: LanguageOutput | None = None


class BranchModule(nn.Module):
    """A branch's encoders and connector. Both steps are public so that stages can be compared and cached."""

    def __init__(self, config: Branch, out_dim: int | None) -> None:
        super().__init__()
        self.config = config
        vision, *others = (encoder.build() for encoder in config.encoders)
        self.vision = vision
        self.others = nn.ModuleList(others)
        self.connector = None
        if config.connector is not None:
            self.connector = config.connector.build_over(config.encoders, out_dim)
        for encoder in (self.vision, *self.others):
            encoder.register_forward_pre_hook(self._in_their_type)

    def _in_their_type(self, encoder: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """Views in the type of the weights that read them: an encoder's own, or the connector's behind one that has none."""
        readers = [encoder] if self.connector is None else [encoder, self.connector]
        weights = (parameter for reader in readers for parameter in reader.parameters())
        dtype = next((weight.dtype for weight in weights if weight.is_floating_point()), None)
        views, *rest = given
        return ([view.to(dtype) if view.is_floating_point() else view for view in views], *rest)

    def encode(
        self,
        views: Sequence[Tensor],
        columns: Sequence[int] | None = None,
        plans: Sequence[Sequence[PicturePlan]] = (),
    ) -> tuple[Packed, ...]:
        """What each encoder gives for the views that the plans let it see, which are all where nothing is planned. Views have
        padding only where `columns` is given.
        """
        padding = () if columns is None else (columns,)
        owners = [view.encoder for row in plans for plan in row for view in plan.views]
        if not any(owner is not None for owner in owners):
            return tuple(encoder(views, *padding) for encoder in (self.vision, *self.others))
        if len(owners) != len(views):
            raise BeholderError(f"{len(views)} views were given but the plans have {len(owners)}")
        pairs = list(zip(views, owners, strict=True))
        return tuple(
            encoder([view for view, owner in pairs if owner in (None, number)])
            for number, encoder in enumerate((self.vision, *self.others))
        )

    def connect(self, encoded: Sequence[Packed], context: Context | None = None) -> Packed:
        """Tokens in the language model's width."""
        first, *others = encoded
        if self.connector is None:
            return first
        return self.connector(first, replace(context or Context(), encoders=tuple(others)))

    def forward(
        self,
        views: Sequence[Tensor],
        columns: Sequence[int] | None = None,
        context: Context | None = None,
    ) -> Packed:
        return self.connect(self.encode(views, columns, context.plans if context else ()), context)

    def unused_parameters(self) -> set[str]:
        """Names of parameters on which what the branch gives does not depend."""
        pooled = self.config.connector is not None and self.config.connector.reads_pooled
        encoders = {"vision.": self.vision, **{f"others.{i}.": part for i, part in enumerate(self.others)}}
        unused = {
            prefix + name
            for prefix, encoder in encoders.items()
            if isinstance(encoder, Encoder)
            for name in encoder.unused_parameters(pooled=pooled)
        }
        if self.connector is not None:
            unused |= {f"connector.{name}" for name in self.connector.unused_parameters()}
        return unused


class Model(nn.Module):
    """A system built from its card."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card
        main = card.main
        width = None if main is None else main.feature_dim
        self.branches = nn.ModuleDict({branch.name: BranchModule(branch, width) for branch in card.branches})
        self.fusion = nn.ModuleList(fusion.build(main) for fusion in card.fusion)
        self.languages = nn.ModuleDict({part.name: part.config.build() for part in card.languages})
        self.codecs = nn.ModuleDict({part.name: part.config.build() for part in card.codecs})
        self.heads = nn.ModuleList(head.build(main) for head in card.heads)
        self.adapters = nn.ModuleList()
        self.standing: tuple[Adapter, ...] = ()
        self.layer_parts = self._layer_parts()
        for adapter in card.adapters:
            put_on(self, adapter)

    def stand(self, adapter: Adapter, module: Fusion) -> None:
        """Take in an adapter that stands in language layers; raises `BeholderError` where a place in a layer is taken."""
        self.adapters.append(module.to(self.device))
        try:
            self.layer_parts = self._layer_parts()
        except BeholderError:
            del self.adapters[-1]
            raise
        self.standing = (*self.standing, adapter)

    def _layer_parts(self) -> dict[int, dict[str, nn.Module]]:
        main = self.card.main
        if main is None:
            return {}
        return merge_layer_parts([fusion.layer_parts(main) for fusion in self._fusions], main.num_layers)

    @property
    def _fusions(self) -> list[Fusion]:
        return [fusion for fusion in (*self.fusion, *self.adapters) if isinstance(fusion, Fusion)]

    @property
    def language(self) -> Language:
        """The main language part; raises `BeholderError` where there is none."""
        if "main" not in self.languages:
            raise BeholderError(f"{self.card.name} has no language part")
        return self.languages["main"]  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return next(self.parameters()).dtype

    def branch(self, name: str) -> BranchModule:
        """The branch called `name`."""
        if name not in self.branches:
            raise UnknownName(f"branch of {self.card.name}", name, self.branches)
        return self.branches[name]  # type: ignore[return-value]

    def unused_parameters(self) -> set[str]:
        """Names of parameters that no forward uses; they are kept for export and cannot train."""
        return (
            {
                f"branches.{name}.{parameter}"
                for name in self.branches
                for parameter in self.branch(name).unused_parameters()
            }
            | {
                f"heads.{number}.{name}"
                for number, head in enumerate(self.heads)
                if isinstance(head, Head)
                for name in head.unused_parameters()
            }
            | {f"codecs.{name}" for name, _ in self.codecs.named_parameters()}
        )

    def forward(self, batch: Batch, state: State | None = None) -> Output:
        """Run branches, fusions, the language part and the heads; `state` is extended in place."""
        branches = self.encode(batch)
        language = None if batch.ids_BT is None else self.read(batch, branches, state)
        return Output(self.apply_heads(batch, branches, language, state), branches, language)

    def encode(self, batch: Batch) -> dict[str, BranchOutput]:
        """The branches' features for the batch's views, which may be elsewhere than the model."""
        outputs = {}
        there = {name: [send(view, self.device) for view in views] for name, views in batch.views.items()}
        batch = replace(batch, views=there)
        for name, views in batch.views.items():
            if views:
                branch, context = self.branch(name), self.context(batch, name)
                encoded = batch.encoded.get(name) or branch.encode(
                    views, batch.columns.get(name), context.plans
                )
                outputs[name] = BranchOutput(branch.connect(encoded, context), context.plans, encoded)
        return outputs

    def context(self, batch: Batch, branch: str) -> Context:
        """What the connector of a branch may read of the batch."""
        plans = tuple(tuple(plan for plan in row if plan.branch == branch) for row in batch.plans)
        connector, text = self.branch(branch).config.connector, None
        if connector is not None and connector.reads_text and batch.ids_BT is not None:
            text = TextInputs(batch.ids_BT, self._words(batch.ids_BT), batch.prompts or batch.lengths)
        views = tuple(batch.views.get(branch, ()))
        beside = any(seen for name, seen in batch.views.items() if name != branch)
        return Context(plans=plans, words=batch.words, text=text, views=views, beside=beside)

    def read(
        self, batch: Batch, branches: Mapping[str, BranchOutput], state: State | None = None
    ) -> LanguageOutput:
        """The language part's hidden states for the batch's ids and features."""
        return self.read_inputs(self.prepare(batch, branches, state), state)

    def prepare(
        self, batch: Batch, branches: Mapping[str, BranchOutput], state: State | None = None
    ) -> LanguageInputs:
        """What the language part reads: words, features, places and who sees whom."""
        ids_BT = batch.ids_BT
        assert ids_BT is not None
        for fusion in self._fusions:
            ids_BT = fusion.read(ids_BT, branches)
        draft = inputs = self._draft(replace(batch, ids_BT=ids_BT), state)
        for fusion in self._fusions:
            inputs = fusion.prepare(inputs, branches)
        if state is not None and not (self.card.main and self.card.main.reads_apart):
            state.place(
                draft.positions, inputs.positions, inputs.lengths or (draft.ids_BT.shape[1],) * state.rows
            )
        return inputs

    def read_inputs(self, inputs: LanguageInputs, state: State | None = None) -> LanguageOutput:
        """The language part's hidden states for what `prepare` gave, or for a piece of it behind those that `state` holds."""
        layers = self.card.main.num_layers if self.card.main else 0
        taps = {depth for head in self.card.heads for depth in head.taps(layers)}
        with collecting() as losses:
            output = self.language(inputs, state, layer_parts=self.layer_parts, taps=sorted(taps))
        if not losses:
            return output
        added = {name: torch.stack(each).sum() for name, each in losses.items()}
        added = {name: loss + output.aux_losses.get(name, 0) for name, loss in added.items()}
        return replace(output, aux_losses={**output.aux_losses, **added})

    def _draft(self, batch: Batch, state: State | None) -> LanguageInputs:
        ids_BT = batch.ids_BT
        assert ids_BT is not None
        main = self.card.main
        assert main is not None
        starts = [0] * len(ids_BT) if state is None else state.lengths
        lengths = batch.lengths or (ids_BT.shape[1],) * len(ids_BT)
        visibility = batch.visibility or Visibility.causal_rows(
            lengths, ids_BT.shape[1], starts=starts, device=ids_BT.device
        )
        positions = visibility.blocks_BT if batch.positions is None else batch.positions
        if self.card.virtual_tokens:
            positions = positions + self.card.virtual_tokens
        if state is not None and state.shift_B is not None:
            positions = positions + state.shift_B[:, None]
        no_words_BT = (ids_BT >= main.num_readable) | (ids_BT < 0)
        self._check_ids(ids_BT, no_words_BT & (visibility.segments_BT != PADDING))
        if batch.target_BT is not None:
            self._check_ids(batch.target_BT, (batch.target_BT >= main.vocab_size) | (batch.target_BT < 0))
        return LanguageInputs(
            ids_BT,
            self._words(ids_BT),
            positions,
            visibility,
            batch.lengths,
            target_BT=batch.target_BT,
            target_lengths=batch.target_lengths,
            kinds_BT=batch.kinds_BT,
            prompts=batch.prompts or (tuple(lengths) if not any(starts) else (0,) * len(ids_BT)),
            regions=batch.regions,
        )

    def _words(self, ids_BT: Tensor) -> Tensor:
        """The vectors of the ids, that of token 0 at placeholders outside the vocabulary."""
        assert self.card.main is not None
        no_words_BT = (ids_BT >= self.card.main.num_readable) | (ids_BT < 0)
        return self.language.embed(ids_BT.masked_fill(no_words_BT, 0))

    def _check_ids(self, ids_BT: Tensor, no_words_BT: Tensor) -> None:
        """Ids outside the vocabulary must be placeholders of a fusion; anything else would be read as token 0."""
        places = [place[1] for place in (config.placeholder() for config in self.card.fusion) if place]
        places += [token_id for config in self.card.fusion for token_id in config.control_ids]
        for place in places:
            no_words_BT = no_words_BT & (ids_BT != place)
        if bool(no_words_BT.any()):
            row, column = no_words_BT.nonzero()[0].tolist()
            raise BeholderError(
                f"row {row} has the id {int(ids_BT[row, column])} at position {column}, which is neither one of the "
                f"{self.card.main.num_readable if self.card.main else 0} words of {self.card.name} nor a placeholder; "
                "use the tokenizer that belongs to it"
            )

    def apply_heads(
        self,
        batch: Batch,
        branches: Mapping[str, BranchOutput],
        language: LanguageOutput | None,
        state: State | None = None,
        outputs: Collection[str] | None = None,
    ) -> dict[str, Any]:
        """Every head's output by name, of those that `outputs` names where it is given."""
        inputs = HeadInputs(
            hidden_BTD=None if language is None else language.hidden_BTD,
            pooled_BD=None if language is None else language.pooled_BD,
            fused_BD=None if language is None else language.fused_BD,
            backward_BTD=None if language is None else language.backward_BTD,
            unembed=None if language is None else self.language.logits,
            ids_BT=batch.ids_BT,
            lengths=batch.lengths if batch.ids_BT is not None or language is None else language.lengths,
            token_spans=token_spans(batch, self.card),
            branches=branches,
            taps={} if language is None else language.taps,
            regions=batch.regions,
        )
        found = {}
        for config, head in zip(self.card.heads, self.heads, strict=True):
            assert isinstance(head, Head)
            if (language is None and config.reads_text) or config.output not in (outputs or (config.output,)):
                continue
            given = head(inputs, state)
            if given is not None:
                found[config.output] = given
        return found


def token_spans(batch: Batch, card: Card) -> tuple[TokenSpan, ...]:
    """Where each picture's feature runs lie in the rows."""
    spans: list[TokenSpan] = []
    if batch.ids_BT is None or not batch.plans:
        return ()
    for fusion in card.fusion:
        placeholder = fusion.placeholder()
        if placeholder is None:
            continue
        branch, token_id = placeholder
        for row, (ids_T, plans) in enumerate(zip(batch.ids_BT, batch.plans, strict=True)):
            places = (ids_T == token_id).nonzero().flatten().tolist()
            used = 0
            for picture, plan in enumerate(plan for plan in plans if plan.branch == branch):
                for piece in plan.pieces:
                    if isinstance(piece, Features) and piece.num_tokens:
                        run = places[used : used + piece.num_tokens]
                        used += piece.num_tokens
                        spans.append(TokenSpan(row, run[0], run[-1] + 1, branch, picture))
    return tuple(dict.fromkeys(spans))  # two fusions may share a placeholder


def merge_layer_parts(
    given: Sequence[Mapping[int, Mapping[str, nn.Module]]], num_layers: int
) -> dict[int, dict[str, nn.Module]]:
    """All fusions' modules by layer and slot; raises `BeholderError` where two want one slot, or a language part of
    `num_layers` layers has no such place.
    """
    merged: dict[int, dict[str, nn.Module]] = {}
    for parts in given:
        for layer, slots in parts.items():
            if not 0 <= layer < num_layers:
                raise BeholderError(
                    f"a fusion adds to layer {layer} of a language part of {num_layers} layers"
                )
            for slot, module in slots.items():
                if slot not in SLOTS:
                    raise UnknownName("slot of a layer", slot, SLOTS)
                if slot in merged.setdefault(layer, {}):
                    raise BeholderError(f"two fusions put a module into slot {slot!r} of layer {layer}")
                merged[layer][slot] = module
    return merged


def build(card: Card, size: str = "full", *, device: str | torch.device = "cpu", seed: int = 0) -> Model:
    """A model with random weights. size: `full`, or `tiny` for tests; device `meta` allocates nothing.

    The same seed gives the same weights; the global random state is left alone.
    """
    if size not in ("full", "tiny"):
        raise UnknownName("size", size, ("full", "tiny"))
    chosen = card.tiny() if size == "tiny" else card
    if torch.device(device).type == "meta":
        with torch.device(device), NoDraws():
            return Model(chosen).eval()
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        return Model(chosen).eval()


DRAWS = (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)


class NoDraws(TorchFunctionMode):
    """Leaves out drawing random values, which on the meta device does nothing but load a second of torch's modules."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in DRAWS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
