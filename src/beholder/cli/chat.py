"""`chat`: a conversation in the terminal, answers as they come."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beholder.cli import options
from beholder.cli.ask import check_pictures, reply_data, stats, write_stream
from beholder.cli.boundary import explained, report
from beholder.cli.names import DEFAULT
from beholder.cli.output import Json, note, print_json, visible
from beholder.errors import BeholderError, UnknownName

if TYPE_CHECKING:
    from beholder.pipeline import Pipeline
    from beholder.prompts.messages import Message
    from beholder.reply import Reply

COMMANDS = {
    "/image PATH": "show a picture or a clip, play a sound; it goes with what you say next",
    "/history": "what was said so far",
    "/stats": "tokens and seconds of the last answer",
    "/clear": "forget the conversation and its pictures",
    "/help": "this list",
    "/quit": "leave, as Ctrl-D does; Ctrl-C stops an answer",
}
PROMPT = "> "


def chat(
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PICTURE...]", help="Pictures, clips and sounds the conversation begins with."
        ),
    ] = None,
    model: options.ModelName = DEFAULT,
    system: options.System = None,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    stop: options.Stop = None,
    seed: options.Seed = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    precision: options.Packing = None,
    adapter: options.Adapter = None,
    guess: options.Guess = None,
    chat_format: options.Format = None,
    as_json: Json = False,
) -> None:
    """Talk with a model about pictures. /help lists what can be said besides words.

    Reads lines from a pipe too; with --json the whole conversation is printed as one document at its end.
    """
    chosen = options.sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stops=stop,
        seed=seed,
    )
    paths = [str(path) for path in pictures or ()]
    shown = list(zip(paths, check_pictures(paths), strict=True))
    pipeline = options.open_model(model, device, dtype, chat_format, precision, guess, adapter)
    pipeline.runtime = pipeline.runtime.remembering()
    talk = Conversation(pipeline, chosen, system, waiting=shown, quiet=as_json)
    if sys.stdin.isatty():
        import readline  # noqa: F401  (arrow keys and history at the prompt)

        note(f"{pipeline.card.name}; /help lists commands, /quit leaves")
    while (line := _read_line()) is not None and talk.take(line.strip()):
        pass
    if as_json:
        print_json({"model": pipeline.card.name, "turns": talk.turns})


def _read_line() -> str | None:
    """The next line; None at the end."""
    try:
        return input(PROMPT) if sys.stdin.isatty() else input()
    except EOFError:
        if sys.stdin.isatty():
            note("")
        return None
    except KeyboardInterrupt:  # often meant for an answer that had just ended
        if not sys.stdin.isatty():
            raise
        note("\n/quit or Ctrl-D leaves")
        return ""


def unquoted(path: str) -> str:
    """A path as a shell would read it where no file has the name as it stands: terminals quote what is dropped on them."""
    plain = Path(path).expanduser()
    if not plain.exists():
        try:
            words = shlex.split(path)
        except ValueError:  # a quotation mark that is part of the name
            words = []
        if len(words) == 1:
            plain = Path(words[0]).expanduser()
    return str(plain)


@dataclass
class Conversation:
    """What was said, and the pictures that wait for the next words."""

    pipeline: Pipeline
    chosen: dict[str, Any]
    system: str | None = None
    waiting: list[tuple[str, Any]] = field(default_factory=list)
    quiet: bool = False
    said: list[Message] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)
    last: Reply | None = None

    def take(self, line: str) -> bool:
        """Act on a line; False where it ends the conversation. In a terminal an error is told and the talk goes on."""
        try:
            if line.startswith("/"):
                return self._command(line)
            if line:
                self._say(line)
        except BeholderError as error:
            if not sys.stdin.isatty():
                raise
            report(explained(error)[1])
        return True

    def _command(self, line: str) -> bool:
        word, _, rest = line.partition(" ")
        if word == "/quit":
            return False
        if word == "/image":
            self._show(rest.strip())
        elif word == "/clear":
            self.said, self.turns, self.waiting, self.last = [], [], [], None
            note("forgotten")
        elif word == "/history":
            for turn in self.turns:
                pictures = "".join(f"[{path}] " for path in turn["pictures"])
                note(visible(f"{PROMPT}{pictures}{turn['question']}\n{turn['answer']}"))
        elif word == "/stats":
            note("nothing was answered yet" if self.last is None else stats(self.last))
        elif word == "/help":
            note("\n".join(f"{name:12}  {what}" for name, what in COMMANDS.items()))
        else:
            raise UnknownName("command", word, [name.split()[0] for name in COMMANDS])
        return True

    def _show(self, path: str) -> None:
        if not path:
            raise BeholderError("/image needs the path of a picture, such as /image cat.jpg")
        path = unquoted(path)
        source = check_pictures([path])[0]
        self.waiting.append((path, source))
        kind = type(source).__name__.lower()
        size = f"{source.shape[1]} x {source.shape[0]} pixels" if hasattr(source, "shape") else f"a {kind}"
        note(f"{path}: {size}; say something about it")

    def _say(self, words: str) -> None:
        from beholder.prompts.messages import assistant, user
        from beholder.prompts.messages import system as instructions
        from beholder.seeing import part_of

        first = [] if self.system is None else [instructions(self.system)]
        question = user(*(part_of(source) for _, source in self.waiting), words)
        stream = self.pipeline.stream([*first, *self.said, question], **self.chosen)
        try:
            if not self.quiet:
                write_stream(stream)
            reply = stream.reply
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            note("\nstopped; this question is not remembered")
            return
        self.said += [question, assistant(str(reply))]
        self.turns.append(
            {"pictures": [path for path, _ in self.waiting], "question": words, **reply_data(reply)}
        )
        self.waiting, self.last = [], reply
