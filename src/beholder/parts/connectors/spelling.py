"""Letters of a short word in a box of a feature map.

V views, C channels, J columns of the word, L letters, H width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.parts.blocks.positions import learned

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
COLUMNS, ROWS = 24, 3
MARGIN = 0.04  # of the word's width and height that is looked at beyond its box


class Spelling(nn.Module):
    """Looks at `COLUMNS` columns of a box; each letter's query finds its columns and says which letter it is (the parallel
    visual attention of SRN, 2003.12294). Classes are the letters of the alphabet and, last, none.
    """

    classes = len(ALPHABET) + 1

    def __init__(self, channels: int, letters: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(ROWS * channels, width)
        self.places = learned(COLUMNS, width)
        self.near = nn.Conv1d(width, width, 5, padding=2)
        self.norm = nn.LayerNorm(width)
        self.across = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.final = nn.LayerNorm(width)
        self.queries = learned(letters, width, std=0.2)
        self.keys = nn.Linear(width, width)
        self.classify = nn.Linear(width, self.classes)

    def forward(self, map_VChw: Tensor, boxes_V4: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of letters (V, L, classes), and of the columns that each was read from (V, L, J), both before softmax and in
        float32. boxes_V4: left, top, right and bottom as shares of the map's sides.
        """
        columns_VJC = self._columns(map_VChw, boxes_V4.to(map_VChw.dtype))
        x_VJH = F.gelu(self.enter(columns_VJC)) + self.places.to(columns_VJC.dtype)
        x_VJH = x_VJH + F.gelu(self.near(x_VJH.transpose(1, 2)).transpose(1, 2))
        q, k, v = self.across(self.norm(x_VJH)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        mixed_VJH = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x_VJH = self.final(x_VJH + self.join(mixed_VJH))
        scores_VLJ = self.queries.to(x_VJH.dtype) @ self.keys(x_VJH).transpose(1, 2) * x_VJH.shape[-1] ** -0.5
        read_VLH = scores_VLJ.float().softmax(-1).to(x_VJH.dtype) @ x_VJH
        return self.classify(read_VLH).float(), scores_VLJ.float()

    def _columns(self, map_VChw: Tensor, boxes_V4: Tensor) -> Tensor:
        """What the map holds at the box's columns, (V, J, ROWS * C)."""
        left_V, top_V, right_V, bottom_V = boxes_V4.unbind(1)
        steps_J = (torch.arange(COLUMNS, device=boxes_V4.device) + 0.5) / COLUMNS * (1 + 2 * MARGIN) - MARGIN
        steps_R = (torch.arange(ROWS, device=boxes_V4.device) + 0.5) / ROWS
        x_VJ = left_V[:, None] + (right_V - left_V)[:, None] * steps_J
        y_VR = top_V[:, None] + (bottom_V - top_V)[:, None] * steps_R
        places_VRJ2 = torch.stack(
            (x_VJ[:, None].expand(-1, ROWS, -1), y_VR[:, :, None].expand(-1, -1, COLUMNS)), -1
        )
        read_VCRJ = F.grid_sample(
            map_VChw.float(), 2 * places_VRJ2.float() - 1, padding_mode="border", align_corners=False
        )
        return read_VCRJ.to(map_VChw.dtype).permute(0, 3, 2, 1).flatten(2)
