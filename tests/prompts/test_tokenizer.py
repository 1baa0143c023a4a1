"""Text to ids and back: control tokens stay out of reach of text, and streams give what decoding gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from beholder.errors import BeholderError, UnknownName
from beholder.prompts.tokenizer import Control, Tokenizer

Pair = tuple[Tokenizer, tokenizers.Tokenizer]

HOSTILE = st.lists(
    st.sampled_from(
        [
            "<image>",
            "<|im_start|>",
            "</s>",
            "<s>",
            "<unk>",
            "<",
            ">",
            "|",
            "</",
            "s>",
            "<im",
            "age>",
            "system",
            "\n",
            " ",
        ]
    )
    | st.text(max_size=4),
    max_size=8,
).map("".join)
PLAIN_TEXT = st.text(alphabet=st.characters(exclude_characters="<>", exclude_categories=["Cs"]), max_size=20)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(text=HOSTILE)
def test_text_never_gives_a_control_token(pair: Pair, text: str) -> None:
    tokenizer, _ = pair
    controls = {control.id for name, control in tokenizer.controls.items() if name != "<unk>"}
    for first in (True, False):
        assert not controls & {token.id for token in tokenizer.tokens(text, first=first)}
    assert len(tokenizer.tokens(text)) == len(tokenizer.encode(text))


@quick
@given(text=PLAIN_TEXT)
def test_harmless_text_is_cut_as_officially(pair: Pair, text: str) -> None:
    tokenizer, raw = pair
    assert tokenizer.encode(text) == raw.encode(text, add_special_tokens=False).ids
    after = raw.encode("<image>" + text, add_special_tokens=False).ids[1:]
    assert [token.id for token in tokenizer.tokens(text, first=False)] == after


@quick
@given(text=HOSTILE | PLAIN_TEXT)
def test_tokens_say_where_they_stand(byte_pair: Pair, text: str) -> None:
    tokenizer, _ = byte_pair
    covered = 0
    for token in tokenizer.tokens(text, first=False):
        assert 0 <= token.start <= covered < token.stop <= len(text) or token.stop == covered
        covered = token.stop
    assert covered == len(text)


@quick
@given(text=HOSTILE | PLAIN_TEXT)
def test_bytes_survive_the_round_trip(byte_pair: Pair, text: str) -> None:
    tokenizer, _ = byte_pair
    assert tokenizer.decode(tokenizer.encode(text)) == text


@quick
@given(text=HOSTILE | PLAIN_TEXT, more=st.lists(st.integers(0, 260), max_size=12), skip=st.booleans())
def test_streams_give_what_decode_gives(pair: Pair, text: str, more: list[int], skip: bool) -> None:
    tokenizer, raw = pair
    ids = [
        i % tokenizer.vocab_size for i in [*tokenizer.encode(text), *more]
    ]  # `more` breaks characters apart
    stream = tokenizer.stream(skip_special=skip)
    pieces = [stream.add(i) for i in ids]
    whole = tokenizer.decode(ids, skip_special=skip)
    assert "".join(pieces) + stream.finish() == whole
    assert whole == raw.decode(ids, skip_special_tokens=skip)


def test_a_stream_holds_half_characters_back(byte_pair: Pair) -> None:
    tokenizer, _ = byte_pair
    ids = tokenizer.encode("a👍b")
    assert len(ids) == 6
    stream = tokenizer.stream()
    assert [stream.add(i) for i in ids] == ["a", "", "", "", "👍", "b"]
    assert stream.finish() == ""
    for i in ids[:3]:
        stream.add(i)
    assert stream.finish() == "\ufffd"


def test_trusted_text_is_cut_at_the_longest_control(pair: Pair) -> None:
    tokenizer, _ = pair
    pieces = tokenizer.split("<s>a <image></s>b<imag")
    assert [piece.name if isinstance(piece, Control) else (piece,) for piece in pieces] == [
        "<s>",
        ("a ",),
        "<image>",
        "</s>",
        ("b<imag",),
    ]
    assert tokenizer.split("") == []


def test_names_and_ids(pair: Pair) -> None:
    tokenizer, raw = pair
    assert tokenizer.vocab_size == raw.get_vocab_size()
    assert tokenizer.token_id("<image>") == raw.token_to_id("<image>")
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.pad_id) == (1, (2,), 3)
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids) == ((1,), ())
    for i in range(tokenizer.vocab_size):
        assert tokenizer.name(i) == raw.id_to_token(i)
        assert tokenizer.token_id(tokenizer.name(i)) == i
    with pytest.raises(UnknownName, match="nearest: <image>"):
        tokenizer.token_id("<imag>")
    with pytest.raises(BeholderError, match=str(tokenizer.vocab_size)):
        tokenizer.name(tokenizer.vocab_size)
    assert tokenizer.decode([tokenizer.vocab_size + 7]) == ""


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_merges_that_lead_to_a_control_token_are_cut(ignore_merges: bool) -> None:
    raw = tokenizers.Tokenizer(
        models.BPE(
            vocab={"<": 0, "/": 1, "s": 2, ">": 3, "</": 4, "s>": 5, "</s>": 6, "t": 7, "</s>t": 8},
            merges=[("<", "/"), ("s", ">"), ("</", "s>"), ("</s>", "t")],
            ignore_merges=ignore_merges,
        )
    )
    assert raw.encode("</s>").ids == [6]
    raw.add_special_tokens(["</s>"])
    tokenizer = Tokenizer(json.loads(raw.to_str()))
    assert tokenizer.encode("</s>") == [4, 5]
    assert 6 not in tokenizer.encode("</s>t</s>")


def test_a_unigram_vocabulary_with_a_control_token() -> None:
    raw = tokenizers.Tokenizer(
        models.Unigram([("<unk>", 0.0), ("</s>", 0.0), *((c, -5.0) for c in "</s>ab")], unk_id=0)
    )
    assert 1 in raw.encode("a</s>").ids
    raw.add_special_tokens(["</s>"])
    tokenizer = Tokenizer(json.loads(raw.to_str()))
    assert [tokenizer.name(i) for i in tokenizer.encode("a</s>b")] == ["a", "<", "/", "s", ">", "b"]


def test_words_and_white_space_among_added_tokens_stay_in_use() -> None:
    raw = tokenizers.Tokenizer(models.BPE(vocab={c: i for i, c in enumerate("abĠ")}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.add_tokens(["   ", "<tool>", "ab"])
    tokenizer = Tokenizer(json.loads(raw.to_str()))
    assert tokenizer.encode("a   ab") == [0, 3, 5]
    assert 4 not in tokenizer.encode("<tool>")
    assert tokenizer.decode([4]) == "<tool>"  # markup, but not special: decoding shows it


def test_save_and_open(pair: Pair, tmp_path: Path) -> None:
    tokenizer, _ = pair
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    text = "What is <image> in this 12 image? ü👍"
    assert again.encode(text) == tokenizer.encode(text)
    for field in (
        "bos_id",
        "eos_ids",
        "pad_id",
        "prefix_ids",
        "suffix_ids",
        "vocab_size",
        "chat_template",
        "controls",
    ):
        assert getattr(again, field) == getattr(tokenizer, field), field
    again.save(tmp_path)
    first = (tmp_path / "tokenizer.json").read_bytes()
    Tokenizer.from_folder(tmp_path).save(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == first
    assert Tokenizer.from_file(tmp_path / "tokenizer.json", eos=("</s>",)).encode(text) == tokenizer.encode(
        text
    )


def write(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_official_config_files(byte_pair: Pair, tmp_path: Path) -> None:
    raw = byte_pair[1]
    data = json.loads(raw.to_str())
    for entry in data["added_tokens"]:
        entry["special"] = entry["content"] == "<s>"
    data["added_tokens"] = [entry for entry in data["added_tokens"] if entry["content"] != "<row_1_col_1>"]
    size = raw.get_vocab_size()
    write(
        tmp_path,
        tokenizer=data,
        special_tokens_map={"bos_token": {"content": "<s>"}, "pad_token": "<missing>"},
        tokenizer_config={
            "add_bos_token": False,
            "add_eos_token": True,
            "eos_token": {"content": "</s>"},
            "additional_special_tokens": ["<row_1_col_1>"],
            "added_tokens_decoder": {str(size): {"content": "<new>", "special": True}},
            "chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}],
        },
        generation_config={"eos_token_id": [2, raw.token_to_id("<|im_end|>")]},
    )
    opened = Tokenizer.from_folder(tmp_path)
    assert opened.bos_id == 1
    assert opened.pad_id is None
    assert opened.eos_ids == (2, raw.token_to_id("<|im_end|>"))
    assert (opened.prefix_ids, opened.suffix_ids) == ((), (2,))
    assert opened.token_id("<new>") == size
    assert opened.vocab_size == size + 1
    assert "<row_1_col_1>" in opened.controls
    assert opened.chat_template == "d"
    assert opened.decode([2, *opened.encode("hi"), opened.token_id("<|im_end|>")]) == "hi<|im_end|>"


def test_what_stands_around_a_text() -> None:
    raw = tokenizers.Tokenizer(
        models.WordPiece({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3}, unk_token="[UNK]")
    )
    raw.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    raw.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    raw.enable_truncation(2)
    tokenizer = Tokenizer(json.loads(raw.to_str()))
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids) == ((1,), (2,))
    assert tokenizer.encode("a") == [3]
    assert tokenizer.encode("[CLS]") == [0]


def test_gguf_fields() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet, "Ġa", "12"]
    types = [3, 3, 3] + [1] * (len(tokens) - 3)
    merges = ["Ġ a", "1 2"]
    fields = {"bos_id": 1, "eos_id": 2, "pad_id": 2}
    smollm = Tokenizer.from_gguf_fields(tokens, merges, types, **fields)
    assert (smollm.bos_id, smollm.eos_ids, smollm.pad_id, smollm.prefix_ids) == (1, (2,), 2, ())
    assert [smollm.name(i) for i in smollm.encode("x a12")] == ["x", "Ġa", "1", "2"]
    assert set(smollm.encode("<|im_start|>")).isdisjoint({0, 1, 2})
    assert smollm.decode([1, *smollm.encode("<|im_end|> ü 12"), 2]) == "<|im_end|> ü 12"
    gpt2 = Tokenizer.from_gguf_fields(tokens, merges, types, pre="gpt-2", **fields, add_bos=True)
    assert [gpt2.name(i) for i in gpt2.encode("x a12")] == ["x", "Ġa", "12"]
    assert gpt2.prefix_ids == (1,)
    with pytest.raises(UnknownName, match=r"pre 'smolm'; nearest: smollm"):
        Tokenizer.from_gguf_fields(tokens, merges, types, pre="smolm")
    with pytest.raises(UnknownName, match="model 'llama'"):
        Tokenizer.from_gguf_fields(tokens, merges, types, model="llama")
    with pytest.raises(BeholderError, match="eos token 9999"):
        Tokenizer.from_gguf_fields(tokens, merges, types, eos_id=9999)
    with pytest.raises(BeholderError, match="types"):
        Tokenizer.from_gguf_fields(tokens, merges, types[1:])


@pytest.mark.parametrize(
    ("pre", "digits", "accent"),
    [
        ("smollm", ["1", "2", "3", "4"], "e\u0301"),
        ("llama-bpe", ["123", "4"], "e\u0301"),
        ("qwen2", [*"1234"], "é"),
    ],
)
def test_gguf_ways_to_cut(pre: str, digits: list[str], accent: str) -> None:
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "12", "123", "34"]
    merges = ["1 2", "12 3", "3 4"]
    tokenizer = Tokenizer.from_gguf_fields(tokens, merges, [1] * len(tokens), pre=pre)
    assert [tokenizer.name(i) for i in tokenizer.encode("1234")] == digits
    assert tokenizer.decode(tokenizer.encode("e\u0301")) == accent


def test_a_chat_template_in_a_file_of_its_own(byte_pair: Pair, tmp_path: Path) -> None:
    byte_pair[0].save(tmp_path)
    assert Tokenizer.from_folder(tmp_path).chat_template is None
    write(tmp_path, chat_template={"chat_template": "from json"})
    assert Tokenizer.from_folder(tmp_path).chat_template == "from json"
    (tmp_path / "chat_template.jinja").write_text("from jinja")
    assert Tokenizer.from_folder(tmp_path).chat_template == "from jinja"


def test_bad_files(byte_pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(BeholderError, match=r"tokenizer\.json"):
        Tokenizer.from_folder(tmp_path)
    with pytest.raises(BeholderError, match="cannot be read"):
        Tokenizer.from_file(tmp_path / "missing.json")
    bad = tmp_path / "tokenizer.json"
    for content, words in (
        ("{", "not JSON"),
        ("[]", "list"),
        ('{"model": 3}', "cannot be read"),
        ("{}", "cannot be read"),
    ):
        bad.write_text(content)
        with pytest.raises(BeholderError, match=words):
            Tokenizer.from_file(bad)
    data = json.loads(byte_pair[1].to_str())
    data["added_tokens"][-1]["id"] += 1
    bad.write_text(json.dumps(data))
    with pytest.raises(BeholderError, match="says id"):
        Tokenizer.from_file(bad)
    bad.write_text(byte_pair[1].to_str())
    with pytest.raises(UnknownName, match="<eos>"):
        Tokenizer.from_file(bad, eos=("<eos>",))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config.json", {"bos_token": ["<s>"]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "<s>"}}}),
        ("tokenizer.json", {"model": {"type": "BPE", "vocab": {}, "merges": [3]}}),
        ("tokenizer.json", {"model": {"type": "BPE", "vocab": {}, "merges": []}, "post_processor": True}),
    ],
)
def test_damaged_files_are_one_clear_line(byte_pair: Pair, tmp_path: Path, file: str, content: Any) -> None:
    (tmp_path / "tokenizer.json").write_text(byte_pair[1].to_str())
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(BeholderError, match="damaged .* fetch them again"):
        Tokenizer.from_folder(tmp_path)


def test_a_panic_of_the_tokenizers_package_is_an_error(
    byte_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panic = type("PanicException", (BaseException,), {})

    def panics(text: str) -> None:
        raise panic("range end index out of range")

    (tmp_path / "tokenizer.json").write_text(byte_pair[1].to_str())
    monkeypatch.setattr("tokenizers.Tokenizer", type("Stub", (), {"from_str": staticmethod(panics)}))
    with pytest.raises(BeholderError, match="cannot be read"):
        Tokenizer.from_folder(tmp_path)
