"""Every kind of adapter: neutral at first where the method is, trains alone, learns, merges where it can, builds again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from beholder.cards.schema import Stage, Trains
from beholder.errors import BeholderError, UnknownName
from beholder.generate.guesses import look_up
from beholder.generate.steps import advance
from beholder.model import Batch, Model, build
from beholder.parts.adapters.apply import adapters, apply_adapters, known_as, merge_adapters, put_on
from beholder.parts.adapters.base import Adapter
from beholder.parts.adapters.low_rank import Lora
from beholder.parts.adapters.mixtures import LoraMixture
from beholder.parts.adapters.named import NAMED, chosen
from beholder.parts.adapters.prompts import PrefixTuning, PromptTokens, ZeroInit
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.positions import Alibi
from beholder.parts.contracts import LanguageInputs
from beholder.parts.language.state import State
from beholder.pipeline import Pipeline
from beholder.prompts.messages import user
from beholder.speed.graphs import FixedSteps, why_not
from beholder.train.recompute import recomputed
from beholder.train.stages import prepare_stage
from tests.toys import SEES, TEXT, byte_tokenizer

LAYERS = "languages.main.blocks.*"
IDS = torch.tensor([[1, 2, 3, 4, 5, 6], [9, 8, 7, 6, 5, 4]])
MERGED = ("lora", "rslora", "dora", "ia3")
NEUTRAL = (
    *MERGED,
    "mixture",
    "bottleneck",
    "zero-init",
)  # the papers' prefixes and prompts are drawn, and act at once
PROMPTS = ("prefix", "prompt", "p-tuning", "zero-init")


def adapted(name: str | Adapter, pattern: str = LAYERS) -> Model:
    model = build(TEXT)
    adapter = chosen(name, 4, pattern)
    assert adapter is not None
    with torch.random.fork_rng():
        torch.manual_seed(1)
        put_on(model, adapter)
    return model


def stirred(name: str | Adapter) -> Model:
    """With everything that is trained moved away from where it begins."""
    model = adapted(name)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if known_as(parameter_name)[1]:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def scores(model: Model, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        return model(Batch(ids_BT=ids)).heads["text"]


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_new_adapter_changes_nothing(name: str) -> None:
    assert torch.equal(scores(adapted(name)), scores(build(TEXT)))
    assert not torch.allclose(scores(stirred(name)), scores(build(TEXT)), atol=1e-3)


@pytest.mark.parametrize("name", NAMED)
def test_a_rule_trains_the_adapter_alone_and_its_loss_falls(name: str) -> None:
    model = build(TEXT)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    plan = prepare_stage(model, Stage("s", rules=(Trains(LAYERS, lr=3e-2, rank=4, adapter=name),)))
    assert plan.trained and all(known_as(key)[1] for key in plan.trained)
    optimizer = torch.optim.AdamW(plan.optimizer_groups())
    losses = []
    for _ in range(30):
        logits = model(Batch(ids_BT=IDS[:, :-1])).heads["text"]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), IDS[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < (0.97 if name in PROMPTS else 0.8) * losses[0]
    assert all(parameter.grad is not None for parameter in plan.trained.values())
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", MERGED)
def test_merged_equals_unmerged(name: str) -> None:
    model = stirred(name)
    want, count = scores(model), len(adapters(model))
    assert count == 14 and merge_adapters(model) == count and not adapters(model) and not model.card.adapters
    torch.testing.assert_close(scores(model), want, atol=2e-5, rtol=1e-4)
    assert model.state_dict().keys() == build(TEXT).state_dict().keys()


@pytest.mark.parametrize("name", ["mixture", "bottleneck", *PROMPTS])
def test_what_cannot_be_merged_says_so_and_stays(name: str) -> None:
    model = stirred(name)
    before = scores(model)
    with pytest.raises(BeholderError, match="cannot be merged; keep them"):
        merge_adapters(model)
    assert torch.equal(scores(model), before)


@pytest.mark.parametrize("name", NAMED)
def test_the_card_builds_the_adapted_model_again(name: str) -> None:
    model = stirred(name)
    again = build(model.card)
    again.load_state_dict(model.state_dict())
    assert torch.equal(scores(again), scores(model))
    assert build(model.card, device="meta").state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("name", NAMED)
def test_word_by_word_equals_at_once(name: str) -> None:
    model = stirred(name)
    want, state = scores(model), State(rows=2)
    with torch.no_grad():
        pieces = [model(Batch(ids_BT=ids), state).heads["text"] for ids in IDS.split((3, 1, 1, 1), 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), want, atol=1e-5, rtol=1e-4)
    assert state.lengths == [6, 6]  # prompts take no places in the state


def test_prompts_are_tokens_in_front_of_the_words() -> None:
    """The same as embeddings put there, with words behind them."""
    model = adapted(PromptTokens(count=3))
    plain = build(TEXT)
    (prompts,) = (value for key, value in model.named_parameters() if key.endswith("prompt_tokens"))
    words_BTD = plain.language.embed(IDS)
    joined_BTD = torch.cat((prompts.expand(2, -1, -1), words_BTD), 1)
    seen = Visibility.causal(2, 9)
    inputs = LanguageInputs(torch.zeros(2, 9, dtype=torch.long), joined_BTD, seen.blocks_BT, seen)
    want = plain.language.logits(plain.language(inputs).hidden_BTD)[:, 3:]
    torch.testing.assert_close(scores(model), want, atol=1e-5, rtol=1e-4)


def test_a_prefix_moves_the_positions_of_words() -> None:
    model = adapted(PrefixTuning(count=5))
    inputs = model.prepare(Batch(ids_BT=IDS), {})
    assert inputs.positions[0].tolist() == [5, 6, 7, 8, 9, 10] and model.card.virtual_tokens == 5


def test_a_made_prefix_is_what_its_mlp_gives() -> None:
    model = stirred(PrefixTuning(count=3, hidden=7))
    (fusion,) = model.adapters
    plain = adapted(PrefixTuning(count=3))
    for layer, (keys, values) in zip(plain.adapters[0].layers.values(), fusion.keys_values(), strict=True):
        layer.prefix_keys.data, layer.prefix_values.data = keys, values
    torch.testing.assert_close(scores(plain), scores(model))


def test_mixtures_choose_by_token_and_report_balance() -> None:
    model = stirred(LoraMixture(rank=2, experts=4, active=1))
    layer = adapters(model)["languages.main.blocks.0.attn.q"]
    x = torch.randn(5, 32)
    shares = layer.shares(x)
    assert (shares > 0).sum(1).tolist() == [1] * 5 and torch.allclose(shares.sum(1), torch.ones(5))
    assert "load balance" not in model.read(Batch(ids_BT=IDS), {}).aux_losses
    model.train()
    balance = model.read(Batch(ids_BT=IDS), {}).aux_losses["load balance"]
    assert balance.requires_grad and balance.item() >= 14 * 0.99  # 14 maps, each at least 1


def test_a_mixture_is_the_formula() -> None:
    model = stirred(LoraMixture(rank=2, experts=3, active=2, alpha=6.0))
    layer = adapters(model)["languages.main.blocks.1.mlp.down"]
    x = torch.randn(4, layer.in_features)
    g = torch.zeros(4, 3)
    top = (x @ layer.mixture_router.T).topk(2)
    g.scatter_(1, top.indices, top.values.softmax(-1))
    want = x @ layer.weight.T
    for e in range(3):
        a, b = layer.mixture_a[2 * e : 2 * e + 2], layer.mixture_b[:, 2 * e : 2 * e + 2]
        want = want + 3.0 * g[:, e : e + 1] * (x @ a.T @ b.T)
    torch.testing.assert_close(layer(x), want, atol=1e-5, rtol=1e-4)


def test_dora_is_the_formula_and_keeps_gradients_off_the_lengths() -> None:
    model = stirred("dora")
    layer = adapters(model)["languages.main.blocks.0.mlp.up"]
    x = torch.randn(3, layer.in_features)
    total = layer.weight + layer.scaling * layer.lora_b @ layer.lora_a
    lengths = total.norm(dim=1, keepdim=True).detach()
    want = x @ (layer.lora_m[:, None] * total / lengths).T
    torch.testing.assert_close(layer(x), want, atol=1e-5, rtol=1e-4)
    leaves = (layer.lora_a, layer.lora_b, layer.lora_m)
    for own, formula in zip(
        torch.autograd.grad(layer(x).square().sum(), leaves),
        torch.autograd.grad(want.square().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(own, formula, atol=1e-4, rtol=1e-3)


def test_scales() -> None:
    assert Lora(rank=16, alpha=32.0).scaling == 2.0
    assert Lora(rank=16, alpha=32.0, by_root=True).scaling == 8.0
    assert Lora(rank=4).scaling == 2.0


def test_dropout_acts_while_training_alone() -> None:
    model = stirred(Lora(rank=4, dropout=0.5))
    assert torch.equal(scores(model), scores(model))
    model.train()
    assert not torch.equal(scores(model), scores(model))


def test_zero_init_of_a_system_that_sees() -> None:
    model = build(SEES)
    put_on(model, ZeroInit(pattern="languages.main.blocks.1.*", count=3))
    assert list(model.layer_parts) == [1]
    with pytest.raises(BeholderError, match="two fusions put a module into slot 'heads'"):
        model.stand(ZeroInit(), model.adapters[0])
    assert len(model.adapters) == 1


def test_errors_of_adapters() -> None:
    with pytest.raises(UnknownName, match="unknown adapter 'lorra'; nearest: lora"):
        prepare_stage(build(TEXT), Stage("s", rules=(Trains(LAYERS, lr=1.0, adapter="lorra"),)))
    with pytest.raises(
        BeholderError, match=r"no linear layer's weight matches '.*\.atn\.q\.weight'; nearest: .*attn\.q"
    ):
        apply_adapters(build(TEXT), "languages.main.blocks.0.atn.q.weight", 2)
    model = adapted("lora")
    with pytest.raises(
        BeholderError, match="has a lora adapter; merge it before you put a ia3 adapter there"
    ):
        put_on(model, chosen("ia3", 0, LAYERS))
    with pytest.raises(BeholderError, match="rank 4 beside a Lora; set the adapter's own"):
        Trains(LAYERS, rank=4, adapter=Lora())
    with pytest.raises(BeholderError, match="dropout 1"):
        Lora(dropout=1.0)
    with pytest.raises(BeholderError, match="5 active"):
        LoraMixture(experts=4, active=5)
    with pytest.raises(BeholderError, match="prompts stand in front of all layers"):
        put_on(build(TEXT), PromptTokens(pattern="languages.main.blocks.1.*"))
    with pytest.raises(BeholderError, match="matches no layer of the language part"):
        put_on(build(TEXT), PrefixTuning(pattern="branches.*"))
    far = TEXT.but(**{"language.attention.rotary": None, "language.attention.alibi": Alibi()})
    with pytest.raises(BeholderError, match="no distance from words"):
        put_on(build(far), PrefixTuning(pattern=LAYERS))


def test_what_prompts_take_of_the_context_is_counted() -> None:
    card = TEXT.but(**{"language.context": 40})
    pipeline, plain = (Pipeline(build(card), byte_tokenizer()) for _ in range(2))
    put_on(pipeline.model, PrefixTuning(pattern=LAYERS, count=9))
    said = "0123456789"
    counts = [each.plan((), said).num_tokens for each in (pipeline, plain)]
    assert counts[0] == counts[1] + 9
    answers = [len(each.ask(None, said, max_tokens=99).ids) for each in (pipeline, plain)]
    assert answers[1] <= 40 - counts[1] and answers[0] <= 40 - counts[0]
    room = 40 - counts[1] - 9
    with pytest.raises(BeholderError, match="takes fewer than 31; shorten the text"):
        pipeline.ask(None, said + "x" * room)
    assert plain.ask(None, said + "x" * room, max_tokens=2).ids


def test_answers_beside_others_and_with_guesses_are_the_same() -> None:
    pipeline = Pipeline(stirred("prompt"), byte_tokenizer())
    texts = ("abab abab", "a longer question than the other one", "c")
    alone = [pipeline.ask(None, text, max_tokens=8).ids for text in texts]
    together = pipeline.answer([[user(text)] for text in texts], max_tokens=8)
    assert [reply.ids for reply in together] == alone
    pipeline.runtime = replace(pipeline.runtime.remembering(), guesser=look_up(3))
    assert [pipeline.ask(None, text, max_tokens=8).ids for text in texts] == alone


@pytest.mark.parametrize("name", ["prefix", "prompt", "mixture", "dora"])
def test_layers_that_are_computed_again_give_the_same_gradients(name: str) -> None:
    found = []
    for again in (False, True):
        model = stirred(name)
        plan = prepare_stage(model, Stage("s", rules=(Trains(LAYERS, lr=1.0, rank=4, adapter=name),)))
        model.train()
        with recomputed(model, again):
            output = model.read(Batch(ids_BT=IDS), {})
            loss = output.hidden_BTD.square().sum() + sum(output.aux_losses.values())
            found.append(torch.autograd.grad(loss, list(plan.trained.values())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", NAMED)
def test_adapters_in_float32_on_weights_of_two_bytes(name: str) -> None:
    model = stirred(name)
    want = scores(model)
    for key, parameter in model.named_parameters():
        if not known_as(key)[1]:
            parameter.data = parameter.data.bfloat16()
    given = scores(model)
    assert given.dtype == torch.bfloat16 and (given.float() - want).norm() < 0.05 * want.norm()


@pytest.mark.parametrize("name", NAMED)
def test_under_autocast(name: str) -> None:
    model = stirred(name)
    want = scores(model)
    with torch.autocast("cpu", torch.bfloat16):
        given = scores(model)
    assert (given.float() - want).norm() < 0.05 * want.norm()


@pytest.mark.parametrize("name", ["lora", "prefix", "prompt", "mixture", "zero-init"])
def test_steps_of_fixed_shape_say_the_same_or_decline(name: str) -> None:
    model = stirred(name)
    reason = why_not(model)
    assert (reason is not None) == (name == "prompt"), reason
    if reason is not None:
        return
    fixed, mine, theirs = FixedSteps(model, recorded=False), State(rows=2), State(rows=2)
    with torch.inference_mode():
        for state in (mine, theirs):
            model.read(Batch(ids_BT=IDS), {}, state)
        for ids in ([7, 8], [9, 10], [11, 12]):
            assert fixed.settle(mine)
            torch.testing.assert_close(
                fixed.step(ids, mine), advance(model, ids, theirs), atol=1e-5, rtol=1e-4
            )
    put_on(model, Lora(pattern="languages.main.head.weight", rank=2))
    assert "since" in str(fixed.refuses([7, 8], mine))
