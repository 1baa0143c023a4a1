"""Configs: variants, plain data and back, tiny ones, and errors with the path."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from dataclasses import dataclass

import pytest
import torch
from part_pages import sizes

import beholder.parts
from beholder.cards import card, card_names
from beholder.cards.schema import Card
from beholder.config import Config, from_data
from beholder.errors import BeholderError, UnknownName
from beholder.media.plan import Grid
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.positions import Rotary
from beholder.parts.blocks.rotary3d import SpaceTimeRotary
from beholder.parts.connectors.named_things import NamedThings
from beholder.parts.connectors.projections import Mlp, OfPooled
from beholder.parts.connectors.visual_words import VisualWords
from beholder.parts.contracts import ConnectorConfig, FusionConfig, HeadConfig, LanguageConfig, VisionConfig
from beholder.parts.heads.cells import CellLabels
from beholder.parts.heads.foretold import Foretold
from beholder.parts.heads.mixed import Mixed
from beholder.parts.heads.phrase_areas import PhraseAreas
from beholder.parts.heads.streams import Bridges, CrossModality, StreamLayers
from beholder.parts.language.layer_inputs import LayerInputDecoder, LayerInputs, Streams
from beholder.parts.language.page_reader import PageReader
from beholder.parts.language.text_tower import TextTower
from beholder.parts.language.two_way import TwoWayDecoder
from beholder.parts.vision.by_kind import ByKind
from beholder.parts.vision.detection_tokens import DetectionViT
from beholder.parts.vision.filled import FilledViT
from beholder.parts.vision.merging_vit import MergingViT
from beholder.parts.vision.message_vit import MessageViT
from beholder.parts.vision.positions import RowsColumns
from beholder.parts.vision.pyramid import LevelMaps
from beholder.parts.vision.sizes import SIGLIP_SO400M_14
from beholder.parts.vision.sizes_hierarchical import SWIN_T
from beholder.parts.vision.vit import Take
from tests.toys import ALL, DECODER, SEES, TEXT_TOWER, VIT

for module in pkgutil.walk_packages(beholder.parts.__path__, "beholder.parts."):
    importlib.import_module(module.name)


def parts_of_cards():
    """Each part of a card, with the language part it stands beside."""
    for name in card_names():
        chosen = card(name)
        for branch in chosen.branches:
            given = (*branch.encoders, branch.connector)
            yield from ((part, chosen.main) for part in given if part is not None)
        yield from ((part, chosen.main) for part in (*chosen.fusion, *chosen.heads))
        yield from ((language.config, None) for language in chosen.languages)


BESIDE = {type(part).__name__: (part, language) for part, language in parts_of_cards()}
WIDE = Attention(num_heads=12), FeedForward(3072)
STREAMS = StreamLayers(6, 768, *WIDE)
# Parts of cards, published sizes, and parts whose fields have no default.
EXAMPLES = {name: part for name, (part, _) in BESIDE.items()}
EXAMPLES |= {type(size.config).__name__: size.config for size in sizes()} | {
    "Decoder": DECODER.but(vocab_size=32000, dim=4096, num_layers=32, context=4096),
    "TextEncoder": TEXT_TOWER.but(dim=512, num_layers=12, context=77),
    "Mixed": Mixed(768, 12, 768, 6, *WIDE),
    "Bridges": Bridges(768, STREAMS),
    "CrossModality": CrossModality(2048, STREAMS),
    "LevelMaps": LevelMaps(SWIN_T),
    "PhraseAreas": PhraseAreas(768, 16),
    "MessageViT": MessageViT(VIT.but(cls=True)),
    "TextTower": TextTower.of(TEXT_TOWER.but(dim=512, num_layers=12, context=77), through=640),
    "TwoWayDecoder": TwoWayDecoder(DECODER.but(tied=True)),
    "VisualWords": VisualWords(Mlp(), words=860),
    "NamedThings": NamedThings(Mlp(), words=808, kinds=43, colours=12, fine=448),
    "ByKind": ByKind(VIT, VIT),
    "MergingViT": MergingViT(SIGLIP_SO400M_14.but(pool=None), after=7),
    "OfPooled": OfPooled(Mlp(act="relu")),
    "Foretold": Foretold(1024, 384, 12, Attention(12, qkv_bias=True, rotary=SpaceTimeRotary()), WIDE[1]),
    "CellLabels": CellLabels((64, 128, 320, 512), 768, count=150),
    "LayerInputDecoder": LayerInputDecoder(
        262400,
        2048,
        35,
        *WIDE,
        Norm("rms"),
        context=32768,
        inputs=LayerInputs(256, 262144),
        streams=Streams(4),
    ),
    "PageReader": PageReader(50265, 768, 12, *WIDE, context=512, causal=False),
    "DetectionViT": DetectionViT(
        16, 16, 768, 12, *WIDE, cls=True, registers=100, positions=None, table=(32, 54), middle=True
    ),
    "FilledViT": FilledViT(1008, 16, 1536, 18, *WIDE, positions=RowsColumns(4096)),
    "ViT": VIT.but(image_size=336, dim=1024, num_layers=24, take=Take((-2,), norm=False)),
}
# Language parts of the kind that a fusion or head asks for, where a plain decoder is none.
MEETS = {name: language.tiny() for name, (_, language) in BESIDE.items() if language is not None} | {
    "MaskedToken": TEXT_TOWER,
    **dict.fromkeys(("Bridges", "CrossModality", "PhraseAreas", "PromptedSimilarity"), TEXT_TOWER),
    **dict.fromkeys(("ByPhrase", "QueryGrounding", "OnPage"), TEXT_TOWER.but(causal=False)),
    "Memory": DECODER.but(cross=Attention(num_heads=4)),
}
# A branch with each connector of a card.
READS = {
    type(branch.connector).__name__: branch
    for name in card_names()
    for branch in card(name).branches
    if branch.connector is not None
}
KINDS = (VisionConfig, ConnectorConfig, FusionConfig, HeadConfig, LanguageConfig)
PARTS = [
    cls
    for cls in Config.registry.values()
    if issubclass(cls, KINDS)
    and cls.__module__.startswith("beholder.parts.")
    and not any(cls.build is kind.build for kind in KINDS)
]


def size_seen(encoder):
    side = getattr(encoder, "image_size", None)
    return (side, side) if side else encoder.size


def example(cls):
    if cls.__name__ in EXAMPLES:
        return EXAMPLES[cls.__name__]
    needed = inspect.signature(cls).parameters.values()
    return cls(**{p.name: 1 for p in needed if p.default is inspect.Parameter.empty})


@pytest.mark.parametrize("cls", PARTS, ids=lambda cls: cls.__name__)
def test_every_part_has_a_tiny_form_that_builds(cls):
    tiny = example(cls).tiny()
    if issubclass(cls, VisionConfig):
        side = tiny.image_size
        packed = tiny.build()([torch.zeros(3, side, side)])
        assert packed.tokens_ND.shape == (tiny.grid((side, side)).num_tokens, tiny.out_dim)
        module = tiny.build()
    elif issubclass(cls, ConnectorConfig):
        branch = READS[cls.__name__].tiny() if cls.__name__ in READS else None
        module = (
            tiny.build(16, 16)
            if branch is None
            else tiny.build_over(branch.encoders, None if tiny.reads_pooled else 16)
        )
        grid = Grid(1, 2, 2) if branch is None else branch.encoders[0].grid(size_seen(branch.encoders[0]))
        assert tiny.grid(grid).num_tokens == tiny.num_tokens(grid).count
    elif issubclass(cls, LanguageConfig):
        module = tiny.build()
        assert tiny.context <= 512
    else:
        module = tiny.build(MEETS.get(cls.__name__, DECODER))
    assert sum(parameter.numel() for parameter in module.parameters()) < 300_000


@pytest.mark.parametrize(
    "config", [*ALL, *EXAMPLES.values()], ids=lambda c: getattr(c, "name", type(c).__name__)
)
def test_plain_data_and_back(config):
    data = json.loads(json.dumps(config.to_data()))
    assert from_data(data) == config
    assert from_data(config.tiny().to_data()) == config.tiny()


def test_defaults_are_left_out():
    assert Attention(num_heads=4).to_data() == {"class": "Attention", "num_heads": 4}
    assert Rotary(theta=10000.0).to_data() == {"class": "Rotary"}


def test_but_changes_fields_and_fields_of_fields():
    changed = DECODER.but(dim=64, **{"attention.num_heads": 8, "attention.rotary.theta": 5.0})
    assert (changed.dim, changed.attention.num_heads, changed.attention.rotary.theta) == (64, 8, 5.0)
    assert DECODER.attention.rotary.theta == 10000.0
    with pytest.raises(UnknownName, match="num_layers"):
        DECODER.but(num_layer=3)
    with pytest.raises(UnknownName, match="num_heads"):
        DECODER.but(**{"attention.heads": 3})
    with pytest.raises(BeholderError, match="dim of Decoder has no fields of its own"):
        DECODER.but(**{"dim.x": 3})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"class": "Atention", "num_heads": 1}, "unknown data: class 'Atention'; nearest: Attention"),
        ({"num_heads": 1}, "expected an object with a 'class'"),
        ([], "expected an object with a 'class', got a? ?list"),
        ({"class": "Attention", "num_heads": 1, "num_head": 2}, "unknown num_head: field of Attention"),
        ({"class": "Attention", "num_heads": "4"}, "num_heads: '4' is a str, expected int"),
        ({"class": "Attention"}, "incomplete Attention"),
        (
            {"class": "Attention", "num_heads": 4, "rotary": {"class": "Rotary", "theta": []}},
            r"rotary\.theta: \[\] is a list, expected float or int",
        ),
        ({"class": ["Attention"]}, "class"),
        ({"class": "Attention", "num_heads": True}, "num_heads: True is a bool, expected int"),
        (
            {"class": "Attention", "num_heads": 4, "rotary": {"class": "Norm"}},
            "a Norm is no AxialRotary or NoneType or Rotary",
        ),
        ({"class": "Card", "name": "x", "heads": "text"}, "heads: 'text' is a str, expected list"),
        (
            {"class": "Card", "name": "x", "heads": [None]},
            r"heads\[0\]: None is a NoneType, expected HeadConfig",
        ),
        ({"class": "Card", "name": "x", "branches": [{"class": "Branch", "encoders": []}]}, "has no encoder"),
        ({"class": "Fixed", "size": [1]}, "size: 1 values, expected 2"),
    ],
)
def test_data_that_describes_nothing(data, says):
    with pytest.raises(BeholderError, match=says) as caught:
        from_data(data)
    assert "\n" not in str(caught.value)


def test_only_this_packages_configs_can_be_named():
    with pytest.raises(UnknownName):
        from_data({"class": "os.system"})


def test_names_of_configs_are_unique():
    with pytest.raises(TypeError, match="two configs are called Attention"):

        @dataclass(frozen=True)
        class Attention(Config):
            pass


def test_cards_have_short_names_for_the_usual_case():
    assert SEES.branch().encoders == (VIT,)
    assert SEES.main is DECODER
    changed = SEES.but(**{"vision.dim": 48, "language.num_layers": 3, "connector.depth": 1})
    branch = changed.branch()
    assert (branch.encoders[0].dim, changed.main.num_layers, branch.connector.depth) == (48, 3, 1)
    assert SEES.but(images=None).branch().geometry is None
    with pytest.raises(UnknownName, match="image"):
        SEES.branch("imgae")
    with pytest.raises(BeholderError, match="belong to a branch"):
        Card(name="x", connector=SEES.branch().connector)
    with pytest.raises(BeholderError, match="two branches have one name"):
        Card(name="x", vision=VIT, branches=SEES.branches)
    with pytest.raises(BeholderError, match="change them with branches="):
        Card(name="x").but(vision=VIT)
