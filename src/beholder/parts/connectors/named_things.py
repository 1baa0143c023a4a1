"""A connector that finds the things of a view and spells out, in the language model's own words, what each is.

V views, N cells of a view's grid, K things, W names, L letters, J columns of a word, I width of cells, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.media.plan import AtMost, Exact, Grid
from beholder.parts.blocks.positions import learned
from beholder.parts.connectors.spelling import Spelling
from beholder.parts.contracts import Connector, ConnectorConfig, Context, Packed

NAME_TOKENS, DIGITS, PLACES, CORNERS = 2, 10, 6, 4
PER_THING = NAME_TOKENS + 1 + CORNERS
SAME_THING = 0.45  # overlap of two boxes, as intersection over union, above which they are of one thing
CELLS = 8.0  # boxes reach at most so many cells from theirs


@dataclass(frozen=True)
class NamedThings(ConnectorConfig):
    """Tokens of a view: one of the background; `things` times two of a name, one of kind, colour, place and how many there are
    of it, and four of a box's edges in hundredths; `letters` of a word that is read. What a cell is the centre of is foretold
    for every cell (CenterNet, 1904.07850), with a box around it (FCOS, 1904.01355); of boxes that lie on each other the surest
    stays. What is said is the mean of learned vectors, weighted by how well they fit (Ovis, 2405.20797).

    base: from cells to the space of `words` names, of which the last is that of written words. fine: how many of a cell's
    channels are those of a grid twice as fine, folded, from which letters are read; 0: all, and the grid is as it is. hidden,
    spelling: widths of what finds things and of what reads letters.
    """

    base: ConnectorConfig
    words: int
    kinds: int
    colours: int
    things: int = 6
    letters: int = 6
    fine: int = 0
    hidden: int = 512
    spelling: int = 192

    def grid(self, grid: Grid) -> Grid:
        return Grid(1, 1, 1 + PER_THING * self.things + self.letters)

    def num_tokens(self, grid: Grid) -> Exact | AtMost:
        return Exact(self.grid(grid).num_tokens)

    def tiny(self) -> NamedThings:
        return self.but(
            base=self.base.tiny(),
            words=16,
            kinds=4,
            colours=3,
            things=2,
            letters=3,
            fine=0,
            hidden=24,
            spelling=24,
        )

    def build(self, in_dim: int, out_dim: int) -> Connector:
        return NamedThingsConnector(self, in_dim, out_dim)


@dataclass(frozen=True)
class Seen:
    """What is foretold of every cell: `names_VNW`, `kinds_VNK`, `colours_VNC`, `centres_VN` (before softmax and sigmoid),
    `boxes_VN4` (edges as shares of the view's sides: left, top, right, bottom); of every view `ground_VC`, its background.
    `words_VND` are the cells in the space of names, `fine_VChw` the map that letters are read from.
    """

    words_VND: Tensor
    names_VNW: Tensor
    kinds_VNK: Tensor
    colours_VNC: Tensor
    centres_VN: Tensor
    boxes_VN4: Tensor
    ground_VC: Tensor
    fine_VChw: Tensor


class NamedThingsConnector(Connector):
    """(N, in_dim) cells of each view -> (1 + 7 K + L, out_dim) tokens of each."""

    def __init__(self, config: NamedThings, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config, hidden = config, config.hidden
        self.base = config.base.build(in_dim, out_dim)
        self.names = learned(config.words, out_dim)
        self.norm = nn.LayerNorm(in_dim)
        self.look = nn.Linear(in_dim, hidden)
        self.centre = nn.Linear(hidden, 1)
        self.box = nn.Linear(hidden, CORNERS)
        self.kind = nn.Linear(hidden, config.kinds)
        self.colour = nn.Linear(hidden, config.colours + 1)
        self.ground = nn.Linear(2 * hidden, config.colours)
        self.spelling = Spelling(config.fine // 4 if config.fine else in_dim, config.letters, config.spelling)
        self.name_values = learned(NAME_TOKENS, config.words, out_dim)
        self.kind_values = learned(config.kinds, out_dim)
        self.colour_values = learned(config.colours + 1, out_dim)
        self.digit_values = learned(DIGITS, out_dim)
        self.hundredth_values = learned(DIGITS, out_dim)
        self.place_values = learned(PLACES, out_dim)
        self.letter_values = learned(self.spelling.classes, out_dim)
        self.nothing = learned(1, out_dim)
        self.rest = nn.Parameter(torch.zeros(out_dim))
        nn.init.constant_(self.centre.bias, -2.5)  # few cells are the centre of something
        nn.init.constant_(self.box.bias, 1.0)

    def forward(self, packed: Packed, context: Context | None = None) -> Packed:
        grids = tuple(self.config.grid(grid) for grid in packed.grids)
        if len(set(packed.grids)) > 1:
            views = zip(packed.split(), packed.grids, strict=True)
            return Packed(torch.cat([self(Packed(x_NI, (grid,))).tokens_ND for x_NI, grid in views]), grids)
        seen = self.see(packed)
        cells_VK, sure_VK = chosen(seen, self.config.things)
        tokens_VTD = self.say(seen, cells_VK, sure_VK, self.spell(seen, cells_VK, sure_VK))
        return Packed(tokens_VTD.flatten(0, 1).to(packed.tokens_ND.dtype), grids)

    def see(self, packed: Packed) -> Seen:
        """What is foretold of every cell of views of one size."""
        grid, views = packed.grids[0], len(packed.grids)
        words_ND = self.base(packed).tokens_ND
        look_VNH = F.gelu(self.look(self.norm(packed.tokens_ND))).unflatten(0, (views, -1))
        pooled_VH = torch.cat((look_VNH.mean(1), look_VNH.amax(1)), -1)
        return Seen(
            words_ND.unflatten(0, (views, -1)).float(),
            F.linear(words_ND, self.names.to(words_ND.dtype)).float().unflatten(0, (views, -1)),
            self.kind(look_VNH).float(),
            self.colour(look_VNH).float(),
            self.centre(look_VNH)[..., 0].float(),
            boxes_around(self.box(look_VNH).float(), grid),
            self.ground(pooled_VH).float(),
            fine_map(packed.tokens_ND.unflatten(0, (views, -1)), grid, self.config.fine),
        )

    def spell(self, seen: Seen, cells_VK: Tensor, sure_VK: Tensor) -> Tensor:
        """Scores of letters (V, L, C) of the thing that is the likeliest to be a word."""
        which_V1 = (at(seen.names_VNW, cells_VK).softmax(-1)[..., -1] * sure_VK).argmax(1, keepdim=True)
        boxes_V14 = at(at(seen.boxes_VN4, cells_VK), which_V1)
        letters_VLC: Tensor = self.spelling(seen.fine_VChw, boxes_V14[:, 0])[0]
        return letters_VLC

    def say(self, seen: Seen, cells_VK: Tensor, sure_VK: Tensor, letters_VLC: Tensor) -> Tensor:
        """Tokens (V, T, D) about these cells and letters, in float32."""
        names_VKW = at(seen.names_VNW, cells_VK).softmax(-1)
        boxes_VK4 = at(seen.boxes_VN4, cells_VK)
        name_VK2D = torch.einsum("vkw,jwd->vkjd", names_VKW, self.name_values.float())
        name_VK2D = name_VK2D + (self.rest.float() * at(seen.words_VND, cells_VK))[:, :, None]
        about_VKD = (
            at(seen.kinds_VNK, cells_VK).softmax(-1) @ self.kind_values.float()
            + at(seen.colours_VNC, cells_VK).softmax(-1) @ self.colour_values.float()
            + places(boxes_VK4) @ self.place_values.float()
            + between(alike(names_VKW, sure_VK), self.digit_values.float())
        )
        things_VKTD = torch.cat((name_VK2D, about_VKD[:, :, None], self._edges(boxes_VK4)), 2)
        things_VTD = self._or_nothing(things_VKTD, sure_VK).flatten(1, 2)
        ground_VD = seen.ground_VC.softmax(-1) @ self.colour_values[:-1].float()
        ground_VD = ground_VD + between(sure_VK.sum(1), self.digit_values.float())
        written_V = (names_VKW[..., -1] * sure_VK).amax(1)
        letters_VLD = self._or_nothing(letters_VLC.softmax(-1) @ self.letter_values.float(), written_V)
        return torch.cat((ground_VD[:, None], things_VTD, letters_VLD), 1)

    def _edges(self, boxes_VK4: Tensor) -> Tensor:
        """Tokens (V, K, 4, D) of tens and ones of hundredths."""
        edges_VK4 = (boxes_VK4.detach() * 100).long().clamp(0, 99)
        tens_VK4D = self.digit_values.float()[edges_VK4 // 10]
        return tens_VK4D + self.hundredth_values.float()[edges_VK4 % 10]

    def _or_nothing(self, said: Tensor, sure: Tensor) -> Tensor:
        """What is said (..., T, D) of something of which it is so sure (...) that it is there."""
        return sure[..., None, None] * said + (1 - sure[..., None, None]) * self.nothing.float()


def boxes_around(reach_VN4: Tensor, grid: Grid) -> Tensor:
    """Edges as shares of the view, of boxes that reach so many cells to the left, up, to the right and down from each cell's
    centre; (V, N, 4).
    """
    rows, columns = torch.meshgrid(
        torch.arange(grid.height, device=reach_VN4.device) + 0.5,
        torch.arange(grid.width, device=reach_VN4.device) + 0.5,
        indexing="ij",
    )
    centre_N4 = torch.stack((columns, rows, columns, rows), -1).view(-1, CORNERS).repeat(grid.frames, 1)
    signs_4 = reach_VN4.new_tensor((-1.0, -1.0, 1.0, 1.0))
    sides_4 = reach_VN4.new_tensor((grid.width, grid.height, grid.width, grid.height))
    return (centre_N4 + signs_4 * reach_VN4.clamp(-CELLS, CELLS)) / sides_4


def fine_map(x_VNI: Tensor, grid: Grid, fine: int) -> Tensor:
    """The map (V, C, h, w) that the last `fine` channels are the fold of; all channels on the grid itself where 0."""
    map_VIhw = x_VNI.transpose(1, 2).unflatten(2, (grid.frames * grid.height, grid.width))
    return F.pixel_shuffle(map_VIhw[:, -fine:], 2) if fine else map_VIhw


@torch.no_grad()
def overlaps(boxes_VN4: Tensor) -> Tensor:
    """Intersection over union of every two boxes of a view, (V, N, N)."""
    first, other = boxes_VN4[:, :, None], boxes_VN4[:, None]
    sides = torch.minimum(first[..., 2:], other[..., 2:]) - torch.maximum(first[..., :2], other[..., :2])
    shared_VNN = sides.clamp(min=0).prod(-1)
    areas_VN = (boxes_VN4[..., 2:] - boxes_VN4[..., :2]).clamp(min=0).prod(-1)
    return shared_VNN / (areas_VN[:, :, None] + areas_VN[:, None] - shared_VNN).clamp(min=1e-6)


def chosen(seen: Seen, things: int) -> tuple[Tensor, Tensor]:
    """The cells (V, K) that are the surest centres of different things, surest first, and how sure each is: a thing between two
    cells is as sure as both together.
    """
    odds_VN = seen.centres_VN.sigmoid()
    same_VNN = overlaps(seen.boxes_VN4) > SAME_THING
    same_VNN = same_VNN | torch.eye(odds_VN.shape[1], dtype=torch.bool, device=odds_VN.device)
    open_VN = torch.ones_like(odds_VN)
    cells, sure = [], []
    row_V = torch.arange(len(odds_VN), device=odds_VN.device)
    for _ in range(things):
        best_V = (odds_VN.detach() * open_VN + open_VN).argmax(1)  # an open cell, however small its odds
        group_VN = same_VNN[row_V, best_V] * open_VN
        cells.append(best_V)
        sure.append((odds_VN * group_VN).sum(1).clamp(max=1.0))
        open_VN = open_VN - group_VN
    return torch.stack(cells, 1), torch.stack(sure, 1)


def at(x_VNC: Tensor, cells_VK: Tensor) -> Tensor:
    """(V, K, C): the values of some cells."""
    return x_VNC.gather(1, cells_VK[..., None].expand(-1, -1, x_VNC.shape[-1]))


def places(boxes_VK4: Tensor) -> Tensor:
    """How far a box's middle is left, in the centre and right, and at the top, in the centre and at the bottom, (V, K, 6)."""
    middle_VK2 = (boxes_VK4[..., :2] + boxes_VK4[..., 2:]) / 2
    thirds_VK2 = (3 * middle_VK2 - 1.5).clamp(-1, 1)
    shares = (-thirds_VK2).clamp(min=0), 1 - thirds_VK2.abs(), thirds_VK2.clamp(min=0)
    return torch.stack(shares, -1).flatten(-2)


def alike(names_VKW: Tensor, sure_VK: Tensor) -> Tensor:
    """How many things there are that have a thing's name, (V, K)."""
    unit_VKW = F.normalize(names_VKW, dim=-1)
    return ((unit_VKW @ unit_VKW.transpose(1, 2)) * sure_VK[:, None]).sum(-1)


def between(numbers: Tensor, digits_9D: Tensor) -> Tensor:
    """The vector of each number, between those of the two digits around it; (..., D)."""
    numbers = numbers.clamp(0, DIGITS - 1.001)
    lower = numbers.detach().floor().long()
    share = (numbers - lower)[..., None]
    return (1 - share) * digits_9D[lower] + share * digits_9D[lower + 1]
