"""VirTex: captions from either end."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from beholder.cards import card
from beholder.errors import BeholderError
from beholder.model import Batch, Model, build
from beholder.parts.heads.backward import PreviousToken
from beholder.parts.language.bicaptioner import BiCaptionerModel


def virtex() -> Model:
    return build(card("virtex").tiny())


def scores(
    model: Model, ids: list[list[int]], lengths: tuple[int, ...] | None = None
) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    views = list(torch.randn(1, 3, 64, 64).expand(len(ids), -1, -1, -1))
    with torch.inference_mode():
        return model(Batch(torch.tensor(ids), lengths, {"image": views})).heads


def test_each_direction_sees_its_own_past_alone() -> None:
    model = virtex()
    first, other = scores(model, [[1, 7, 8, 2]]), scores(model, [[1, 7, 9, 2]])

    def moved(name: str) -> list[bool]:
        return ((first[name] - other[name])[0].abs().amax(-1) > 1e-6).tolist()

    assert moved("text") == [False, False, True, True]
    assert moved("backward text") == [
        False,
        True,
        True,
        True,
    ]  # it has read the end token, then the changed one


def test_directions_share_words_and_head_alone() -> None:
    language = virtex().language
    assert isinstance(language, BiCaptionerModel)
    shared = {id(p) for p in language.forwards.parameters()} & {
        id(p) for p in language.backwards.parameters()
    }
    names = {name for name, p in language.forwards.named_parameters() if id(p) in shared}
    assert names and all(name.startswith(("embedding.", "head_bias")) for name in names)


def test_padding_stays_behind_a_turned_caption() -> None:
    model = virtex()
    alone = scores(model, [[1, 7, 2]])["backward text"][0]
    padded = scores(model, [[1, 7, 2, 0, 0], [1, 7, 8, 9, 2]], (3, 5))["backward text"][0, :3]
    assert torch.allclose(alone, padded, atol=1e-5)


def test_layers_equal_the_official_ones() -> None:
    """kdexd/virtex builds its decoders of `torch.nn.TransformerDecoderLayer`, norms after the sums."""
    torch.manual_seed(0)
    layer = virtex().language.forwards.blocks[0]
    theirs = nn.TransformerDecoderLayer(32, 4, 48, 0.0, "gelu", batch_first=True).eval()
    with torch.no_grad():
        for ours, name in ((layer.attn, "self_attn"), (layer.cross, "multihead_attn")):
            module = getattr(theirs, name)
            for leaf in ("weight", "bias"):
                joined = torch.cat([getattr(getattr(ours, part), leaf) for part in ("q", "k", "v")])
                getattr(module, f"in_proj_{leaf}").copy_(joined)
            module.out_proj.load_state_dict(ours.out.state_dict())
        theirs.linear1.load_state_dict(layer.mlp.up.state_dict())
        theirs.linear2.load_state_dict(layer.mlp.down.state_dict())
    from beholder.parts.blocks.masks import Visibility
    from beholder.parts.blocks.step import Step

    x, memory = torch.randn(1, 5, 32), torch.randn(1, 4, 32)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    step = Step(queries=Visibility.causal(1, 5), memory_BSD=memory)
    with torch.inference_mode():
        assert torch.allclose(layer(x, step), theirs(x, memory, tgt_mask=mask), atol=1e-5)


def test_the_head_needs_both_directions() -> None:
    with pytest.raises(BeholderError, match="BiCaptioner"):
        PreviousToken().build(card("mini").main)
