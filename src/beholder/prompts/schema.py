"""Reading and changing the content of a tokenizer.json, as plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from beholder.errors import BeholderError, UnknownName

GGUF_CONTROL_TYPES = (2, 3, 4)  # unknown, control, user-defined

LLAMA_3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Pre(NamedTuple):
    """What a name in `tokenizer.ggml.pre` stands for.

    steps:         pre-tokenizers before the byte-level one
    cuts_words:    the byte-level one cuts words too
    normalizer:    before all
    ignore_merges: a word that is a token stays whole, whatever the merges say
    """

    steps: tuple[dict[str, Any], ...] = ()
    cuts_words: bool = True
    normalizer: dict[str, Any] | None = None
    ignore_merges: bool = False


def _by_regex(pattern: str) -> tuple[dict[str, Any], ...]:
    return ({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},)


GGUF_PRE = {  # each from the model's published tokenizer.json
    "smollm": Pre(({"type": "Digits", "individual_digits": True},)),
    "gpt-2": Pre(),
    "llama-bpe": Pre(_by_regex(LLAMA_3_SPLIT), cuts_words=False, ignore_merges=True),
    "qwen2": Pre(
        _by_regex(LLAMA_3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")),
        cuts_words=False,
        normalizer={"type": "NFC"},
    ),
}


def check(data: Mapping[str, Any], at: str) -> None:
    """Raise `BeholderError` for what is no tokenizer.json; `at` names the file."""
    model, added = data.get("model"), data.get("added_tokens") or []
    vocab = model.get("vocab") if isinstance(model, Mapping) else None
    if not isinstance(vocab, (Mapping, list)):
        raise BeholderError(f"{at}: cannot be read as a tokenizer: no vocabulary in it; fetch the file again")
    if not all(isinstance(entry, Mapping) and {"id", "content"} <= entry.keys() for entry in added):
        raise BeholderError(
            f"{at}: cannot be read as a tokenizer: its added tokens are damaged; fetch the file again"
        )


def added_tokens(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The added tokens, each with id, content, special, lstrip, rstrip."""
    flags = {"special": False, "lstrip": False, "rstrip": False}
    return [flags | entry for entry in data.get("added_tokens") or ()]


def is_control(entry: Mapping[str, Any]) -> bool:
    """Whether only trusted text may give this added token: it is special, or spells markup (`<tool_call>`,
    `[IMG]`). The others are plain words and runs of white space that a publisher added to the vocabulary.
    """
    return bool(entry["special"] or re.search(r"[<>\[\]{}|]", entry["content"]))


def vocabulary(data: Mapping[str, Any]) -> dict[str, int]:
    """The model's own tokens, name to id."""
    vocab = data["model"]["vocab"]
    return dict(vocab) if isinstance(vocab, Mapping) else {name: i for i, (name, _) in enumerate(vocab)}


def with_words(data: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """The same tokenizer with those of `words` that it lacks as special tokens behind all others, in order."""
    added = added_tokens(data)
    ids = {**vocabulary(data), **{entry["content"]: entry["id"] for entry in added}}
    new = [word for word in words if word not in ids]
    first = max(ids.values(), default=-1) + 1
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    further = [{"id": first + number, "content": word, **plain} for number, word in enumerate(new)]
    return {**data, "added_tokens": [*added, *further]} if new else dict(data)


def with_hidden(data: Mapping[str, Any], hidden: Mapping[str, str]) -> dict[str, Any]:
    """The same tokenizer with tokens renamed, ids unchanged, so that no text leads to them. Nothing is put
    around a text any more.
    """
    model = dict(data["model"])
    vocab = model["vocab"]
    if isinstance(vocab, Mapping):
        model["vocab"] = {hidden.get(name, name): i for name, i in vocab.items()}
    else:
        model["vocab"] = [[hidden.get(name, name), score] for name, score in vocab]
    if "merges" in model:
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        model["merges"] = [
            (left, right)
            for left, right in pairs
            if left not in hidden and right not in hidden and left + right not in hidden
        ]
    if model.get("unk_token") in hidden:
        model["unk_token"] = hidden[model["unk_token"]]
    added = [
        entry | {"content": hidden.get(entry["content"], entry["content"])} for entry in added_tokens(data)
    ]
    return {
        **data,
        "model": model,
        "added_tokens": added,
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }


def wrapping(data: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids that the tokenizer by itself puts before and after a text."""
    return _wrapping(data.get("post_processor") or {})


def _wrapping(step: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    kind = step.get("type")
    if kind == "Sequence":
        before: tuple[int, ...] = ()
        after: tuple[int, ...] = ()
        for inner in step["processors"]:
            left, right = _wrapping(inner)
            before, after = left + before, after + right
        return before, after
    if kind in ("BertProcessing", "RobertaProcessing"):
        return (step["cls"][1],), (step["sep"][1],)
    if kind != "TemplateProcessing":
        return (), ()
    sides: tuple[list[int], list[int]] = ([], [])
    side = 0
    for item in step["single"]:
        if "SpecialToken" in item:
            sides[side].extend(step["special_tokens"][item["SpecialToken"]["id"]]["ids"])
        else:
            side = 1
    return tuple(sides[0]), tuple(sides[1])


def name_of(entry: Any) -> str | None:
    """A token's name as config files write it: a string, or an object with `content`."""
    return entry.get("content") if isinstance(entry, Mapping) else entry


def with_config(data: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What tokenizer_config.json adds to a tokenizer.json: further tokens, which of them are special, and
    whether the beginning and end tokens are put around a text.
    """
    added = added_tokens(data)
    known = {entry["content"] for entry in added}
    for key, entry in sorted(
        (config.get("added_tokens_decoder") or {}).items(), key=lambda pair: int(pair[0])
    ):
        if entry["content"] not in known:
            added.append({**_added(int(key), entry["content"]), **entry})
    known = {entry["content"] for entry in added}
    named = _special_names(config)
    for entry in added:
        entry["special"] = entry["special"] or entry["content"] in named
    own = vocabulary(data)
    added += [_added(own[name], name) for name in sorted(named - known) if name in own]
    data = {**data, "added_tokens": added}
    if "add_bos_token" in config or "add_eos_token" in config:
        data["post_processor"] = _template_processing(data, config)
    return data


def _added(token_id: int, name: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token_id, "content": name, **flags}


def _special_names(config: Mapping[str, Any]) -> set[str]:
    values = [
        value for key, value in config.items() if key.endswith("_token") and not isinstance(value, bool)
    ]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more = config.get(key) or []
        values += list(more.values()) if isinstance(more, Mapping) else more
    return {name for value in values if isinstance(name := name_of(value), str)}


def _template_processing(data: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The post-processor that `add_bos_token` and `add_eos_token` ask for; where one is unsaid, as before."""
    before, after = wrapping(data)
    ids = {entry["content"]: entry["id"] for entry in data["added_tokens"]}
    sides = []
    for role, now in (("bos", before), ("eos", after)):
        wanted = config.get(f"add_{role}_token")
        name = name_of(config.get(f"{role}_token"))
        sides.append(now if wanted is None else (ids[name],) if wanted and name in ids else ())
    return template_processing(*sides)


def template_processing(before: Sequence[int], after: Sequence[int]) -> dict[str, Any]:
    """The post-processor that puts these ids around a text."""

    def items(ids: Sequence[int]) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": str(i), "type_id": 0}} for i in ids]

    single = [*items(before), {"Sequence": {"id": "A", "type_id": 0}}, *items(after)]
    tokens = {str(i): {"id": str(i), "ids": [i], "tokens": [str(i)]} for i in (*before, *after)}
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *single],
        "special_tokens": tokens,
    }


def from_gguf(
    tokens: Sequence[str],
    merges: Sequence[str],
    token_types: Sequence[int],
    *,
    model: str,
    pre: str,
    bos_id: int | None,
) -> dict[str, Any]:
    """A tokenizer.json for the byte-level BPE that a GGUF file describes."""
    if model != "gpt2":
        raise UnknownName("tokenizer.ggml.model", model, ("gpt2",))
    if pre not in GGUF_PRE:
        raise UnknownName("tokenizer.ggml.pre", pre, GGUF_PRE)
    if len(tokens) != len(token_types):
        raise BeholderError(f"GGUF tokenizer: {len(tokens)} tokens but {len(token_types)} token types")
    cut = GGUF_PRE[pre]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": cut.cuts_words,
    }
    controls = [
        _added(i, name) | {"special": kind != 4}
        for i, (name, kind) in enumerate(zip(tokens, token_types, strict=True))
        if kind in GGUF_CONTROL_TYPES
    ]
    return {
        "version": "1.0",
        "added_tokens": controls,
        "normalizer": cut.normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*cut.steps, byte_level]},
        "post_processor": None if bos_id is None else template_processing((bos_id,), ()),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {name: i for i, name in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
            "ignore_merges": cut.ignore_merges,
        },
    }
