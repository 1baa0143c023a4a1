"""`ask` answers a question about pictures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beholder.cli import options, places
from beholder.cli.names import DEFAULT
from beholder.cli.output import Json, note, print_json, visible
from beholder.errors import BeholderError
from beholder.media.endings import CLIPS, PICTURES, SOUNDS

if TYPE_CHECKING:
    from beholder.pipeline import Pipeline
    from beholder.prompts.messages import Message, Regions
    from beholder.reply import Reply, Stream

EXAMPLE = 'beholder ask cat.jpg "What is this?"'
SOUND_SUFFIXES = tuple(f".{ending}" for ending in SOUNDS)


Words = Annotated[
    list[str],
    typer.Argument(
        metavar="PICTURE... QUESTION", help="Picture, clip or sound files, then the question in quotes."
    ),
]


def ask(
    words: Words,
    model: options.ModelName = DEFAULT,
    region: options.RegionText = None,
    point: options.PointText = None,
    mask: options.MaskFile = None,
    system: options.System = None,
    verbose: options.Verbose = False,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    stop: options.Stop = None,
    seed: options.Seed = None,
    schema: options.SchemaText = None,
    regex: options.Regex = None,
    choice: options.Choice = None,
    logprobs: options.LogProbs = None,
    beams: options.Beams = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    precision: options.Packing = None,
    adapter: options.Adapter = None,
    guess: options.Guess = None,
    chat_format: options.Format = None,
    draw: options.Draw = None,
    as_json: Json = False,
) -> None:
    """Answer a question about pictures, clips or sounds, or one without any. Detectors answer "a cat. a dog." with boxes.
    Systems that write down what is said need no question.
    """
    pictures, question = split_words(words)
    chosen = options.sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stops=stop,
        seed=seed,
        schema=options.schema(schema),
        regex=regex,
        choice=choice,
        logprobs=logprobs,
        beams=beams,
    )
    sources = check_pictures(pictures)
    regions = places.pointed_at(region or (), point or (), mask or (), sources, EXAMPLE)
    places.check_drawing(draw, pictures, sources)
    said = conversation(sources, regions, question, system)
    pipeline = options.open_model(model, device, dtype, chat_format, precision, guess, adapter)
    asked = {"model": pipeline.card.name, "pictures": pictures, "question": question}
    places.check_places(pipeline.card, draw)
    if finds_boxes(pipeline) and not regions:
        show_boxes(pipeline.ask(sources, question, **chosen), sources[0], asked, draw, as_json=as_json)
        return
    show_answer(pipeline.stream(said, **chosen), sources, asked, draw, as_json=as_json, verbose=verbose)


def show_answer(
    stream: Stream,
    sources: Sequence[Any],
    asked: dict[str, Any],
    draw: Path | None,
    *,
    as_json: bool,
    verbose: bool,
) -> None:
    """The answer on stdout as it comes, or as a document, and a drawing where one is wanted."""
    if not as_json:
        write_stream(stream)
    if draw is not None:
        places.draw_reply(stream.reply, sources[0], draw)
    if as_json:
        print_json(asked | reply_data(stream.reply))
    elif verbose:
        note(stats(stream.reply))


def conversation(
    sources: Sequence[Any], regions: Sequence[Regions], question: str, system: str | None
) -> list[Message]:
    """Decoded pictures and clips, regions of the first and the question as messages."""
    from beholder.prompts import messages
    from beholder.seeing import part_of

    said = messages.user(*(part_of(source) for source in sources), *regions, question)
    return [said] if system is None else [messages.system(system), said]


def finds_boxes(pipeline: Pipeline) -> bool:
    """Whether a detector answers."""
    return "boxes" in {head.output for head in pipeline.card.heads}


def show_boxes(
    reply: Reply, picture: Any, asked: dict[str, Any], draw: Path | None, *, as_json: bool
) -> None:
    """A detector's answer: a line for each box, or a document, and a drawing where one is wanted."""
    if draw is not None:
        places.draw_reply(reply, picture, draw)
    if as_json:
        print_json(asked | {"boxes": reply.boxes})
    else:
        print(visible(reply))


def split_words(words: Sequence[str]) -> tuple[list[str], str]:
    """Pictures and the question, which is the last word; of sounds alone, none need be asked. Raises `BeholderError` with what
    to write instead.
    """
    if words and all(Path(word).suffix.lower() in SOUND_SUFFIXES and is_picture(word) for word in words):
        return list(words), ""
    *pictures, question = words
    if not question.strip():
        raise BeholderError(f"the question is empty; write {EXAMPLE}")
    if is_picture(question):
        if pictures and not is_picture(pictures[0]):
            raise BeholderError(f"the question comes after the pictures; write {EXAMPLE}")
        raise BeholderError(f"no question came with {question}; write {EXAMPLE}")
    loose = next((word for word in pictures[1:] if not is_picture(word)), None)
    if loose is not None and is_picture(pictures[0]):
        raise BeholderError(f"{loose!r} is no picture; put the question in quotes: {EXAMPLE}")
    return pictures, question


def is_picture(word: str) -> bool:
    """Whether a word means a file: there is one, or it ends like the name of a picture, clip or sound."""
    try:
        exists = Path(word).exists()
    except (OSError, ValueError):  # too long for a name, or not one
        return False
    suffixes = tuple(f".{ending}" for ending in PICTURES + CLIPS + SOUNDS)
    return exists or (not any(char.isspace() for char in word) and word.lower().endswith(suffixes))


def check_pictures(paths: Sequence[str]) -> list[Any]:
    """The decoded pictures, and clips and sounds that could be decoded: damage is told before a model is loaded."""
    from beholder.media.decode import decode_many
    from beholder.media.recordings import decode_clip, is_clip
    from beholder.media.waves import decode_sound, is_sound
    from beholder.prompts.messages import Clip, Sound

    given: dict[int, Clip | Sound] = {}
    for number, path in enumerate(paths):
        if is_clip(path) and not path.lower().endswith(SOUND_SUFFIXES):
            given[number] = Clip(path)
            decode_clip(
                path, lambda _: [0], name=f"clip {sum(isinstance(each, Clip) for each in given.values())}"
            )
        elif is_sound(path) or path.lower().endswith(SOUND_SUFFIXES):
            given[number] = Sound(path)
            decode_sound(path, 16000, name=f"sound {sum(isinstance(each, Sound) for each in given.values())}")
    pictures = iter(decode_many([path for number, path in enumerate(paths) if number not in given]))
    return [given[number] if number in given else next(pictures) for number in range(len(paths))]


def write_stream(stream: Stream) -> None:
    """The answer on stdout as it comes, spaces around it left out."""
    held, begun = "", False
    for piece in stream:
        text = held + visible(piece)
        text = text if begun else text.lstrip()
        kept = text.rstrip()
        held = text[len(kept) :]
        begun = begun or bool(kept)
        sys.stdout.write(kept)
        sys.stdout.flush()
    print()


def reply_data(reply: Reply) -> dict[str, Any]:
    """An answer and what is known of it, JSON-ready. Times are in seconds."""
    places = ("boxes", "points", "polygons", "masks", "tracks")
    return {
        "answer": str(reply),
        "finish": reply.finish,
        "usage": vars(reply.usage),
        "seconds": {"total": reply.timings.total} | vars(reply.timings),
        "tokens_per_second": reply.tokens_per_second,
        **{name: list(map(as_data, getattr(reply, name))) for name in places if len(getattr(reply, name))},
        **({"beams": [vars(beam) for beam in reply.result.beams]} if reply.result.beams else {}),
        **({"tokens": [vars(score) for score in reply.result.scores]} if reply.result.scores else {}),
    }


def as_data(place: Any) -> Any:
    """A box, mask or the like, JSON-ready where it says how."""
    return place.to_data() if hasattr(place, "to_data") else place


def stats(reply: Reply) -> str:
    """One line: tokens, seconds by step, and why the answer ended."""
    usage, times = reply.usage, reply.timings
    known = f" ({usage.reused} read before)" if usage.reused else ""
    return (
        f"{usage.image} image + {usage.text} text tokens in{known}, {usage.new} out ({reply.finish}); "
        f"{times.total:.2f} s: pictures {times.media:.2f}, vision {times.vision:.2f}, prompt {times.prefill:.2f}, "
        f"answer {times.answer:.2f} ({reply.tokens_per_second:.1f} tokens/s)"
    )
