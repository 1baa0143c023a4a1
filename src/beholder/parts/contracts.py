"""What the kinds of part promise each other. The one forward in `model.py` uses nothing else.

B rows, T text positions, N packed feature tokens, D width, V views, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from beholder.config import Config
from beholder.media.plan import AtMost, Exact, Grid, PicturePlan, Size, View
from beholder.media.regions import Region
from beholder.parts.layer_parts import SLOTS as SLOTS
from beholder.parts.layer_parts import LayerParts as LayerParts

if TYPE_CHECKING:
    from beholder.parts.blocks.masks import Visibility
    from beholder.parts.language.state import State


@dataclass(frozen=True)
class Packed:
    """Feature tokens of several views, one after the other, without padding.

    tokens_ND: the tokens in raster order of each view's grid
    grids:     one per view; their token counts add up to N
    taps:      features of other depths by layer or stage number, each on its own grids
    pooled_VD: one vector per view where the encoder makes one
    """

    tokens_ND: Tensor
    grids: tuple[Grid, ...]
    taps: Mapping[int, Packed] = field(default_factory=dict)
    pooled_VD: Tensor | None = None

    def __post_init__(self) -> None:
        want, got = sum(grid.num_tokens for grid in self.grids), self.tokens_ND.shape[0]
        if want != got:
            raise ValueError(f"{len(self.grids)} grids hold {want} tokens but {got} were given")

    def split(self) -> list[Tensor]:
        """The tokens of each view, (n, D)."""
        return list(self.tokens_ND.split([grid.num_tokens for grid in self.grids]))


class EncoderConfig(Config):
    """Settings of an encoder of views. `dim` is the width of the tokens it gives."""

    dim: int

    def grid(self, size: Size) -> Grid:
        """The token grid of a view of (rows, columns); raises `BeholderError` for a size it cannot take."""
        raise NotImplementedError

    def view_grid(self, view: View) -> Grid:
        """The token grid of a view; encoders of runs of frames count those as well."""
        return self.grid(view.size)

    @property
    def out_dim(self) -> int:
        """Width of `Packed.tokens_ND`, after taps are joined."""
        return self.dim

    @property
    def pooled_dim(self) -> int:
        """Width of `Packed.pooled_VD`."""
        return self.dim

    def build(self) -> Encoder:
        raise NotImplementedError


class Encoder(nn.Module):
    """views: V tensors (C, rows, columns) -> `Packed` on the grids that `config.grid` foretells. whole_pictures: the views of a
    picture come together, because they see each other.
    """

    whole_pictures: ClassVar[bool] = False

    def forward(self, views: Sequence[Tensor]) -> Packed:
        raise NotImplementedError

    def unused_parameters(self, *, pooled: bool) -> set[str]:
        """Names of parameters on which the tokens (with `pooled`: the pooled vectors) do not depend. They are kept so that
        a published checkpoint can be written out again whole, and get no gradient.
        """
        return set()


class VisionConfig(EncoderConfig):
    """An encoder of pictures: views are (3, height, width), normalised. `image_size`: pixels per side it was made for."""

    image_size: int

    @property
    def reads_masks(self) -> bool:
        """Whether views may have a fourth channel, a normalised mask."""
        return False


class AudioConfig(EncoderConfig):
    """An encoder of sound: views are spectrograms (1, bins, frames) or waveforms (1, 1, samples). `size`: (rows, columns)
    of the views it was made for.
    """

    size: Size

    @property
    def channels(self) -> int:
        """Of a view."""
        return 1

    def build(self) -> AudioEncoder:
        raise NotImplementedError


class AudioEncoder(Encoder):
    """columns: how many of each view's columns are no padding, all where None. Tokens are given for those alone."""

    def forward(self, views: Sequence[Tensor], columns: Sequence[int] | None = None) -> Packed:
        raise NotImplementedError


@dataclass(frozen=True)
class TextInputs:
    """The text that pictures stand in: the language part's ids and their vectors; `lengths`: tokens of each row, None where
    all are full.
    """

    ids_BT: Tensor
    embeddings_BTD: Tensor
    lengths: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Context:
    """What a connector may read besides the tokens of its branch's first encoder.

    encoders: what the branch's other encoders gave for the same views
    plans:    per row its pictures in order; the views of a picture follow each other. () where nothing was planned
    words:    ids (B, W) of each row's question in a vocabulary of the connector's own and which are no padding (B, W)
    text:     what the language part will read
    views:    what the branch's encoders saw
    beside:   whether other branches see something in the same batch
    """

    encoders: tuple[Packed, ...] = ()
    plans: tuple[tuple[PicturePlan, ...], ...] = ()
    words: tuple[Tensor, Tensor] | None = None
    text: TextInputs | None = None
    views: tuple[Tensor, ...] = ()
    beside: bool = False

    @property
    def pictures(self) -> tuple[PicturePlan, ...]:
        """The plans of all pictures, row after row."""
        return tuple(plan for row in self.plans for plan in row)

    @property
    def rows(self) -> tuple[int, ...]:
        """The row of each picture."""
        return tuple(row for row, plans in enumerate(self.plans) for _ in plans)


class ConnectorConfig(Config):
    """Settings of a map from encoder tokens to tokens of the language model's width."""

    @property
    def reads_pooled(self) -> bool:
        """Whether it uses the encoder's pooled vectors in place of its tokens."""
        return False

    def grid(self, grid: Grid) -> Grid:
        """The grid that comes out for one view."""
        return grid

    def grids(self, views: tuple[View, ...], grids: tuple[Grid, ...]) -> tuple[Grid, ...]:
        """The grids that come out for one picture or recording, from those of its views. Connectors that read views together
        (frames over time, slices and the whole) give another number of grids than of views.
        """
        return tuple(self.grid(grid) for grid in grids)

    def grids_over(
        self, encoders: tuple[EncoderConfig, ...], views: tuple[View, ...], grids: tuple[Grid, ...]
    ) -> tuple[Grid, ...]:
        """`grids` for a branch of these encoders, grids being those that the first encoder that looks at each view gives."""
        return self.grids(views, grids)

    @property
    def reads_text(self) -> bool:
        """Whether what comes out depends on the question (`Context.words` or `Context.text`)."""
        return False

    @property
    def reads_words(self) -> bool:
        """Whether it needs the question in a vocabulary of its own (`Context.words`)."""
        return False

    def num_tokens(self, grid: Grid) -> Exact | AtMost:
        """How many tokens one view gives."""
        return Exact(self.grid(grid).num_tokens)

    def own_dim(self, in_dim: int) -> int | None:
        """The width that comes out whatever is asked for; None where it is the one asked for."""
        return None

    def build(self, in_dim: int, out_dim: int) -> Connector:
        raise NotImplementedError

    def build_over(self, encoders: tuple[EncoderConfig, ...], out_dim: int | None) -> Connector:
        """The connector of a branch of these encoders; out_dim None: as wide as what it reads."""
        in_dim = encoders[0].pooled_dim if self.reads_pooled else encoders[0].out_dim
        return self.build(in_dim, in_dim if out_dim is None else out_dim)


class Connector(nn.Module):
    """`Packed` of width in_dim -> `Packed` of width out_dim."""

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        raise NotImplementedError

    def unused_parameters(self) -> set[str]:
        """Names of parameters on which the tokens do not depend, kept as in `Encoder.unused_parameters`."""
        return set()


@dataclass(frozen=True)
class LanguageInputs:
    """What a fusion hands to a language part.

    ids_BT:         the token ids; at features' places a placeholder that may lie outside the vocabulary
    embeddings_BTD: one row per sequence, left-aligned; positions after a row's length are padding
    positions:      (B, T) or (axes, B, T) for multi-axis rotary positions
    visibility:     who sees whom, by segment, parent and block
    lengths:        tokens in each row; None where every row is full
    routes_BT:      0 for text, a modality number elsewhere; layer parts may act on some routes only
    cross:          branch -> (tokens (B, N, D), what marks see (B, M, N), marks of queries (B, T)) for cross-attention; a
                    token's mark is the number of the last run of placeholders before it, and mark 0 that of tokens before all
    memory:         what cross-attention of every layer reads, an encoder's output (B, S, D)
    memory_keep:    (B, S) booleans, False where the memory is padding; None where nothing is
    target_BT, target_lengths: an encoder-decoder's own tokens, where ids are the encoder's
    kinds_BT:       kinds of tokens that have a vector each (BERT's token types); all 0 where None
    own_BT:         True at features that bring their own place and kind, so that the language part adds none
    late_BTD:       what is added behind the norm of the embeddings; features are then nothing else
    deep:           layer number -> (B, T, D) that is added to the states behind that layer
    regions:        per row the regions of its pictures that the text speaks of, in order
    prompts:        tokens of each row that are the question, the others being the answer; None where that is not known
    in_context:     whoever made the positions knows that they are within the context, so that nobody has to look
    """

    ids_BT: Tensor
    embeddings_BTD: Tensor
    positions: Tensor
    visibility: Visibility
    lengths: tuple[int, ...] | None = None
    routes_BT: Tensor | None = None
    cross: Mapping[str, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)
    memory: Tensor | None = None
    memory_keep: Tensor | None = None
    target_BT: Tensor | None = None
    target_lengths: tuple[int, ...] | None = None
    kinds_BT: Tensor | None = None
    own_BT: Tensor | None = None
    late_BTD: Tensor | None = None
    deep: Mapping[int, Tensor] = field(default_factory=dict)
    regions: tuple[tuple[Region, ...], ...] = ()
    prompts: tuple[int, ...] | None = None
    in_context: bool = False


@dataclass(frozen=True)
class LanguageOutput:
    """hidden_BTD after the last norm; pooled_BD where the part makes one vector a row, fused_BD where it makes another one
    that has read the picture; taps by layer (0 = embeddings, i = after layer i); `aux_losses` to be added to the loss;
    `router_stats` of experts; `lengths` of hidden_BTD's rows, None where all are full; an encoder-decoder's `memory` where it
    was made; backward_BTD: hidden states of a decoder that reads each row from its end.
    """

    hidden_BTD: Tensor
    pooled_BD: Tensor | None = None
    fused_BD: Tensor | None = None
    taps: Mapping[int, Tensor] = field(default_factory=dict)
    state: State | None = None
    aux_losses: Mapping[str, Tensor] = field(default_factory=dict)
    router_stats: Mapping[str, Tensor] = field(default_factory=dict)
    lengths: tuple[int, ...] | None = None
    memory: Tensor | None = None
    backward_BTD: Tensor | None = None

    def last(self) -> Tensor:
        """Each row's last hidden state."""
        if self.lengths is None:
            return self.hidden_BTD[:, -1]
        rows_B = torch.arange(len(self.lengths), device=self.hidden_BTD.device)
        return self.hidden_BTD[rows_B, torch.tensor(self.lengths, device=rows_B.device) - 1]


class LanguageConfig(Config):
    """A language part. `dim`: its width; `context`: most tokens of a sequence; `start_id`: of answers where `reads_apart`."""

    dim: int
    vocab_size: int
    num_layers: int
    context: int
    start_id: int

    def room(self, prompt: int) -> int:
        """Most tokens of an answer to a prompt of so many tokens."""
        return self.context - prompt

    @property
    def reads_apart(self) -> bool:
        """Whether an encoder of its own reads prompts, so that answers begin at position 0 (T5)."""
        return False

    @property
    def in_segments(self) -> bool:
        """Whether a row may hold several texts that do not see each other, as its `Visibility` says."""
        return False

    @property
    def fills_context(self) -> bool:
        """Whether texts must be padded to `context` tokens, as the model was trained (SigLIP)."""
        return False

    @property
    def num_readable(self) -> int:
        """How many ids have a vector; the last may be ids that are never written."""
        return self.vocab_size

    @property
    def feature_dim(self) -> int:
        """Width that branches' features must have to meet this part."""
        return self.dim

    def build(self) -> Language:
        raise NotImplementedError


class Language(nn.Module):
    """inputs and state -> hidden states. `embed` turns ids (B, T) into (B, T, D)."""

    def embed(self, ids_BT: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(
        self,
        inputs: LanguageInputs,
        state: State | None = None,
        *,
        layer_parts: LayerParts | None = None,
        taps: Sequence[int] = (),
    ) -> LanguageOutput:
        raise NotImplementedError

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Scores over the vocabulary, (..., vocab_size)."""
        raise NotImplementedError


@dataclass(frozen=True)
class BranchOutput:
    """One branch's features for a batch, which row and picture each belongs to, and what its encoders gave."""

    packed: Packed
    plans: tuple[tuple[PicturePlan, ...], ...]  # per row, its pictures in order
    encoded: tuple[Packed, ...] = ()


class FusionConfig(Config):
    """Settings of one way features meet the language model. reads_encoded: what encoders gave as well."""

    reads_encoded: ClassVar[bool] = False

    def placeholder(self) -> tuple[str, int] | None:
        """(branch, token id) whose positions in the prompt stand for features; None where there are none."""
        return None

    @property
    def reads_prompt(self) -> bool:
        """Whether tokens of a question see each other both ways, pictures included (PaliGemma)."""
        return False

    @property
    def in_segments(self) -> bool:
        """Whether it does the same for a text wherever it stands in a row that holds several, as their `Visibility` says."""
        return False

    @property
    def by_row(self) -> bool:
        """Whether every row has pictures of its own although nothing in its text stands for them."""
        return False

    def placed(self, plan: PicturePlan) -> PicturePlan:
        """The plan of a picture with what this fusion puts into the prompt for it."""
        return plan

    @property
    def region_branch(self) -> str | None:
        """The branch whose pictures' regions stand in the prompt as features; None where none do."""
        return None

    @property
    def control_ids(self) -> tuple[int, ...]:
        """Further ids that may lie outside the vocabulary, because this fusion fills their places."""
        return ()

    def region_repeats(self, region: Region, plan: PicturePlan) -> int:
        """How often the control tokens of a region's features stand in the prompt."""
        return 1

    def region_ids(self, region: Region, plan: PicturePlan) -> tuple[int, ...]:
        """The ids that a region's features take the place of."""
        return ()

    def build(self, language: LanguageConfig | None) -> Fusion:
        raise NotImplementedError


class Fusion(nn.Module):
    """Owns the modules it adds to language layers, and makes the language part's inputs."""

    def layer_parts(self, language: LanguageConfig) -> LayerParts:
        """{layer number: {slot: module}}; the same modules at each call."""
        return {}

    def read(self, ids_BT: Tensor, branches: Mapping[str, BranchOutput]) -> Tensor:
        """The ids that the language part reads, with words for what the branches gave; before all `prepare`."""
        return ids_BT

    def prepare(self, draft: LanguageInputs, branches: Mapping[str, BranchOutput]) -> LanguageInputs:
        """Put the branches' features into the inputs. Fusions of a card run in order, each on the last one's result."""
        raise NotImplementedError


@dataclass(frozen=True)
class TokenSpan:
    """Positions [start, stop) of row `row` that hold features of picture `picture` of branch `branch`."""

    row: int
    start: int
    stop: int
    branch: str
    picture: int


@dataclass(frozen=True)
class HeadInputs:
    """All a head may read: hidden states (None without text), one vector a row, the language part's map to its
    vocabulary, the ids with the tokens of each row (None where all are full), where pictures lie, the branches' features
    with their plans, the states behind those layers that heads ask for (`HeadConfig.taps`), and the regions of each row.
    """

    hidden_BTD: Tensor | None = None
    pooled_BD: Tensor | None = None
    fused_BD: Tensor | None = None
    backward_BTD: Tensor | None = None
    unembed: Callable[[Tensor], Tensor] | None = None
    ids_BT: Tensor | None = None
    lengths: tuple[int, ...] | None = None
    token_spans: tuple[TokenSpan, ...] = ()
    branches: Mapping[str, BranchOutput] = field(default_factory=dict)
    taps: Mapping[int, Tensor] = field(default_factory=dict)
    regions: tuple[tuple[Region, ...], ...] = ()


class HeadConfig(Config):
    """Settings of one kind of output; `output` names it: text, similarity, boxes, ..."""

    output: ClassVar[str]
    reads_text: ClassVar[bool] = True  # False: works on branches alone as well

    @property
    def hidden_of(self) -> tuple[int, ...]:
        """Token ids whose hidden states generation must keep for this head."""
        return ()

    def taps(self, num_layers: int) -> tuple[int, ...]:
        """Depths of the language part whose states this head reads: 0 the embeddings, i behind layer i."""
        return ()

    def build(self, language: LanguageConfig | None) -> Head:
        raise NotImplementedError


class Head(nn.Module):
    """`HeadInputs` (and state) -> one kind of output. Where it has none for them, it gives None."""

    def unused_parameters(self) -> set[str]:
        """Names of parameters on which what it gives for one picture does not depend."""
        return set()

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Any:
        raise NotImplementedError
