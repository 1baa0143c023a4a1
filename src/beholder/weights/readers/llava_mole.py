"""LLaVA-MoLE's checkpoint, beside the language model and the encoder that it was trained from (`weights/gathered.py`).
forwchen/LLaVA-MoLE: model.py, moe.py, openai_vit.py, llava_mole_infer.py, README.md (rank and alpha).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from beholder.cards import card
from beholder.cards.schema import Card
from beholder.errors import BeholderError
from beholder.media.geometry import Geometry
from beholder.parts.blocks.lora_experts import LoraExperts
from beholder.parts.fusion.splice import Splice
from beholder.parts.heads.next_token import NextToken
from beholder.weights.gathered import GATHERED
from beholder.weights.layout import Binding, Layout
from beholder.weights.layouts.decoders import DECODER
from beholder.weights.layouts.rules import Rules, affine
from beholder.weights.layouts.vision import VIT
from beholder.weights.ops import Fuse, Leading, Tied
from beholder.weights.readers.fields import Fields
from beholder.weights.readers.parts import read_decoder
from beholder.weights.readers.reading import CONNECTOR, VISION, Reading, language_naming, text_stages

BRANCH = card("llava-mole-r16-7b").branch()
MOST = 64  # experts
SIDES = ("gate", "up", "down")
ADAPTOR = Layout(
    {
        "visual_start_token": Leading("begin"),
        "visual_end_token": Leading("end"),
        **affine({"projector.0": "then.layers.0", "projector.2": "then.layers.1"}),
    },
    name="LLaVA-MoLE adaptor",
)
SHARED_WORDS = Layout(
    {"text_embed.weight": Tied("embedding.weight")}, name="tied words of LLaVA-MoLE's adaptor"
)


def decoder(count: int) -> Layout:
    """Of a Llama whose MLPs have so many low-rank experts; those of a matrix follow each other in ours."""
    rules: Rules = {key: op for key, op in DECODER.rules.items() if ".mlp." not in key}
    rules |= affine({"layers.{}.mlp.router": "blocks.{}.mlp.routers.0"})
    for side in SIDES:
        rules[f"layers.{{}}.mlp.original_module.{side}_proj.weight"] = f"blocks.{{}}.mlp.base.{side}.weight"
        for number in range(count):
            for leaf, axis in (("a", 0), ("b", 1)):
                key = f"layers.{{}}.mlp.moe_{side}.{number}.lora_{leaf.upper()}"
                own = f"blocks.{{}}.mlp.low.{side}.{leaf}"
                rules[key] = Fuse(own, number, (1,) * count, dim=axis)
    return Layout(rules, name="LLaVA-MoLE decoder")


def _llava_mole(fields: Fields, name: str, geometry: Geometry | None) -> Reading:
    """Defaults are those of the released checkpoint, llava_mole_r16_a32_e3.pt."""
    known = GATHERED["llava_mole"]
    assert known.language is not None and known.alpha is not None
    read = read_decoder(fields.part(known.language))
    rank, count = fields.count("lora_rank", 16), fields.count("num_experts", 3)
    if count > MOST:
        raise BeholderError(f"config.json: num_experts is {count}; at most {MOST} are read")
    alpha = fields.positive("lora_alpha", known.alpha)
    experts = LoraExperts(read.config.mlp, count, rank=rank, alpha=alpha, router_bias=True)
    language = replace(read, config=read.config.but(mlp=experts), layout=decoder(count))
    system = Card(
        name=name,
        branches=(BRANCH.but(geometry=geometry or BRANCH.geometry),),
        fusion=(Splice(token_id=read.config.vocab_size),),
        language=language.config,
        heads=(NextToken(),),
    )
    naming = (
        Binding("vit.vision_tower.vision_model.", VISION, VIT),
        Binding("in_adaptor.", CONNECTOR, ADAPTOR),
        Binding("in_adaptor.", "languages.main.", SHARED_WORDS),
        *language_naming(language, "llm_model.model.", "llm_model.lm_head."),
    )
    return Reading(system, (naming,), text_stages())


READERS: Mapping[str, Callable[[Fields, str, Geometry | None], Reading]] = {"llava_mole": _llava_mole}
