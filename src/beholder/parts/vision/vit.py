"""The vision transformer (2010.11929) over pictures of one size or of many (NaViT, 2307.06304), in every published form: what
is put before the patches, how they know their places, how layers are joined and what leaves the encoder are settings.

V views, S sequences (frames of views), T tokens of one with those in front, N packed tokens, D width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.config import Config
from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Grid, Size, View
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.masks import PADDING, Visibility
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.moe import Experts
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import learned
from beholder.parts.blocks.rotary2d import AxialRotary
from beholder.parts.blocks.step import NO_PARTS, Step
from beholder.parts.blocks.transformer import Arrangement, TransformerLayer
from beholder.parts.contracts import Encoder, LayerParts, Packed, VisionConfig
from beholder.parts.vision.patches import Patches, Windows
from beholder.parts.vision.pools import AttentionPool, DensePool, QueryPool
from beholder.parts.vision.positions import FrameTable, GridTable, RelativeTable, RowsColumns, Sinusoids
from beholder.parts.vision.views import by_size, size_of

POOLS = (None, "cls", "cls twice", "mean", "cls and mean", "dense", "attention", "query")
RELATIVE = (None, "layers", "shared")


@dataclass(frozen=True)
class Take(Config):
    """Which features leave the encoder. layers: depths whose features are joined along channels; -1 is the last layer,
    0 the embeddings. norm: apply the final norm to them, where there is one. taps: depths given apart, not normed.
    front: the tokens in front of the patches are given too, and a view's tokens are then one row (BLIP, IDEFICS).
    """

    layers: tuple[int, ...] = (-1,)
    norm: bool = True
    taps: tuple[int, ...] = ()
    front: bool = False


@dataclass(frozen=True)
class ViT(VisionConfig):
    """image_size: pixels per side that the position table was made for; patch: pixels per side of a patch.

    In front of the patches: a learned class token (cls), then so many more learned tokens (registers, 2309.16588, or DeiT's
    distillation token; None and 0 differ in files alone). mask_token: kept for masked pretraining, unused here.
    pre_norm: a norm before the first layer (CLIP); post_norm: one behind the last. relative: bias of scores by relative
    place, a table for each of the `layers` or one `shared` (BEiT). windows: layers that see a neighbourhood alone.
    pool: None; `cls` (the normed class token); `cls twice` (normed again, BLIP's); `mean` (norm of the mean patch); `cls and
    mean` (of normed tokens, joined); `dense` (BERT's); `attention` (SigLIP's probe); `query` (AIMv2's). prefix: in training
    only so many first tokens, a number drawn for each sequence, see both ways, and the others what is before them (AIM,
    2401.08541, section 3.2).
    """

    image_size: int
    patch: int
    dim: int
    num_layers: int
    attention: Attention
    mlp: FeedForward | Experts
    arrangement: Arrangement = Arrangement()
    norm: Norm = Norm("layer", 1e-5)
    cls: bool = False
    registers: int | None = None
    mask_token: bool = False
    patches: Patches = Patches()
    pre_norm: bool = False
    post_norm: bool = True
    positions: GridTable | FrameTable | RowsColumns | Sinusoids | None = GridTable()
    relative: str | None = None
    windows: Windows | None = None
    pool: str | None = None
    take: Take = field(default_factory=Take)
    prefix: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (("pool", self.pool, POOLS), ("relative", self.relative, RELATIVE)):
            if value not in known:
                raise UnknownName(f"ViT {name}", str(value), [str(k) for k in known])
        deepest, wanted = self.num_layers, self.take.layers + self.take.taps
        if not self.take.layers or not all(-deepest - 1 <= layer <= deepest for layer in wanted):
            raise BeholderError(
                f"an encoder of {deepest} layers has no features at depths {wanted}; "
                f"take some of {-deepest - 1} to {deepest}"
            )
        needs_cls = self.relative is not None or (self.pool or "").startswith(("cls", "dense"))
        if needs_cls and not self.cls:
            raise BeholderError(
                f"relative {self.relative!r} and pool {self.pool!r} read a class token; set cls=True"
            )
        if self.windows is not None and (self.front or self.relative):
            raise BeholderError("windows hold patches alone; no class token, registers or relative places")
        if isinstance(self.positions, FrameTable) and not self.patches.joint:
            raise BeholderError("a table of frames is for frames that see each other; set patches.joint=True")
        rotary = self.attention.rotary
        planar = rotary is not None and not (isinstance(rotary, AxialRotary) and rotary.of_frames)
        apart = self.relative is not None or self.windows is not None or planar
        if self.patches.joint and apart:
            raise BeholderError(
                "frames that see each other have one table of places; no others, and no windows"
            )
        if self.patches.frames > 1 and not self.patches.joint and self.pool is not None:
            raise BeholderError(f"pool {self.pool!r} makes a vector of a picture; runs of frames have none")

    @property
    def side(self) -> int:
        """Rows (and columns) of the position table."""
        return self.image_size // self.patch

    @property
    def front(self) -> int:
        """Tokens in front of the patches."""
        return int(self.cls) + (self.registers or 0)

    @property
    def out_dim(self) -> int:
        return self.dim * len(self.take.layers)

    @property
    def reads_masks(self) -> bool:
        return self.patches.mask

    @property
    def pooled_dim(self) -> int:
        return self.dim * (2 if self.pool == "cls and mean" else 1)

    def depth(self, layer: int) -> int:
        """A depth counted from either end, as one from 0 (embeddings) to `num_layers`."""
        return layer % (self.num_layers + 1)

    def grid(self, size: Size, frames: int = 1) -> Grid:
        """frames: patches that follow each other in time."""
        plane = self.plane(size)
        if self.take.front and self.patches.joint:
            return Grid(1, 1, self.front + frames * plane.num_tokens)
        if self.take.front:
            return Grid(frames, 1, self.front + plane.num_tokens)
        return plane._replace(frames=frames)

    def view_grid(self, view: View) -> Grid:
        return self.grid(view.size, max(len(view.numbers) // self.patches.frames, 1))

    def planes(self, size: Size, frames: int) -> list[Grid]:
        """The patches of each sequence that a view gives: one for each run of frames, or one of all."""
        plane = self.plane(size)
        return [plane._replace(frames=frames)] if self.patches.joint else [plane] * frames

    def plane(self, size: Size) -> Grid:
        """The patches of a view, or of one frame of it."""
        height, width = size
        if min(size) < self.patch:
            raise BeholderError(
                f"a view of {width}x{height} pixels is smaller than one patch of {self.patch}"
            )
        fixed = isinstance(self.positions, FrameTable) or (
            isinstance(self.positions, GridTable) and self.positions.resize is None
        )
        if fixed and (height, width) != (self.image_size, self.image_size):
            raise BeholderError(
                f"this encoder takes {self.image_size}x{self.image_size} pixels, not {width}x{height}; "
                "give its position table a resize or change the geometry"
            )
        grid = Grid(1, height // self.patch, width // self.patch)
        if isinstance(self.positions, RowsColumns) and max(grid) >= self.positions.count:
            raise BeholderError(
                f"a view of {width}x{height} pixels has more rows or columns of patches than {self.positions.count - 1}"
            )
        return grid

    def tiny(self) -> ViT:
        """Two layers of width 32 on 2 x 2 patches; depths to take are kept where they exist."""
        patch = 14 if self.patches.stem is None else 16
        layers, taps = (
            tuple(max(layer, -2) if layer < 0 else min(layer, 2) for layer in depths)
            for depths in (self.take.layers, self.take.taps)
        )
        take = self.take.but(layers=layers, taps=taps)
        small = super().tiny().but(registers=self.registers and 2)
        return small.but(image_size=2 * patch, patch=patch, dim=32, num_layers=2, take=take)

    def build(self) -> VisionTransformer:
        return VisionTransformer(self)


class VisionTransformer(Encoder):
    """`Encoder` by self-attention over patches. Views are (3, h, w), or (3, frames, h, w) where patches span frames; each run
    of frames that a patch spans is seen by itself. layer_parts: modules of others in the layers, by number and slot.
    """

    def __init__(self, config: ViT) -> None:
        super().__init__()
        self.config, self.draws = config, config.prefix
        dim, norm, attention = config.dim, config.norm, config.attention
        self.patch = config.patches.build(dim, config.patch)
        self.patch_norm = norm.build(dim) if config.patches.norm else None
        self.cls = learned(dim) if config.cls else None
        self.registers = learned(config.registers, dim) if config.registers is not None else None
        self.mask = learned(dim) if config.mask_token else None
        table = config.positions if isinstance(config.positions, (GridTable, FrameTable)) else None
        every = isinstance(table, GridTable) and table.registers
        spare = isinstance(table, GridTable) and table.spare
        cls = config.cls and not (isinstance(table, GridTable) and table.patches)
        self.placed = 0 if table is None else config.front if every else int(cls or spare)
        places = config.side**2 * (table.frames if isinstance(table, FrameTable) else 1)
        if isinstance(table, FrameTable) and not table.learned:
            table, self.placed = None, 0
        self.positions = None if table is None else learned(places + self.placed, dim)
        lines = config.positions.count if isinstance(config.positions, RowsColumns) else 0
        self.rows, self.columns = (learned(lines, dim) if lines else None for _ in range(2))
        turns = isinstance(attention.rotary, AxialRotary) and attention.rotary.learned_cls
        self.cls_angles = learned(attention.width(dim) // 2) if turns else None
        num_tables = {None: 0, "shared": 1, "layers": config.num_layers}[config.relative]
        self.relative = nn.ModuleList(
            RelativeTable(config.side, attention.num_heads) for _ in range(num_tables)
        )
        self.pre_norm = norm.build(dim) if config.pre_norm else None
        self.blocks = nn.ModuleList(
            TransformerLayer(dim, attention, config.mlp, config.arrangement, norm=norm, index=index)
            for index in range(config.num_layers)
        )
        self.post_norm = norm.build(dim) if config.post_norm else None
        self.pool = _pool(config)

    def forward(self, views: Sequence[Tensor], layer_parts: LayerParts | None = None) -> Packed:
        config, take = self.config, self.config.take
        grids = tuple(config.grid(size_of(view), config.patches.steps(view)) for view in views)
        sequences = [x_TD for x_tTD in by_size(views, self._embed) for x_TD in x_tTD]
        pairs = zip(views, grids, strict=True)
        planes = [plane for view, grid in pairs for plane in config.planes(size_of(view), grid.frames)]
        kept = self._run(sequences, planes, layer_parts or {})
        skipped = 0 if take.front else config.front
        patches = {depth: torch.cat([x_TD[skipped:] for x_TD in given]) for depth, given in kept.items()}
        features = [patches[config.depth(layer)] for layer in take.layers]
        if take.norm:
            features = [self._normed(x_ND) for x_ND in features]
        taps = {layer: Packed(patches[config.depth(layer)], grids) for layer in take.taps}
        pooled = torch.stack(by_size(kept[config.num_layers], self._pooled)) if config.pool else None
        return Packed(torch.cat(features, -1), grids, taps, pooled)

    def unused_parameters(self, *, pooled: bool) -> set[str]:
        config = self.config
        reads_pool = pooled and config.pool is not None
        wanted = (*config.take.layers, *((config.num_layers,) if reads_pool else ()))
        depth = max(config.depth(layer) for layer in wanted)
        unused = [f"{part}.{n}." for part in ("blocks", "relative") for n in range(depth, config.num_layers)]
        unused += ["mask"] if reads_pool else ["mask", "pool."]
        unused += [] if reads_pool or config.take.norm else ["post_norm."]
        shared = "relative.0." if depth and config.relative == "shared" else ()
        names = {name for name, _ in self.named_parameters() if name.startswith(tuple(unused))}
        return {name for name in names if not name.startswith(shared)}

    @property
    def by_plane(self) -> bool:
        """Whether sequences of unequal grids run apart."""
        return self.config.relative is not None

    def _embed(self, pixels: Tensor) -> Tensor:
        """Views of one size, (V, 3, h, w) or (V, 3, frames, h, w), as tokens (V, t, T, D)."""
        config = self.config
        weight = self.patch.weight
        assert isinstance(weight, Tensor)
        pixels = pixels.to(weight.dtype)
        flat = config.patches.frames == 1 and not config.patches.joint
        if flat and pixels.ndim == 5:  # frames one by one
            maps = (
                self.patch(pixels.transpose(1, 2).flatten(0, 1))
                .unflatten(0, (len(pixels), -1))
                .transpose(1, 2)
            )
        else:
            maps = self.patch(pixels if flat else config.patches.with_frames(pixels))
        height, width = maps.shape[-2:]
        x_VtTD = (maps[:, :, None] if maps.ndim == 4 else maps).flatten(3).permute(0, 2, 3, 1)
        x_VtTD = x_VtTD if self.patch_norm is None else self.patch_norm(x_VtTD)
        front_PD = x_VtTD.new_zeros(0, config.dim)
        for token in (self.cls, self.registers):
            front_PD = front_PD if token is None else torch.cat((front_PD, token.view(-1, config.dim)))
        if config.patches.joint:
            x_VtTD = x_VtTD.flatten(1, 2)[:, None]
        if isinstance(config.positions, FrameTable):
            own = self.positions
            table_ND = config.positions.waves(config.side, config.dim) if own is None else own[self.placed :]
            table_TD = config.positions.resized(table_ND, maps.shape[2])
            x_VtTD = x_VtTD + table_TD.to(x_VtTD)
            if own is not None:
                count = self.placed
                front_PD = torch.cat((front_PD[:count] + own[:count], front_PD[count:]))
        elif self.positions is not None:
            assert isinstance(config.positions, GridTable)
            count = self.placed
            table_ND = self.positions.roll(count, 0) if config.positions.cls_last else self.positions
            x_VtTD = x_VtTD + config.positions.resized(table_ND[count:], height, width)
            front_PD = torch.cat((front_PD[:count] + table_ND[:count], front_PD[count:]))
        elif isinstance(config.positions, RowsColumns) and self.rows is not None and self.columns is not None:
            x_VtTD = x_VtTD + config.positions.summed(self.rows, self.columns, height, width)
        elif isinstance(config.positions, Sinusoids):
            table_TD = config.positions.table(height, width, config.dim, x_VtTD.device)
            x_VtTD = x_VtTD + table_TD.to(x_VtTD.dtype)
        x_VtTD = torch.cat((front_PD.expand(*x_VtTD.shape[:2], -1, -1), x_VtTD), 2)
        return x_VtTD if self.pre_norm is None else self.pre_norm(x_VtTD)

    def _run(
        self, sequences: Sequence[Tensor], planes: Sequence[Grid], layer_parts: LayerParts
    ) -> dict[int, list[Tensor]]:
        """What each wanted depth gives for each sequence (T, D). A bias by relative place is made for grids of one size;
        else all sequences run together.
        """
        config = self.config
        wanted = (*config.take.layers, *config.take.taps, *((config.num_layers,) if config.pool else ()))
        kept: dict[int, dict[int, Tensor]] = {config.depth(layer): {} for layer in wanted}
        groups: dict[Grid | None, list[int]] = {}
        for number, plane in enumerate(planes):
            groups.setdefault(plane if self.by_plane else None, []).append(number)
        for numbers in groups.values():
            together = [sequences[number] for number in numbers]
            of_group = [planes[number] for number in numbers]
            for depth, given in self._layers(together, of_group, kept, layer_parts).items():
                kept[depth].update(zip(numbers, given, strict=True))
        return {depth: [given[n] for n in range(len(sequences))] for depth, given in kept.items()}

    def _layers(
        self,
        sequences: list[Tensor],
        planes: Sequence[Grid],
        depths: Collection[int],
        layer_parts: LayerParts,
    ) -> dict[int, list[Tensor]]:
        """Sequences of one size are rows; of unequal sizes, or with windows, they follow each other in one row."""
        windows = self.config.windows
        orders = [windows.order(plane, sequences[0].device) for plane in planes] if windows else []
        rows = len(set(planes)) == 1 and windows is None
        if windows is not None:
            sequences = [x_TD[order_T] for x_TD, (order_T, _) in zip(sequences, orders, strict=True)]
        lengths = tuple(len(x_TD) for x_TD in sequences)
        x_BTD = torch.stack(sequences) if rows else torch.cat(sequences)[None]
        places = [order_T for order_T, _ in orders]
        positions = self._places(planes, places, rows=rows, device=x_BTD.device)
        near = self._step(x_BTD, positions, tuple(n for _, counts in orders for n in counts))
        if windows is not None and windows.stretched:
            positions = self._places(
                planes, places, rows=rows, device=x_BTD.device, stretched=windows.stretched
            )
        step = self._step(x_BTD, positions, () if rows else lengths)
        if self.config.prefix and self.training:
            step.queries = prefixes(lengths, rows=rows, device=x_BTD.device)
        given = {0: x_BTD} if 0 in depths else {}
        for number, block in enumerate(self.blocks[: max(depths)]):
            if self.relative:
                table = self.relative[number % len(self.relative)]
                step.bias_BHTS = table(planes[0].height, planes[0].width)
            seen = step if windows is None or number in windows.full else near
            x_BTD = block(x_BTD, seen, layer_parts.get(number, NO_PARTS))
            if number + 1 in depths:
                given[number + 1] = x_BTD
        parted = {d: list(given[d]) if rows else list(given[d][0].split(lengths)) for d in depths}
        if windows is None:
            return parted
        backs = [order_T.argsort() for order_T, _ in orders]
        return {d: [x_TD[back_T] for x_TD, back_T in zip(parted[d], backs, strict=True)] for d in depths}

    def _places(
        self,
        planes: Sequence[Grid],
        orders: Sequence[Tensor],
        *,
        rows: bool,
        device: torch.device,
        stretched: int = 0,
    ) -> Tensor | None:
        """Rows and columns (2, B, T) of all tokens for rotary positions; (0, 0), which does not turn, in front. stretched: to
        how many rows and columns; 0 leaves them.
        """
        rotary = self.config.attention.rotary
        if not isinstance(rotary, AxialRotary):
            return None
        front = (self.config.front, 0)
        rotary = rotary.but(reference=stretched) if stretched else rotary
        places = [F.pad(rotary.places(plane, device), front) for plane in planes]
        if orders:
            places = [place_2T[:, order_T] for place_2T, order_T in zip(places, orders, strict=True)]
        return torch.stack(places, 1) if rows else torch.cat(places, 1)[:, None]

    def _step(self, x_BTD: Tensor, positions: Tensor | None, segments: tuple[int, ...]) -> Step:
        step = Step(x_BTD.dtype, positions=positions, segments=segments)
        rotary = self.config.attention.rotary
        if self.cls_angles is not None and isinstance(rotary, AxialRotary):
            width = self.config.attention.width(self.config.dim)
            own = rotary.tables_of(self.cls_angles[None, None], x_BTD.dtype)
            is_cls_T = torch.zeros(x_BTD.shape[1], dtype=torch.bool, device=x_BTD.device)
            is_cls_T[[sum(segments[:number]) for number in range(len(segments) or 1)]] = True
            tables = zip(own, step.tables(rotary, width), strict=True)
            cos, sin = (torch.where(is_cls_T[:, None], first, others) for first, others in tables)
            step.set_tables(rotary, width, (cos, sin))
        return step

    def _normed(self, x: Tensor) -> Tensor:
        return x if self.post_norm is None else self.post_norm(x)

    def _pooled(self, x_VTD: Tensor) -> Tensor:
        """(V, D), of the last layer's tokens; (V, 2 D) of class token and mean."""
        front = self.config.front
        if self.config.pool in ("cls", "cls twice"):
            vector_VD = self._normed(x_VTD[:, 0])
            return vector_VD if self.config.pool == "cls" else self._normed(vector_VD)
        if self.config.pool == "mean":
            return self._normed(x_VTD[:, front:].mean(1))
        x_VTD = self._normed(x_VTD)
        if self.pool is not None:
            return self.pool(x_VTD)
        return torch.cat((x_VTD[:, 0], x_VTD[:, front:].mean(1)), -1)


def prefixes(lengths: Sequence[int], *, rows: bool, device: torch.device | None = None) -> Visibility:
    """Who sees whom in sequences that are rows, or follow each other in one: the first of each, at least one and not all, see
    each other.
    """
    blocks = [
        (torch.arange(length, device=device) - int(torch.randint(max(length - 1, 1), ()))).clamp(min=0)
        for length in lengths
    ]
    if rows:
        blocks_BT = torch.stack(blocks)
        return Visibility(torch.zeros_like(blocks_BT), blocks_BT)
    segments = [torch.full_like(block_T, number) for number, block_T in enumerate(blocks)]
    return Visibility(torch.cat(segments)[None], torch.cat(blocks)[None], (PADDING,) * len(blocks))


def _pool(config: ViT) -> nn.Module | None:
    """The pool's module, where it has weights."""
    if config.pool == "attention":
        return AttentionPool(config.dim, config.attention, config.mlp, config.norm)
    if config.pool == "query":
        return QueryPool(config.dim, config.attention.num_heads, bias=config.attention.qkv_bias)
    return DensePool(config.dim) if config.pool == "dense" else None
