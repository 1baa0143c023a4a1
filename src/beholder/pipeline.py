"""A model with its tokenizer and prompt format: pictures and words in, answers or vectors out.

B rows, T positions, V pictures, D width.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from beholder.cards.schema import Card
from beholder.composing import asks, boxes_of, write
from beholder.errors import BeholderError
from beholder.generate.forms import Maker, maker
from beholder.generate.jobs import Job
from beholder.generate.loop import answers, generate
from beholder.generate.results import Piece, Result
from beholder.generate.rows import check_context, make_rows
from beholder.generate.runtime import Runtime
from beholder.generate.sampling import Sampling
from beholder.hearing import write_down, writes_down
from beholder.media.decode import decode_many
from beholder.model import Batch, Model, Output
from beholder.parts.adapters.apply import merge_adapters
from beholder.parts.contracts import BranchOutput, Context, Packed
from beholder.planning import (
    Plan,
    branch_plan,
    chat_format,
    check_answers,
    check_pictures,
    image_branches,
    listed,
)
from beholder.preparing import Prepared, prepare
from beholder.prompts.chat import ChatFormat, complete, render
from beholder.prompts.messages import Message, Picture, parse, user
from beholder.prompts.tasks import task_of
from beholder.prompts.tokenizer import Tokenizer
from beholder.questions import FOLDER, question_tokenizer
from beholder.referring import box_of, regions_part
from beholder.reply import Embeddings, Reply, Stream
from beholder.seeing import load_media, masked, part_of, plan
from beholder.segments import meant_by, read_batch

if TYPE_CHECKING:
    from beholder.classify import Classes
    from beholder.detect import Detection
    from beholder.weights.lazy import LazyTensor
    from beholder.weights.open import Opened

Messages = Sequence[Message | Mapping[str, Any]]

VIEWS_AT_ONCE = 32  # pictures of `embed` that go through the encoder together


class Pipeline:
    """`ask`, `chat`, `stream` and `answer` with systems that write text; `embed` and `classify` with those that compare.

    model: built, with its weights. tokenizer: None for systems without text. chat: a prompt format in place
    of the card's.
    runtime: how answers are computed: compiled steps, guesses, what is kept of earlier ones; may be set later.
    origin: the published folder the weights were read from, for `export`. words: the tokenizer of a connector that reads
    questions in words of its own, where `origin` holds none.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer | None = None,
        *,
        chat: ChatFormat | None = None,
        origin: Opened | None = None,
        words: Tokenizer | None = None,
        runtime: Runtime = Runtime(),
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.origin = origin
        self.words = question_tokenizer(origin.folder) if words is None and origin is not None else words
        self.runtime = runtime
        self._format = chat

    @property
    def card(self) -> Card:
        """The system's card."""
        return self.model.card

    @property
    def prompt_format(self) -> ChatFormat:
        """How conversations are written. Raises `BeholderError` where the published template is not a known
        one.
        """
        if self._format is None:
            self._format = chat_format(self.card, self._need_tokenizer())
        return self._format

    def ask(
        self,
        pictures: Any,
        question: str = "",
        *,
        regions: Sequence[Any] | None = None,
        system: str | None = None,
        **options: Any,
    ) -> Reply:
        """The answer to a question about one picture, recording or sound, several in a list, or none (None); systems that write
        down what is said need no question.

        A picture is a path, bytes, an array (H, W, 3) uint8 or a Pillow picture; a recording a path or bytes of a clip, or a
        `prompts.messages.Clip` of those, of an array (T, H, W, 3) or of a list of pictures; a sound a path or bytes, or a
        `prompts.messages.Sound` of those, of samples (S,) at the rate that is heard or of (samples, rate). regions: boxes (four
        numbers), points (two) and masks (arrays (H, W)) in pixels of the first picture, for systems that take them. options:
        the fields of `Sampling`. Raises `BeholderError` (`MediaError` for a picture) with one clear line.
        """
        if "boxes" in self._outputs and not self._writes_text:
            return self._found(pictures, question, **options)
        parts: list[Any] = [part_of(source) for source in listed(pictures)]
        if regions:
            parts.append(regions_part(regions))
        first = [Message("system", complete(system)[0].parts)] if system is not None else []
        return self.chat([*first, user(*parts, question)], **options)

    def do(
        self,
        pictures: Any,
        task: str,
        text: str = "",
        *,
        region: Sequence[float] | None = None,
        ocr: Sequence[str] = (),
        **options: Any,
    ) -> Reply:
        """What one of the card's tasks says of a picture, several in a list, or none (None). text, region (a box in pixels of
        the first), ocr (texts that another system found in it): where the task takes them.

        `boxes`, `points` and `polygons` of the reply are `prompts.tasks.Region`s. Raises `UnknownName` for a task that the card
        lacks.
        """
        chosen = task_of(self.card.tasks, task)
        parts = chosen.parts(text, None if region is None else box_of(region), ocr)
        reply = self.chat([user(*map(part_of, listed(pictures)), *parts)], **options)
        answer = self._need_tokenizer().decode(reply.ids, skip_special=False)
        found = chosen.read(answer, reply.plan.pictures[0].views[0]) if reply.plan.pictures else ()
        reply.boxes = tuple(region for region in found if region.box is not None)
        reply.points = tuple(region for region in found if region.point is not None)
        reply.polygons = tuple(region for region in found if region.quad or region.polygons)
        return reply

    def chat(self, messages: Messages, **options: Any) -> Reply:
        """The next answer of a conversation; see `prompts.messages.parse` for its form."""
        return self.answer([messages], **options)[0]

    def stream(self, messages: Messages, **options: Any) -> Stream:
        """`chat`, piece by piece."""
        prepared, pieces = self._generate([messages], Sampling.of(options))
        return Stream(pieces, lambda result: self.reply(result, prepared, 0))

    def answer(self, conversations: Sequence[Messages], **options: Any) -> list[Reply]:
        """The next answer of each conversation, all computed together. No answer depends on the others."""
        if not conversations:
            return []
        prepared, pieces = self._generate(conversations, Sampling.of(options))
        return [self.reply(result, prepared, row) for row, result in enumerate(answers(pieces))]

    def embed(
        self,
        images: Any = None,
        texts: str | Sequence[str] | None = None,
        *,
        masks: Sequence[np.ndarray] | None = None,
    ) -> Embeddings:
        """Unit vectors of pictures and texts, and their likeness where the system has a measure of it.

        masks: one for each picture, (H, W) booleans or uint8 of its size, for systems that look where a mask says
        (Alpha-CLIP). Raises `BeholderError` for systems that give no vectors and for texts beyond the context.
        """
        sources, words = listed(images), [texts] if isinstance(texts, str) else list(texts or ())
        check_pictures(self.card, len(sources))
        if masks is not None and len(masks) != len(sources):
            raise BeholderError(f"{len(masks)} masks for {len(sources)} pictures; give one for each")
        if not sources and not words:
            raise BeholderError("nothing to embed; give images=[...] or texts=[...]")
        with torch.inference_mode():
            branches = self.encode_pictures(sources, masks) if sources else {}
            language = self.model.read(self._texts(words), {}) if words else None
            heads = self.model.apply_heads(Batch(), branches, language)
        likeness = heads.get("similarity")
        if likeness is not None:
            return Embeddings(*(None if t is None else t.float().cpu().numpy() for t in likeness[:3]))
        return Embeddings(
            _unit(self._pooled(branches)) if sources else None,
            _unit(None if language is None else language.pooled_BD) if words else None,
        )

    def embed_signals(self, branch: str, signals: Sequence[Any]) -> np.ndarray:
        """Unit vectors (N, D) of what another branch than that of pictures senses: sounds as WAV files or samples (S,),
        other signals as arrays that its encoder takes; see `beholder.signals`.
        """
        from beholder.signals import embed_signals

        return embed_signals(self.model, branch, signals)

    def classify(
        self,
        pictures: Any,
        labels: Sequence[str] | None = None,
        *,
        templates: str | Sequence[str] = "imagenet-7",
    ) -> Classes:
        """How probable each label is for each picture: by the likeness of the pictures and sentences about the labels, or
        without `labels` by those that the system was trained for.

        templates: `imagenet-80`, `imagenet-7`, `photo` or `label`, or sentences with {} where the label goes. Raises
        `BeholderError` for systems that neither compare pictures with texts nor have labels.
        """
        from beholder.classify import classify

        return classify(self, listed(pictures), labels, templates)

    def encode_pictures(
        self, sources: Sequence[Any], masks: Sequence[np.ndarray] | None = None
    ) -> dict[str, BranchOutput]:
        """Features of pictures that are not part of a prompt, so many at a time. Sources are those of `ask`."""
        check_pictures(self.card, len(sources))
        branch, tokens, grids, pooled, plans = image_branches(self.card)[0], [], [], [], []
        taps: list[Mapping[int, Packed]] = []
        for first in range(0, len(sources), VIEWS_AT_ONCE):
            pictures = decode_many(sources[first : first + VIEWS_AT_ONCE])
            planned = [branch_plan(self.card, branch, picture.shape[:2]) for picture in pictures]
            loaded = load_media(branch, [(Picture(), picture) for picture in pictures], planned)
            views = [view.to(self.model.device) for view in loaded]
            if masks is not None:
                views = masked(self.card, branch, views, masks[first : first + VIEWS_AT_ONCE], planned)
            packed = self.model.branch(branch.name)(views, context=Context(plans=(tuple(planned),)))
            tokens.append(packed.tokens_ND)
            taps.append(packed.taps)
            grids += packed.grids
            plans += planned
            pooled += [] if packed.pooled_VD is None else [packed.pooled_VD]
        levels = {
            number: Packed(
                torch.cat([each[number].tokens_ND for each in taps]),
                tuple(grid for each in taps for grid in each[number].grids),
            )
            for number in taps[0]
        }
        packed = Packed(torch.cat(tokens), tuple(grids), levels, torch.cat(pooled) if pooled else None)
        return {branch.name: BranchOutput(packed, (tuple(plans),))}

    def detect(
        self, pictures: Any, phrases: str | Sequence[str], *, threshold: float = 0.1
    ) -> list[tuple[Detection, ...]]:
        """Where each picture shows what phrases name, the likeliest first. phrases: several, or one text in which full
        stops part them. threshold: the least score, from 0 to 1. Raises `BeholderError` for systems that find no boxes.
        """
        from beholder.detect import detect, phrases_of

        named = phrases_of(phrases) if isinstance(phrases, str) else list(phrases)
        return detect(self, listed(pictures), named, threshold)

    def _found(self, pictures: Any, question: str, **options: Any) -> Reply:
        """A detector's answer, which is boxes."""
        from beholder.detect import reply_of

        given = listed(pictures)
        if len(given) != 1 or options:
            said = f"the options {', '.join(options)}" if options else f"{len(given)} pictures"
            raise BeholderError(
                f"{self.card.name} finds boxes in one picture at a time; it cannot take {said}"
            )
        return reply_of(self, given[0], question)

    def plan(self, pictures: Any = (), text: str = "") -> Plan:
        """What pictures and a question become, before anything is computed."""
        answers_text = self.tokenizer is not None and self._writes_text
        return plan(
            self.card,
            pictures,
            text,
            tokenizer=self.tokenizer if answers_text else None,
            chat=self.prompt_format if answers_text else None,
        )

    @torch.inference_mode()
    def forward_planned(self, batch: Batch) -> Output:
        """The forward on ids, views and plans that are given: no decoding, no prompt, no sampling."""
        return self.model(batch)

    def save(self, folder: str | Path, *, merge: bool = False) -> Path:
        """Write a beholder folder, which `beholder.load` opens again: the card as data, weights, tokenizer. Adapters stay
        what they are, beside the weights that they change, or with `merge` go into these, here as well.
        """
        from beholder.weights.open import OFFICIAL_FILE
        from beholder.weights.save import save_folder

        if merge:
            merge_adapters(self.model)
        card = self.card if self._format is None else self.card.but(prompt=self._format)
        with tempfile.TemporaryDirectory() as scratch:
            if self.tokenizer is not None:
                self.tokenizer.save(scratch)
            if self.words is not None:
                self.words.save(Path(scratch, FOLDER))
            written = sorted(path for path in Path(scratch).rglob("*") if path.is_file())
            files: dict[str, bytes | Path] = {path.relative_to(scratch).as_posix(): path for path in written}
            if self.origin is not None and self.origin.published is not None:
                files[OFFICIAL_FILE] = self.origin.published.to_json()
            return save_folder(folder, card.to_data(), self._tensors(), files)

    def save_adapter(
        self, folder: str | Path, *, form: str = "peft", base: str = "", also: Sequence[str] = ()
    ) -> Path:
        """Write the adapters alone, for `load(..., adapter=folder)` and, in the form `peft`, for that library; see
        `weights.adapter_files.save_adapter`.
        """
        from beholder.weights.adapter_files import save_adapter

        return save_adapter(self.model, folder, form=form, origin=self.origin, base=base, also=also)

    def export(self, folder: str | Path) -> Path:
        """Write a folder in the layout of the publisher, which the official library opens. Raises
        `BeholderError` for a system that was never read from such a folder, or whose parts were changed since.
        """
        from beholder.weights.layout import to_published
        from beholder.weights.save import export_folder

        origin = self.origin
        if origin is None or origin.published is None:
            raise BeholderError(
                f"{self.card.name} was not read from an official folder; save it as a beholder folder instead"
            )
        if self.card.adapters:
            raise BeholderError(
                f"{self.card.name} has adapters, for which its publisher's files have no place; merge them "
                "(save(..., merge=True)), or write them with save_adapter"
            )
        tensors = to_published(self._tensors(), origin.published.bindings)
        return export_folder(folder, origin.published.config, tensors, origin.official_files())

    def _tensors(self) -> Mapping[str, Tensor | LazyTensor]:
        from beholder.weights.load import state_tensors

        if self.origin is None or self.origin.model is not self.model:
            return state_tensors(self.model)
        return self.origin.tensors()

    @property
    def _writes_text(self) -> bool:
        return "text" in self._outputs

    @property
    def _outputs(self) -> set[str]:
        return {head.output for head in self.card.heads}

    def _need_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise BeholderError(f"{self.card.name} has no tokenizer; put tokenizer.json beside its weights")
        return self.tokenizer

    def reply(self, result: Result, prepared: Prepared, row: int = 0) -> Reply:
        """What is told of a result: its text, and the boxes and masks that it means."""
        timings = replace(result.timings, plan=prepared.seconds_plan, media=prepared.seconds_media)
        result = replace(result, timings=timings)
        if writes_down(self.card):
            return Reply(result, prepared.plans[row])
        turn = self.prompt_format.assistant
        reply = Reply.of(result, prepared.plans[row], turn, self._need_tokenizer()).told(self.card.drawing)
        said = (self.model, prepared.batch, row, result.ids)
        reply.masks, reply.tracks, boxes = meant_by(*said, self._need_tokenizer())
        reply.boxes = boxes or boxes_of(*said, self._need_tokenizer().decode)
        return reply

    def _generate(
        self, conversations: Sequence[Messages], sampling: Sampling
    ) -> tuple[Prepared, Iterator[Piece]]:
        check_answers(self.card)
        parsed = [parse(messages) for messages in conversations]
        if writes_down(self.card):
            chat = self._format or self.card.prompt
            plans, pieces = write_down(self.model, self._need_tokenizer, chat, parsed, sampling)
            return Prepared(Batch(), plans, 0.0, 0.0), pieces
        prepared = self.prepare(parsed)
        batch, decode = read_batch(self.card, prepared.batch), self._need_tokenizer().stream
        ends, samplings = prepared.ends, prepared.samplings(sampling)
        if asks(self.model) is None:
            follow = None if sampling.form is None else self._follow
            return prepared, generate(
                self.model,
                batch,
                samplings,
                eos_ids=ends,
                decode=decode,
                follow=follow,
                runtime=self.runtime,
            )
        if sampling.form is not None or sampling.logprobs is not None:
            raise BeholderError(
                f"{self.card.name} finds boxes as it writes, without a form or scores of tokens"
            )
        return prepared, write(self.model, batch, samplings, eos_ids=ends, decode=decode)

    def prepare(self, conversations: Sequence[Sequence[Message]]) -> Prepared:
        """Conversations ready for the model: pictures decoded and scaled, prompts written. Raises as `ask` does."""
        return prepare(self.model, self._need_tokenizer(), self.prompt_format, self.words, conversations)

    def job(self, prepared: Prepared, sampling: Sampling, priority: int = 0) -> Job:
        """A request to a `generate.scheduler.Scheduler`. Raises `BeholderError` for systems that do more than to write words,
        and for beams.
        """
        if writes_down(self.card) or asks(self.model) is not None or sampling.beams > 1:
            said = "by beams" if sampling.beams > 1 else "in steps of their own"
            raise BeholderError(
                f"{self.card.name} answers {said}, which no engine shares; call answer of the pipeline"
            )
        batch = read_batch(self.card, prepared.batch)
        rows = make_rows(
            self.model,
            batch,
            prepared.samplings(sampling),
            check_context(self.model, batch),
            eos_ids=prepared.ends,
            decode=self._need_tokenizer().stream,
            follow=None if sampling.form is None else self._follow,
        )
        return Job(batch, rows, priority)

    @cached_property
    def _follow(self) -> Maker:
        return maker(self._need_tokenizer())

    def _texts(self, words: Sequence[str]) -> Batch:
        """What the text tower reads, a row for each text."""
        main, tokenizer = self.card.main, self._need_tokenizer()
        if main is None:
            raise BeholderError(f"{self.card.name} reads no text; give images alone")
        rows = [list(render(complete(text), self.prompt_format, tokenizer).ids) for text in words]
        for number, row in enumerate(rows, start=1):
            if len(row) > main.context:
                raise BeholderError(
                    f"text {number} has {len(row)} tokens and {self.card.name} reads at most {main.context}; shorten it"
                )
        width = main.context if main.fills_context else max(map(len, rows))
        blank = tokenizer.pad_id if main.fills_context and tokenizer.pad_id is not None else 0
        ids_BT = torch.tensor([row + [blank] * (width - len(row)) for row in rows], device=self.model.device)
        lengths = None if main.fills_context else tuple(map(len, rows))
        return Batch(ids_BT=ids_BT, lengths=lengths)

    def _pooled(self, branches: Mapping[str, BranchOutput]) -> Tensor | None:
        """One vector per picture, where the branch makes one."""
        for name, output in branches.items():
            connector = self.card.branch(name).connector
            if connector is not None and connector.reads_pooled:
                return output.packed.tokens_ND
            return output.packed.pooled_VD
        return None


def _unit(vectors: Tensor | None) -> np.ndarray:
    if vectors is None:
        raise BeholderError(
            "this system makes no vector of a whole picture or text; choose a dual encoder such as CLIP"
        )
    return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()


def load(
    name: str | Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    chat: str | None = None,
    precision: str | None = None,
    adapter: str | Path | None = None,
    merge: bool = False,
) -> Pipeline:
    """A system ready to use. name: a card's name, a beholder folder, a folder in an official layout, a GGUF
    file, or a hub id such as `org/name`. chat: the name of a prompt format where the published one is not
    known. precision: packed for inference on a processor: `float32`, `bf16`, `int8`, `int4`, or by part as in
    `vision=bf16,language=int4,head=int8` (`beholder.speed`); in place of dtype. adapter: a folder that PEFT or `save_adapter`
    wrote, put on the model, on its packed weights where they are; merge: into the weights, before they are packed. Raises
    `BeholderError` in one line for a name that stands for nothing.
    """
    from beholder.opening import open_ready
    from beholder.prompts.registry import format_named

    opened, tokenizer, runtime = open_ready(name, device, dtype, precision, adapter, merge)
    written = None if chat is None else format_named(chat)
    return Pipeline(opened.model, tokenizer, chat=written, origin=opened, runtime=runtime)
