"""Tokens that become objects."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.media.plan import Grid
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.contracts import BranchOutput, HeadInputs, Packed
from beholder.parts.heads.objects import Objects, ObjectTokens
from beholder.parts.vision.detection_tokens import DetectionViT
from beholder.parts.vision.vit import Take

VIT = DetectionViT(
    image_size=4,
    patch=4,
    dim=12,
    num_layers=3,
    attention=Attention(2),
    mlp=FeedForward(16),
    cls=True,
    registers=2,
    positions=None,
    take=Take(front=True),
    table=(2, 3),
    middle=True,
)


def test_places_are_added_before_and_behind_layers() -> None:
    """On the grid that they were learned for, layer by layer."""
    torch.manual_seed(0)
    encoder, view = VIT.build().eval(), torch.randn(3, 8, 12)
    with torch.no_grad():
        for table in (encoder.places, encoder.middle):
            table.normal_()
        packed = encoder([view])
        plain = VIT.but(middle=False).build().eval()
        plain.load_state_dict({k: v for k, v in encoder.state_dict().items() if k != "middle"})
        x = plain._embed(view[None])[0]
        patches = encoder.patch(view[None]).flatten(2)[0].T
        front = torch.cat((encoder.cls.view(1, -1), encoder.registers))
        order = [0, 7, 8, 1, 2, 3, 4, 5, 6]
        assert torch.allclose(x[0], torch.cat((front, patches)) + encoder.places[order], atol=1e-6)
        step = encoder._step(x, None, ())
        for number, block in enumerate(encoder.blocks):
            x = block(x, step)
            x = x + encoder.middle[number][order] if number < 2 else x
        assert torch.allclose(packed.tokens_ND, encoder.post_norm(x[0]), atol=1e-5)
    assert packed.grids == (Grid(1, 1, 9),)


def test_other_sizes_have_resized_places() -> None:
    encoder = VIT.build().eval()
    table = encoder._resized(encoder.places, (4, 5))
    patches = encoder.places[1:7].T.view(1, 12, 2, 3)
    want = F.interpolate(patches, (4, 5), mode="bicubic", align_corners=False)[0].flatten(1).T
    assert torch.allclose(table[3:], want, atol=1e-6) and torch.equal(table[1:3], encoder.places[7:])
    views = [torch.randn(3, 16, 20), torch.randn(3, 8, 12)]
    both, one = encoder(views).split(), encoder(views[1:]).tokens_ND
    assert [len(view) for view in both] == [23, 9] and torch.allclose(both[1], one, atol=1e-5)
    with pytest.raises(BeholderError, match="positions=None"):
        VIT.but(cls=False)


def test_heads_read_the_objects_tokens() -> None:
    head = ObjectTokens(dim=12, count=2, labels=3, first=1).build(None)
    tokens, grids = torch.randn(14, 12), (Grid(1, 1, 9), Grid(1, 1, 5))
    found = head(HeadInputs(branches={"image": BranchOutput(Packed(tokens, grids), ())}))
    wanted = torch.stack((tokens[1:3], tokens[10:12]))
    assert torch.allclose(found.logits_VQK, head.classes(wanted), atol=1e-6)
    assert torch.allclose(found.boxes_VQ4, head.boxes(wanted).sigmoid(), atol=1e-6)
    with pytest.raises(BeholderError, match="a view has 2 tokens"):
        packed = Packed(tokens[:2], (Grid(1, 1, 2),))
        head(HeadInputs(branches={"image": BranchOutput(packed, ())}))


def test_the_likely_objects_come_first() -> None:
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.2, 0.2], [0.3, 0.3, 0.1, 0.1]]])
    logits = torch.tensor([[[3.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]]])
    corners, scores, labels = Objects(boxes, logits).likely(0)
    assert labels.tolist() == [1, 0] and bool((scores[0] > scores[1]) & (scores[1] > 0.5))
    assert torch.allclose(corners[1], torch.tensor([0.4, 0.3, 0.6, 0.7]), atol=1e-6)
