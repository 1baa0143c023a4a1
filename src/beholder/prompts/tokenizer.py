"""Text to ids and back, over the `tokenizers` package.

Two kinds of text are kept apart. *Trusted* text (chat formats, tags of a media plan) may spell control tokens such
as `<|im_start|>`: `split` finds them. All other text is encoded by a tokenizer that knows no control token under a
name that can be typed, so nothing a user writes can become one.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers

from beholder.errors import BeholderError, UnknownName
from beholder.prompts import schema

CONFIG_FILE = "tokenizer_config.json"
TOKENIZER_FILE = "tokenizer.json"
RAW_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Token(NamedTuple):
    """One token and the part [start, stop) of the text, in characters, that it stands for."""

    id: int
    start: int
    stop: int


@dataclass(frozen=True)
class Control:
    """A token that only trusted text can give. strips: it swallows white space on its left, on its right."""

    id: int
    name: str
    special: bool = True
    strips_left: bool = False
    strips_right: bool = False


class Tokenizer:
    """Ids of text, and text of ids. Build one with `from_file`, `from_folder` or `from_gguf_fields`.

    `data` is the content of a tokenizer.json; `bos`, `eos` and `pad` are names of tokens.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        *,
        bos: str | None = None,
        eos: Sequence[str] = (),
        pad: str | None = None,
        chat_template: str | None = None,
    ) -> None:
        self._data = data
        self.chat_template = chat_template
        added = schema.added_tokens(data)
        controls = [
            Control(entry["id"], entry["content"], entry["special"], entry["lstrip"], entry["rstrip"])
            for entry in added
            if schema.is_control(entry)
        ]
        self.controls: dict[str, Control] = {control.name: control for control in controls}
        self._by_id = {control.id: control for control in controls}
        nonce = secrets.token_hex(8)
        self._anchor = f"\ue000{nonce}:anchor\ue000"
        hidden = {control.name: f"\ue000{nonce}:{control.id}\ue000" for control in controls}
        self._backend = _open(json.dumps(schema.with_hidden(data, hidden)))
        for entry in added:
            got = self._backend.token_to_id(hidden.get(entry["content"], entry["content"]))
            if got != entry["id"]:
                raise BeholderError(
                    f"tokenizer: added token {entry['content']!r} says id {entry['id']} but gets {got}; "
                    "fetch the file again"
                )
        names = sorted(self.controls, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, names))) if names else None
        self.vocab_size = max([self._backend.get_vocab_size() - 1, *self._by_id]) + 1
        self._backend.add_special_tokens(
            [tokenizers.AddedToken(self._anchor, normalized=False, special=True)]
        )
        self._decoder = self._backend.decoder
        self._names: dict[int, str | None] = {}
        self._alone: dict[int, str] = {}  # texts of single tokens
        self.prefix_ids, self.suffix_ids = schema.wrapping(data)
        self.bos_id = None if bos is None else self.token_id(bos)
        self.eos_ids = tuple(dict.fromkeys(self.token_id(name) for name in eos))
        self.pad_id = None if pad is None else self.token_id(pad)

    def published(self) -> str:
        """The text of its `tokenizer.json`."""
        return json.dumps(self._data)

    @classmethod
    def from_file(
        cls, path: str | Path, *, bos: str | None = None, eos: Sequence[str] = (), pad: str | None = None
    ) -> Tokenizer:
        """The tokenizer in a `tokenizer.json`."""
        return cls(_read_tokenizer(Path(path)), bos=bos, eos=eos, pad=pad)

    @classmethod
    def from_folder(cls, folder: str | Path, *, words: Sequence[str] = ()) -> Tokenizer:
        """The tokenizer of an official or beholder folder: `tokenizer.json`, with the roles of tokens from
        `tokenizer_config.json`, `special_tokens_map.json` and `generation_config.json` where they exist. words: what official
        code adds behind its vocabulary.
        """
        folder = Path(folder)
        try:
            return cls._read(folder, words)
        except BeholderError:
            raise
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise BeholderError(
                f"{folder}: its tokenizer files are damaged ({type(error).__name__}: {error}); fetch them again"
            ) from None

    @classmethod
    def _read(cls, folder: Path, words: Sequence[str]) -> Tokenizer:
        path = folder / TOKENIZER_FILE
        if not path.is_file():
            raise BeholderError(
                f"{folder}: has no {TOKENIZER_FILE}; save the tokenizer in that form and put it there"
            )
        config: dict[str, Any] = {}
        for name in ("special_tokens_map.json", CONFIG_FILE):
            if (folder / name).is_file():
                config |= _read_json(folder / name)
        data = schema.with_words(schema.with_config(_read_tokenizer(path), config), words)
        ids = {entry["id"]: entry["content"] for entry in schema.added_tokens(data)}
        ends = [schema.name_of(config.get("eos_token")), *config.get("eos_tokens", ())]
        if (folder / "generation_config.json").is_file():
            found = _read_json(folder / "generation_config.json").get("eos_token_id")
            ends += [ids.get(i) for i in (found if isinstance(found, list) else [found])]
        known = {*ids.values(), *schema.vocabulary(data)}
        return cls(
            data,
            bos=_known(config.get("bos_token"), known),
            eos=tuple(dict.fromkeys(name for name in ends if name in known)),
            pad=_known(config.get("pad_token"), known),
            chat_template=_template(folder, config),
        )

    @classmethod
    def from_gguf_fields(
        cls,
        tokens: Sequence[str],
        merges: Sequence[str],
        token_types: Sequence[int],
        *,
        model: str = "gpt2",
        pre: str = "smollm",
        bos_id: int | None = None,
        eos_id: int | None = None,
        pad_id: int | None = None,
        add_bos: bool = False,
        chat_template: str | None = None,
    ) -> Tokenizer:
        """The tokenizer in the `tokenizer.ggml.*` fields of a GGUF file. Only byte-level BPE (`model="gpt2"`) is
        read; `pre` names the way text is cut before merging. Unknown ones raise `UnknownName`.
        """
        data = schema.from_gguf(
            tokens, merges, token_types, model=model, pre=pre, bos_id=bos_id if add_bos else None
        )
        for role, token_id in (("bos", bos_id), ("eos", eos_id), ("padding", pad_id)):
            if token_id is not None and not 0 <= token_id < len(tokens):
                raise BeholderError(
                    f"GGUF tokenizer: {role} token {token_id} of {len(tokens)}; the file is damaged"
                )
        return cls(
            data,
            bos=None if bos_id is None else tokens[bos_id],
            eos=() if eos_id is None else (tokens[eos_id],),
            pad=None if pad_id is None else tokens[pad_id],
            chat_template=chat_template,
        )

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which `from_folder` reads."""
        folder = Path(folder)
        folder.mkdir(exist_ok=True)
        names = [self.name(i) for i in self.eos_ids]
        config = {
            "bos_token": None if self.bos_id is None else self.name(self.bos_id),
            "eos_token": names[0] if names else None,
            "eos_tokens": names,
            "pad_token": None if self.pad_id is None else self.name(self.pad_id),
            "chat_template": self.chat_template,
        }
        kept = {key: value for key, value in config.items() if value}
        for name, content in ((TOKENIZER_FILE, self._data), (CONFIG_FILE, kept)):
            text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
            (folder / name).write_text(text, encoding="utf-8")

    def encode(self, text: str) -> list[int]:
        """Ids of text that nobody vouches for: never a control token, whatever it spells. Nothing is added."""
        return [token.id for token in self.tokens(text)]

    def tokens(self, text: str, *, first: bool = True) -> list[Token]:
        """`encode` with the place of each token in the text. `first=False`: the text follows a control token or
        a picture, which matters to tokenizers that mark the beginning of a text.
        """
        if not text:
            return []
        lead = "" if first else self._anchor
        encoding = self._backend.encode(lead + text, add_special_tokens=False)
        skip, shift = (0, 0) if first else (1, len(lead))
        return [
            Token(i, start - shift, stop - shift)
            for i, (start, stop) in zip(encoding.ids[skip:], encoding.offsets[skip:], strict=True)
        ]

    def split(self, text: str) -> list[str | Control]:
        """Trusted text cut at the control tokens it spells; of several that could begin, the longest."""
        if self._pattern is None:
            return [text] if text else []
        pieces: list[str | Control] = []
        last = 0
        for match in self._pattern.finditer(text):
            pieces += [text[last : match.start()], self.controls[match.group()]]
            last = match.end()
        return [piece for piece in [*pieces, text[last:]] if piece != ""]

    def token_id(self, name: str) -> int:
        """The id of the token with exactly this name; `UnknownName` where there is none."""
        if name in self.controls:
            return self.controls[name].id
        found = self._backend.token_to_id(name)
        if found is None:
            raise UnknownName("token", name, self.controls)
        return int(found)

    def name(self, token_id: int) -> str:
        """The name of a token, as the tokenizer's files write it."""
        name = self._name(token_id)
        if name is None:
            raise BeholderError(f"token id {token_id} is outside the vocabulary of {self.vocab_size}")
        return name

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of ids. Ids past the vocabulary (models may have spare rows) give nothing."""
        names = [
            name
            for i in ids
            if not (skip_special and self.is_special(i)) and (name := self._name(i)) is not None
        ]
        return " ".join(names) if self._decoder is None else str(self._decoder.decode(names))

    def alone(self, token_id: int) -> str:
        """The text of one token by itself, special or not."""
        if token_id not in self._alone:
            text = self.decode([token_id], skip_special=False)
            if not 0 <= token_id < self.vocab_size:
                return text
            self._alone[token_id] = text
        return self._alone[token_id]

    def stream(self, *, skip_special: bool = True) -> DecodeStream:
        """A decoder that takes ids one by one."""
        return DecodeStream(self, skip_special=skip_special)

    def is_special(self, token_id: int) -> bool:
        """Whether `decode` leaves this token out."""
        control = self._by_id.get(token_id)
        return control is not None and control.special

    def _name(self, token_id: int) -> str | None:
        if not 0 <= token_id < self.vocab_size:
            return None
        if token_id not in self._names:
            control = self._by_id.get(token_id)
            self._names[token_id] = control.name if control else self._backend.id_to_token(token_id)
        return self._names[token_id]


class DecodeStream:
    """Text of ids that arrive one by one. What has been given out always ends between two characters, and all of
    it together with `finish()` is what `decode` gives for all ids at once.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._context: list[int] = []  # the last ids given out: some decoders treat the beginning apart
        self._pending: list[int] = []

    def add(self, token_id: int) -> str:
        """The text that has become certain with this token; often empty in the middle of a character."""
        if self._skip_special and self._tokenizer.is_special(token_id):
            return ""
        self._pending.append(token_id)
        return self._text(final=False)

    def finish(self) -> str:
        """What was held back."""
        return self._text(final=True)

    def _text(self, *, final: bool) -> str:
        if not self._pending or (not final and self._in_bytes()):
            return ""
        context = self._context
        before = (
            self._tokenizer.alone(context[0])
            if len(context) == 1
            else self._tokenizer.decode(context, skip_special=False)
        )
        text = self._tokenizer.decode(context + self._pending, skip_special=False)[len(before) :]
        if not final and (not text or text.endswith("\ufffd")):
            return ""
        self._context, self._pending = self._pending, []
        return text

    def _in_bytes(self) -> bool:
        """Whether the last token is a raw byte (`<0x0A>`); a run of them is only known to be text at its end."""
        name = self._tokenizer._name(self._pending[-1])
        return name is not None and name.startswith("<0x") and RAW_BYTE.fullmatch(name) is not None


def _open(text: str) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_str(text)
    except BaseException as error:  # nothing narrower is raised, and panics of Rust are no `Exception`
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise BeholderError(f"tokenizer: this tokenizer.json cannot be read ({error})") from None
    backend.no_truncation()
    backend.no_padding()
    return backend


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BeholderError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise BeholderError(f"{path}: is not JSON text; fetch the file again") from None
    if not isinstance(data, dict):
        raise BeholderError(f"{path}: expected an object, got a {type(data).__name__}")
    return data


def _read_tokenizer(path: Path) -> dict[str, Any]:
    data = _read_json(path)
    schema.check(data, str(path))
    return data


def _known(entry: Any, names: set[str]) -> str | None:
    name = schema.name_of(entry)
    return name if name in names else None


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The folder's chat template as text, unread: see `registry.format_from_template`."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if (folder / "chat_template.json").is_file():
        config = _read_json(folder / "chat_template.json")
    template = config.get("chat_template")
    if isinstance(template, list):  # several named ones
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else None
