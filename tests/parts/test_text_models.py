"""Text encoders and encoder-decoders: relative biases, memory, generation, heads over masks, published sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from beholder.cards.schema import Card
from beholder.data.samples import Conversation
from beholder.errors import BeholderError, UnknownName
from beholder.generate.loop import answers, generate
from beholder.generate.sampling import Sampling
from beholder.media.plan import Box, Grid, PicturePlan, View
from beholder.model import Batch, NoDraws, build
from beholder.parts.blocks.attention import Attention
from beholder.parts.blocks.cross_attention import CrossAttention
from beholder.parts.blocks.masks import Visibility
from beholder.parts.blocks.mlp import FeedForward
from beholder.parts.blocks.norms import Norm
from beholder.parts.blocks.relative import RelativeBuckets
from beholder.parts.blocks.step import Step
from beholder.parts.blocks.transformer import Arrangement, TransformerLayer
from beholder.parts.contracts import LanguageInputs
from beholder.parts.fusion.memory import Memory
from beholder.parts.heads.masked_token import MaskedToken
from beholder.parts.heads.next_token import NextToken
from beholder.parts.language import sizes_text as sizes
from beholder.parts.language.embedding import TokenEmbedding
from beholder.parts.language.encoder_decoder import EncoderDecoder
from beholder.parts.language.state import State
from beholder.prompts.messages import assistant, user
from beholder.train.collate import Collator
from tests.toys import CHAT, VIT, byte_tokenizer

T5 = sizes.T5_SMALL.tiny()
UMT5 = sizes.UMT5_SMALL.tiny()
BART = sizes.BART_LARGE.tiny()
BERT = sizes.BERT_BASE.tiny()

# Counted from the classes of transformers 5.23 built with the published configs, and equal to what the hub lists
COUNTS = {
    "BERT_BASE": 109_482_240,
    "BERT_LARGE": 335_141_888,
    "BERT_BASE_CASED": 108_310_272,
    "BERT_BASE_MULTILINGUAL": 177_853_440,
    "MINILM_L6": 22_713_216,
    "MINILM_L12": 33_360_000,
    "ROBERTA_BASE": 124_645_632,
    "ROBERTA_LARGE": 355_359_744,
    "XLM_R_BASE": 278_043_648,
    "XLM_R_LARGE": 559_890_432,
    "MPNET_BASE": 109_486_464,
    "DISTILBERT_BASE": 66_362_880,
    "MODERN_BERT_BASE": 149_014_272,
    "MODERN_BERT_LARGE": 394_781_696,
    "T5_SMALL": 60_506_624,
    "T5_BASE": 222_903_552,
    "T5_LARGE": 737_668_096,
    "T5_3B": 2_851_598_336,
    "T5_11B": 11_307_321_344,
    "FLAN_T5_SMALL": 76_961_152,
    "FLAN_T5_BASE": 247_577_856,
    "FLAN_T5_LARGE": 783_150_080,
    "FLAN_T5_XL": 2_849_757_184,
    "FLAN_T5_XXL": 11_135_332_352,
    "UL2": 19_591_209_984,
    "MT5_SMALL": 300_176_768,
    "MT5_BASE": 582_401_280,
    "MT5_LARGE": 1_229_581_312,
    "MT5_XL": 3_742_619_648,
    "MT5_XXL": 12_921_057_280,
    "UMT5_SMALL": 306_601_984,
    "UMT5_BASE": 592_043_520,
    "UMT5_XL": 3_768_356_864,
    "UMT5_XXL": 12_972_531_712,
    "BART_LARGE": 406_291_456,
    "BART_BASE": 139_420_416,
    "MBART_LARGE": 610_851_840,
    "MBART_LARGE_50": 610_879_488,
    "MAGNETO_1_3B": 1_342_289_920,
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_the_published_ones(name):
    """BART's bias of the logits is a buffer officially, and not counted there."""
    with torch.device("meta"), NoDraws():
        model = getattr(sizes, name).build()
    buffers = "decoder.head_bias"
    count = sum(p.numel() for key, p in model.named_parameters() if key != buffers)
    assert count == COUNTS[name]


def card(language, *heads):
    return Card(name="toy", language=language, heads=heads or (NextToken(),))


def trained(config, seed=0):
    """A model whose parameters are far enough from their start for every one to matter."""
    model = build(card(config), seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def rows(*texts):
    width = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts])
    return ids, tuple(map(len, texts))


# ---- relative biases


def bucket_of(distance, buckets, farthest, both_ways):
    """One distance by the description of T5 (1910.10683, section 2.1) and its published code."""
    first = 0
    if both_ways:
        buckets //= 2
        first, distance = (buckets if distance > 0 else 0), abs(distance)
    else:
        distance = max(0, -distance)
    single = buckets // 2
    if distance < single:
        return first + distance
    step = math.log(distance / single) / math.log(farthest / single) * (buckets - single)
    return first + min(buckets - 1, single + int(step))


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(("buckets", "farthest"), [(32, 128), (8, 16), (320, 800)])
def test_buckets_of_distances(buckets, farthest, both_ways):
    distances = torch.arange(-900, 901)
    ours = RelativeBuckets(buckets, farthest, both_ways).of(distances)
    assert ours.tolist() == [bucket_of(d, buckets, farthest, both_ways) for d in distances.tolist()]


def test_a_bias_by_rows_and_by_one_table_agree():
    bias = RelativeBuckets(8, 16).build(4)
    same = torch.arange(6).expand(3, 6)
    assert bias(same, same).shape == (1, 4, 6, 6)
    shifted = torch.stack((torch.arange(6), torch.arange(6) + 9, torch.arange(6)))
    apart = bias(shifted, same)
    assert apart.shape == (3, 4, 6, 6) and torch.equal(apart[0], bias(same, same)[0])
    assert not torch.equal(apart[1], apart[0])
    assert torch.equal(apart[1], bias(shifted[1:2], same[:1])[0])


@pytest.mark.parametrize(("config", "tables"), [(T5, 2), (UMT5, 4)])
def test_layers_share_a_table_or_have_one_each(config, tables):
    names = [name for name, _ in build(card(config)).named_parameters() if "relative" in name]
    assert len(names) == tables


# ---- memory


def decoder_inputs(model, ids, *, start=0, memory=None, keep=None):
    visibility = Visibility.causal(len(ids), ids.shape[1], start=start)
    return LanguageInputs(
        ids, model.embed(ids), visibility.blocks_BT, visibility, memory=memory, memory_keep=keep
    )


READS_MEMORY = sizes.T5_SMALL.tiny().decoder.but(**{"cross.memory_dim": 24})


def test_memory_is_read_once_and_its_padding_never():
    model, memory = READS_MEMORY.build().eval(), torch.randn(2, 5, 24)
    ids, keep = torch.randint(0, 512, (2, 7)), torch.ones(2, 5, dtype=torch.bool)
    keep[1, 3:] = False
    with torch.no_grad():
        whole = model(decoder_inputs(model, ids, memory=memory, keep=keep)).hidden_BTD
        state = State(2)
        pieces = [model(decoder_inputs(model, ids[:, :3], memory=memory, keep=keep), state)]
        state = state.reorder([0, 1])
        memory[1, 3:] = 100.0
        for step in range(3, 7):
            pieces.append(model(decoder_inputs(model, ids[:, step : step + 1], start=step), state))
        again = model(decoder_inputs(model, ids, memory=memory, keep=keep)).hidden_BTD
    steps = torch.cat([piece.hidden_BTD for piece in pieces], 1)
    assert torch.allclose(steps, whole, atol=1e-5) and torch.allclose(again, whole, atol=1e-5)
    assert state.snapshot().memory_keep is not None


def test_a_decoder_without_its_memory_says_so():
    model = READS_MEMORY.build()
    with pytest.raises(BeholderError, match="reads an encoder's output was given none"):
        model(decoder_inputs(model, torch.zeros(1, 2, dtype=torch.long)))


def test_cross_attention_stands_between_the_halves():
    """One post-norm layer against the formulas of 1706.03762, section 3.1, written out."""
    attention = Attention(2, qkv_bias=True, out_bias=True)
    cross = CrossAttention(2, qkv_bias=True, out_bias=True)
    mlp = FeedForward(16, act="relu")
    layer = TransformerLayer(8, attention, mlp, Arrangement("post"), norm=Norm(), cross=cross)
    config = sizes.BART_BASE.decoder.tiny().but(
        dim=8, num_layers=1, attention=attention, cross=cross, mlp=mlp
    )
    model = config.build().eval()
    layer = model.blocks[0]
    memory, ids = torch.randn(1, 3, 8), torch.tensor([[4, 5]])

    def attend(module, x, y, causal):
        heads = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            scores = module.q(x)[:, part] @ module.k(y)[:, part].T / 2
            if causal:
                scores = scores.masked_fill(torch.ones(2, 2).triu(1) == 1, -math.inf)
            heads.append(scores.softmax(-1) @ module.v(y)[:, part])
        return module.out(torch.cat(heads, 1))

    with torch.no_grad():
        x = model.embedding.place(model.embed(ids), torch.tensor([[0, 1]]))[0]
        x = layer.after1(x + attend(layer.attn, x, x, causal=True))
        x = layer.cross_after(x + attend(layer.cross, x, memory[0], causal=False))
        x = layer.after2(x + layer.mlp.down(layer.mlp.up(x).relu()))
        ours = model(decoder_inputs(model, ids, memory=memory)).hidden_BTD[0]
    assert torch.allclose(ours, x, atol=1e-5)


SEES = Card(
    name="toy-captions",
    vision=VIT,
    fusion=(Memory(),),
    language=sizes.BART_BASE.tiny().decoder,
    heads=(NextToken(),),
)
ROW = PicturePlan("image", (28, 28), (View((28, 28), (), Box(0, 0, 28, 28)),), (Grid(1, 2, 2),), ())


def test_a_branch_s_features_can_be_the_memory():
    """Rows of one and of two pictures: each row's captions are those of the row alone, step by step and at once."""
    model, pictures = build(SEES, seed=2), [torch.randn(3, 28, 28) for _ in range(3)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    ids = torch.tensor([[1, 9], [1, 9]])
    both = Batch(ids, None, {"image": pictures}, ((ROW,), (ROW, ROW)))
    samplings = [Sampling(max_tokens=6)] * 2
    together = answers(generate(model, both, samplings, eos_ids=(), decode=Silent))
    for row, mine in enumerate((pictures[:1], pictures[1:])):
        written = [1, 9]
        for _ in range(6):
            batch = Batch(torch.tensor([written]), None, {"image": mine}, ((ROW,) * len(mine),))
            with torch.no_grad():
                written.append(int(model(batch).heads["text"][0, -1].argmax()))
        assert together[row].ids == tuple(written[2:])
    other = Batch(ids, None, {"image": [-picture for picture in pictures]}, both.plans)
    assert not torch.allclose(model(other).heads["text"], model(both).heads["text"], atol=1e-2)


def test_every_row_needs_memory():
    model, picture = build(SEES), torch.randn(3, 28, 28)
    with pytest.raises(BeholderError, match=r"1 views of branch image for 2 rows, whose plans hold \[1, 0\]"):
        model(Batch(torch.tensor([[1], [1]]), None, {"image": [picture]}, ((ROW,), ())))
    with pytest.raises(BeholderError, match="reads an encoder's output was given none"):
        model(Batch(torch.tensor([[1]])))
    with pytest.raises(BeholderError, match="Memory needs a decoder with cross-attention"):
        build(SEES.but(language=SEES.main.but(cross=None)))


def test_parallel_halves_leave_no_place_for_it():
    with pytest.raises(BeholderError, match="no place for cross-attention"):
        READS_MEMORY.but(arrangement=Arrangement(parallel="one norm")).build()


# ---- encoder-decoders


@pytest.mark.parametrize("config", [T5, UMT5, BART], ids=["t5", "umt5", "bart"])
def test_every_parameter_gets_a_gradient(config):
    model = trained(config)
    ids, lengths = rows([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], [5, 6, 7])
    target, target_lengths = rows([1, 2, 3, 4], [1, 2])
    batch = Batch(ids, lengths, target_BT=target, target_lengths=target_lengths)
    model(batch).heads["text"].square().sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is None} == set()


class Silent:
    def add(self, token_id):
        return ""

    def finish(self):
        return ""


def run(model, ids, lengths, target=None, **options):
    batch = Batch(ids, lengths, target_BT=target)
    samplings = [Sampling(**options)] * len(ids)
    return answers(generate(model, batch, samplings, eos_ids=(), decode=Silent))


def greedy_alone(model, text, count, begun=(0,)):
    """Greedy ids with the whole text and answer read again for each."""
    written = list(begun)
    for _ in range(count):
        with torch.no_grad():
            batch = Batch(torch.tensor([text]), target_BT=torch.tensor([written]))
            written.append(int(model(batch).heads["text"][0, -1].argmax()))
    return tuple(written[len(begun) :])


@pytest.mark.parametrize("config", [T5, UMT5, BART], ids=["t5", "umt5", "bart"])
def test_generation_equals_reading_everything_again(config):
    model, texts = trained(config), ([5, 6, 7, 8, 9, 10, 11], [12, 13], [14, 15, 16, 17])
    together = run(model, *rows(*texts), max_tokens=8)
    assert [result.ids for result in together] == [greedy_alone(model, text, 8) for text in texts]
    assert len({result.ids for result in together}) > 1


def test_an_answer_may_be_begun():
    model = trained(BART)
    ids, lengths = rows([5, 6, 7])
    begun = run(model, ids, lengths, torch.tensor([[0, 9, 11]]), max_tokens=6)[0].ids
    assert begun == greedy_alone(model, [5, 6, 7], 6, (0, 9, 11))


def test_the_decoder_s_own_context_ends_an_answer():
    model = trained(BART.but(**{"decoder.context": 10}))
    ids, lengths = rows(list(range(5, 20)))
    result = run(model, ids, lengths, max_tokens=50)[0]
    assert (result.finish, len(result.ids)) == ("context", 9)
    with pytest.raises(BeholderError, match="prompt 1 has 17 tokens"):
        run(model, *rows(list(range(5, 22))))


def test_a_penalty_counts_the_answer_alone():
    model, text = trained(T5), [5, 6, 7]
    for _ in range(50):  # until the answer begins with a word of the prompt
        first = run(model, torch.tensor([text]), None, max_tokens=1)[0].ids[0]
        if first in text:
            break
        text = [first, *text[:2]]
    assert first in text
    ids = run(model, torch.tensor([text]), None, max_tokens=4, repetition_penalty=100.0)[0].ids
    assert ids[0] == first and len(set(ids)) == 4


def test_wrong_words_for_the_decoder_are_refused():
    with pytest.raises(BeholderError, match="row 0 has the id 600 at position 1"):
        build(card(T5))(Batch(torch.tensor([[3, 4]]), target_BT=torch.tensor([[0, 600]])))


def test_training_lets_the_decoder_write_the_answer():
    tokenizer, said = byte_tokenizer(), (user("When?"), assistant("now"))
    given = Collator(card(T5).but(prompt=CHAT), tokenizer)([Conversation(said, key="a")])
    assert tokenizer.decode(given.batch.ids_BT[0].tolist(), skip_special=False) == "<s>U:When?</s><s>A:"
    assert given.batch.target_BT.tolist() == [[T5.start_id, *b"now"]]
    assert given.answers.targets_A.tolist() == [*b"now", 256]
    model = build(card(T5).but(prompt=CHAT))
    hidden_BTD = model.read(given.batch, {}).hidden_BTD
    assert hidden_BTD[given.answers.rows_A, given.answers.places_A].shape == (4, T5.decoder.dim)


def test_both_sides_must_fit():
    with pytest.raises(BeholderError, match="needs cross-attention"):
        EncoderDecoder(T5.encoder, T5.decoder.but(cross=None))
    with pytest.raises(BeholderError, match="reads memory of width 24 but the encoder gives 32"):
        EncoderDecoder(T5.encoder, READS_MEMORY)


def test_one_token_table_for_both_sides():
    shared, apart = build(card(T5)), build(card(T5.but(shared=False)))
    table = 512 * 32
    assert sum(p.numel() for p in apart.parameters()) - sum(p.numel() for p in shared.parameters()) == table
    assert shared.language.decoder.embedding.weight is shared.language.encoder.embedding.weight


# ---- text encoders


def hidden(config, ids, lengths=None, **inputs):
    torch.manual_seed(0)
    model = build(card(config, MaskedToken())).eval()
    with torch.no_grad():
        return model(Batch(ids, lengths, **inputs))


@pytest.mark.parametrize("pool", ["first", "mean"])
def test_pools_leave_padding_out(pool):
    config = BERT.but(pool=pool)
    ids, lengths = rows([5, 6, 7, 8, 9], [5, 6])
    padded = hidden(config, ids, lengths).language
    alone = hidden(config, ids[1:, :2]).language
    assert torch.allclose(padded.pooled_BD[1], alone.pooled_BD[0], atol=1e-6)
    assert padded.pooled_BD.abs().max() <= 1  # of tanh
    bare = hidden(config.but(projection=0, projection_act=None), ids[1:, :2]).language
    chosen = bare.hidden_BTD[0].mean(0) if pool == "mean" else bare.hidden_BTD[0, 0]
    assert torch.allclose(bare.pooled_BD[0], chosen, atol=1e-6)


def test_without_a_pool_there_is_no_vector():
    config = BERT.but(pool=None)
    assert hidden(config, torch.tensor([[5, 6]])).language.pooled_BD is None
    assert not any("projection" in name for name, _ in build(card(config)).named_parameters())
    with pytest.raises(UnknownName, match="text pool"):
        BERT.but(pool="middle")


def test_kinds_of_tokens_are_kind_0_unless_told():
    ids = torch.tensor([[5, 6, 7]])
    plain = hidden(BERT, ids).language.hidden_BTD
    assert torch.equal(plain, hidden(BERT, ids, kinds_BT=torch.zeros_like(ids)).language.hidden_BTD)
    assert not torch.allclose(
        plain, hidden(BERT, ids, kinds_BT=torch.tensor([[0, 1, 1]])).language.hidden_BTD
    )


def test_words_behind_masks_read_the_token_table():
    model = build(card(BERT, MaskedToken())).eval()
    head, output = model.heads[0], model(Batch(torch.tensor([[5, 6, 7]])))
    x = nn.functional.gelu(head.dense(output.language.hidden_BTD))
    x = nn.functional.layer_norm(x, (32,), head.norm.weight, head.norm.bias, 1e-12)
    words = x @ model.language.embedding.weight.T + head.bias
    assert torch.allclose(output.heads["words"], words, atol=1e-5)
    with pytest.raises(BeholderError, match="needs a text encoder"):
        build(card(T5, MaskedToken()))


@pytest.mark.parametrize("window", [1, 3, 40])
def test_windows_reach_to_both_sides(window):
    """One layer, so that what a token gives depends on its neighbours at less than `window` alone, padding aside."""
    attention = BERT.attention.but(window=window)
    model = build(card(BERT.but(num_layers=1, attention=attention), MaskedToken())).eval()
    ids, lengths = rows([5, 6, 7, 8, 9, 10, 11, 12], [5, 6, 7, 8, 9])
    changed = ids.clone()
    changed[:, 3] = 20
    with torch.no_grad():
        before, after = (model(Batch(x, lengths)).language.hidden_BTD for x in (ids, changed))
    moved = (before - after).abs().amax(-1) > 1e-6
    for row, length in enumerate(lengths):
        assert moved[row, :length].tolist() == [abs(place - 3) < window for place in range(length)]


def test_a_bare_mixer_reads_the_path_itself():
    config = sizes.MODERN_BERT_BASE.tiny()
    model = build(card(config)).language
    assert [block.norm1 is None for block in model.blocks] == [True, False, False]
    assert [block.attn.config.window is None for block in model.blocks] == [True, False, True]
    block, x = model.blocks[0], torch.randn(1, 1, 32)
    step = Step(positions=torch.zeros(1, 1, dtype=torch.long))
    y = x + block.attn.out(block.attn.v(x))  # one token sees itself alone
    y = y + block.mlp(block.norm2(y))
    assert torch.allclose(block(x, step), y, atol=1e-6)
    with pytest.raises(BeholderError, match="a pattern names kind 4 of layer"):
        config.but(pattern=(4,))


def test_one_layer_for_all_is_stored_once():
    model = build(card(BERT.but(one_layer=True, num_layers=3)))
    names = {name for name, _ in model.named_parameters() if "blocks" in name}
    assert len(model.language.blocks) == 3 and {name.split(".")[3] for name in names} == {"0"}


def test_a_late_projection_comes_behind_the_norm():
    embedding = TokenEmbedding(width=16, late=True, positions="learned", segments=2, norm=Norm())
    table = embedding.build(30, 32, 8)
    ids = torch.tensor([[3, 4, 5]])
    x = table.weight[ids] + table.positions[:3] + table.segments[0]
    want = table.projection(nn.functional.layer_norm(x, (16,)))
    assert torch.allclose(table.place(table(ids), torch.arange(3)[None]), want, atol=1e-6)
    assert table.projection.bias is not None


@pytest.mark.parametrize(("kind", "last"), [("sinusoidal", 3), ("sinusoidal 2017", 4)])
def test_sinusoids(kind, last):
    """Channel i of the first half is sin(p / 10000^(i / last)), of the second half its cosine."""
    table = TokenEmbedding(positions=kind, offset=2).build(10, 8, 20)
    given = table.place(torch.zeros(1, 2, 8), torch.tensor([[0, 7]]))[0]
    for row, position in enumerate((2, 9)):
        angles = [position / 10000 ** (i / last) for i in range(4)]
        want = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert given[row].tolist() == pytest.approx(want, abs=1e-5)
    with pytest.raises(BeholderError, match="a text of 21 tokens; this model reads at most 20"):
        table.place(torch.zeros(1, 1, 8), torch.tensor([[20]]))


def test_sub_layer_norms_written_out():
    """Kosmos's decoder (MAGNETO, 2210.06423, section 2.1): norms before each half and before its last matrix."""
    config = sizes.MAGNETO_1_3B.tiny().but(num_layers=1)
    model = config.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    layer, ids = model.blocks[0], torch.tensor([[4, 5, 6]])
    with torch.no_grad():
        x = model.embedding.place(model.embed(ids), torch.arange(3)[None])[0]
        y, heads = layer.norm1(x), []
        for head in range(4):
            q, k, v = (
                part(y)[:, 8 * head : 8 * head + 8] for part in (layer.attn.q, layer.attn.k, layer.attn.v)
            )
            scores = (q @ k.T / math.sqrt(8)).masked_fill(torch.ones(3, 3).triu(1) == 1, -math.inf)
            heads.append(scores.softmax(-1) @ v)
        x = x + layer.attn.out(layer.attn.inner_norm(torch.cat(heads, 1)))
        y = nn.functional.gelu(layer.mlp.up(layer.norm2(x)))
        x = x + layer.mlp.down(layer.mlp.inner_norm(y))
        ours = model(decoder_inputs(model, ids)).hidden_BTD[0]
    assert torch.allclose(ours, model.norm(x), atol=1e-5)
