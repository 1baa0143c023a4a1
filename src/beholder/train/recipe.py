"""A recipe: a card, where its parts' weights come from, and its stages with their data. Data, not code; `train` runs it."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch

from beholder.cards.schema import Card, Stage
from beholder.config import Config, set_from_text
from beholder.data.order import Buckets, Order, Packed
from beholder.data.samples import Dataset
from beholder.errors import BeholderError, UnknownName
from beholder.files import write_text_atomic
from beholder.model import Model, build
from beholder.prompts.byte_level import byte_tokenizer
from beholder.train.collate import Collator
from beholder.train.looks import answering
from beholder.train.loop import Settings, Watch
from beholder.train.processes import ALONE, World
from beholder.train.resolution import card_at
from beholder.train.run import Outcome, Task, run

if TYPE_CHECKING:
    from beholder.prompts.tokenizer import Tokenizer
    from beholder.train.feed import Collate

TINY_RATE = 3e-3  # largest learning rate at tiny size; the stage's others keep their ratios to it
TINY_STEPS = 60
TINY_BATCH = 8
TINY_CONTEXT = 2048
TINY_TEXT = 64  # of text towers that always read their whole context
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LONGEST = ("cut", "error")
RECIPE = "RECIPE"  # what a recipe's file calls it
WRITTEN = "recipe.json"


@dataclass(frozen=True)
class Lesson(Config):
    """One stage with its data.

    data: a file or folder that `beholder.data.open_data` reads, or several as `mix:`; small: the same at tiny size. caption:
    what is asked about pictures that have a caption alone. held_out: data whose loss is watched. share: of the run's minutes.
    chat: the prompt format, where the stage has another than the card; bare: what users say is left out, but for pictures.
    alike: batches of samples of like length. tokens: samples are packed into rows of so many tokens, of which a batch has
    `stage.batch`. longest: what becomes of texts longer than the context: `error`, or `cut`. kept: a folder for features of
    frozen encoders, which are then computed once.
    """

    stage: Stage
    data: str = ""
    small: str = ""
    caption: str = ""
    held_out: str = ""
    share: float = 1.0
    chat: str = ""
    bare: bool = False
    alike: bool = False
    tokens: int = 0
    longest: str = "cut"
    kept: str = ""

    @property
    def name(self) -> str:
        """The stage's."""
        return self.stage.name

    def entry(self, name: str) -> tuple[Any, Any]:
        """Also of the stage's fields, unless the lesson has one so called."""
        try:
            return super().entry(name)
        except UnknownName:
            return self.stage.entry(name)

    def but(self, **changes: Any) -> Self:
        own = self.__dataclass_fields__
        outer = {path: value for path, value in changes.items() if path.partition(".")[0] in own}
        inner = {path: value for path, value in changes.items() if path not in outer}
        if inner:
            outer["stage"] = outer.get("stage", self.stage).but(**inner)
        return super().but(**outer)


@dataclass(frozen=True)
class Start(Config):
    """Where the weights of one part come from: `part` is its name in the model, such as `languages.main`; `source` a card's
    name, a folder or a hub id; `of` the part's name there, where it is another.
    """

    part: str
    source: str
    of: str = ""


@dataclass(frozen=True)
class Recipe(Config):
    """A whole run. start: weights of parts; what none names begins at random. source: weights of the whole system, before
    those of parts. tokenizer: a folder; else that of the language part's weights.

    size: `full`, or `tiny`: a model of two narrow layers on the lessons' tiny data, to try a recipe within seconds. out: the
    run's folder. minutes: of training in all, None for steps alone. look: steps between looks at held-out data.
    checkpoint: minutes between checkpoints. recompute: less memory for more time, `Settings.recompute`. shard: weights are
    dealt out over the processes of torchrun. divergence: `Settings.divergence`. board: curves for TensorBoard.
    """

    card: Card
    stages: tuple[Lesson, ...]
    source: str = ""
    start: tuple[Start, ...] = ()
    tokenizer: str = ""
    size: str = "full"
    out: str = ""
    precision: str = "bfloat16"
    device: str = "cpu"
    seed: int = 0
    minutes: float | None = None
    look: int = 200
    checkpoint: float = 5.0
    recompute: bool = False
    shard: bool = False
    divergence: float = 0.0
    board: bool = True

    def __post_init__(self) -> None:
        for what, value, known in (
            ("size", self.size, ("full", "tiny")),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in known:
                raise UnknownName(what, value, known)

    def at_tiny_size(self) -> Recipe:
        """The same recipe for a tiny model and tiny data, in float32; each stage's rates are raised so that the largest one
        teaches a small random model something in its few steps.
        """
        card = self.card.tiny()
        if card.main is not None and hasattr(card.main, "context"):
            context = TINY_TEXT if card.main.fills_context else TINY_CONTEXT
            card = card.but(**{"language.context": max(context, card.main.context)})
        stages = tuple(
            lesson.but(stage=tiny_stage(lesson.stage), data=lesson.small, held_out="")
            for lesson in self.stages
        )
        return self.but(card=card, stages=stages, source="", start=(), tokenizer="", precision="float32")


def tiny_stage(stage: Stage) -> Stage:
    """The stage for a tiny model: few steps of small batches at higher rates, pictures at the tiny card's side."""
    largest = max((rule.lr for rule in stage.rules), default=0.0)
    factor = TINY_RATE / largest if largest else 1.0
    rules = tuple(rule.tiny().but(lr=rule.lr * factor) for rule in stage.rules)
    steps = min(stage.steps, TINY_STEPS)
    return stage.but(
        rules=rules,
        steps=steps,
        batch=min(stage.batch, TINY_BATCH),
        accumulate=1,
        warmup=min(stage.warmup, steps // 10),
        side=0,
    )


def read_recipe(file: Path) -> Recipe | None:
    """The recipe that a Python file holds as RECIPE, its tiny data beside it; None where it holds none, as one that is a
    program of its own.
    """
    if not file.is_file():
        raise BeholderError(f"{file}: no such recipe; give a Python file, such as recipes/llava.py")
    if not _holds_recipe(file):
        return None
    held = runpy.run_path(str(file), run_name="beholder.recipe")[RECIPE]
    if not isinstance(held, Recipe):
        raise BeholderError(
            f"{file}: {RECIPE} is a {type(held).__name__}, not a beholder.train.recipe.Recipe"
        )
    lessons = (
        lesson.but(small=str(file.parent / lesson.small)) if lesson.small else lesson
        for lesson in held.stages
    )
    return held.but(stages=tuple(lessons))


def _holds_recipe(file: Path) -> bool:
    """Whether a file sets RECIPE, found without running it. Raises `BeholderError` for what is no Python."""
    try:
        statements = ast.parse(file.read_bytes(), filename=str(file)).body
    except (SyntaxError, ValueError) as error:
        raise BeholderError(f"{file}: is no Python file ({error})") from None
    targets = (target for each in statements if isinstance(each, ast.Assign) for target in each.targets)
    annotated = (each.target for each in statements if isinstance(each, ast.AnnAssign))
    return any(isinstance(target, ast.Name) and target.id == RECIPE for target in (*targets, *annotated))


def changed(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with settings such as `stages.align.steps=100` or `card.language.num_layers=2`. `size=tiny` is taken first, so
    that others speak of the tiny one. Raises `BeholderError` for one without `=`, `UnknownName` for a path there is not.
    """
    pairs = []
    for setting in settings:
        path, given, text = setting.partition("=")
        if not given:
            raise BeholderError(
                f"{setting!r} is no setting; write path=value, such as stages.align.steps=100"
            )
        pairs.append((path, text))
    for path, text in sorted(pairs, key=lambda pair: pair[0] != "size"):
        recipe = set_from_text(recipe, path, text)
        if path == "size" and recipe.size == "tiny":
            recipe = recipe.at_tiny_size()
    return recipe


def train(recipe: Recipe, world: World = ALONE) -> Outcome:
    """Run a recipe in its folder `out`, or go on with it. Raises `BeholderError` where a stage has no data, and all that the
    loop raises.
    """
    if not recipe.out:
        raise BeholderError("the recipe has no folder; add out=runs/NAME")
    out = Path(recipe.out)
    model, tokenizer = starting(recipe)
    if world.leads:
        write_text_atomic(out / WRITTEN, recipe_text(recipe))
    tasks = [task(lesson, recipe, tokenizer) for lesson in recipe.stages]
    settings = Settings(
        out,
        precision=PRECISIONS[recipe.precision],
        checkpoint=60 * recipe.checkpoint,
        recompute=recipe.recompute,
        divergence=recipe.divergence,
        board=recipe.board,
        world=world,
    )
    collate = collator(model.card, tokenizer, recipe.stages[0])
    return run(model, collate, tasks, out, minutes=recipe.minutes, settings=settings)


def recipe_text(recipe: Recipe) -> str:
    """The recipe as JSON."""
    import json

    return json.dumps(recipe.to_data(), indent=1) + "\n"


def starting(recipe: Recipe) -> tuple[Model, Tokenizer]:
    """The model as the run begins, and the tokenizer."""
    from beholder.prompts.tokenizer import Tokenizer
    from beholder.weights.open import open_named

    tokenizer: Tokenizer | None = Tokenizer.from_folder(recipe.tokenizer) if recipe.tokenizer else None
    if recipe.source:
        opened, found = open_named(recipe.source, device=recipe.device, dtype=torch.float32)
        model, tokenizer = opened.model, tokenizer or found
    else:
        model = build(recipe.card, device=recipe.device, seed=recipe.seed)
    for start in recipe.start:
        opened, found = open_named(start.source, device=recipe.device, dtype=torch.float32)
        put_part(model, start, opened.model)
        if start.part.startswith("languages.main"):
            tokenizer = tokenizer or found
    if tokenizer is None:
        if recipe.size != "tiny":
            raise BeholderError("no tokenizer is known; add tokenizer=FOLDER with a tokenizer.json")
        tokenizer = byte_tokenizer()
    return model, tokenizer


def put_part(model: Model, start: Start, source: Model) -> None:
    """Copy one part's weights. Raises `BeholderError` where either has no such part, or tensors do not fit: rows of words that
    one has more of are left as they are.
    """
    try:
        target, given = model.get_submodule(start.part), source.get_submodule(start.of or start.part)
    except AttributeError as error:
        raise BeholderError(f"start {start.part} from {start.source}: {error}") from None
    values = dict(given.state_dict())
    for name, tensor in target.state_dict().items():
        value = values.pop(name, None)
        if value is None or value.shape[1:] != tensor.shape[1:]:
            have = "nothing" if value is None else f"a tensor of {tuple(value.shape)}"
            raise BeholderError(
                f"start {start.part} from {start.source}: {name} is {tuple(tensor.shape)} here, {have} there"
            )
        rows = min(len(value), len(tensor)) if tensor.dim() else None
        tensor[:rows].copy_(value[:rows]) if tensor.dim() else tensor.copy_(value)


def task(lesson: Lesson, recipe: Recipe, tokenizer: Tokenizer) -> Task:
    """A lesson with its data opened."""
    from beholder.train.objectives import named

    if not lesson.data:
        what = "tiny data" if recipe.size == "tiny" else "data"
        raise BeholderError(
            f"stage {lesson.name} has no {what}; add stages.{lesson.name}.data=PATH ({lesson.stage.data or 'your own'})"
        )
    dataset, stage = opened(lesson, lesson.data), lesson.stage
    objective = named(stage.objective, tokenizer)
    if lesson.kept:
        from beholder.train.cached import Cached

        objective = Cached(objective, lesson.kept)
    watch = None
    if lesson.held_out:
        held_out = opened(lesson, lesson.held_out)
        watch = Watch(held_out, recipe.look, answer=answering(held_out, tokenizer))
    return Task(
        stage,
        dataset,
        objective=objective,
        share=lesson.share,
        collate=lambda card: collator(card, tokenizer, lesson),
        order=order(lesson, dataset, recipe, tokenizer),
        watch=watch,
    )


def opened(lesson: Lesson, data: str) -> Dataset:
    """A lesson's data as it is learned from."""
    from beholder.data import open_data
    from beholder.data.samples import Bare

    dataset = open_data(data, caption=lesson.caption)
    return Bare(dataset) if lesson.bare else dataset


def order(lesson: Lesson, dataset: Dataset, recipe: Recipe, tokenizer: Tokenizer) -> Order:
    """Shuffled; of like lengths, or packed into rows, where the lesson says so: lengths are counted once and kept in the run's
    folder. Raises `BeholderError` for data of pairs that does not tell its lengths.
    """
    stage, near = lesson.stage, getattr(dataset, "near", None)
    if not lesson.tokens and not lesson.alike:
        return Order(dataset, stage.seed, stage.batch, near=near)
    collate = collator(card_at(recipe.card, stage.side) if stage.side else recipe.card, tokenizer, lesson)
    if isinstance(collate, Collator):
        from beholder.data.lengths import lengths

        counted = lengths(dataset, collate, kept=Path(recipe.out) / f"lengths-{lesson.name}.npz")
        if lesson.alike and not lesson.tokens:
            return Buckets(dataset, counted.tokens, stage.seed, stage.batch, near=near)
        return Packed(
            dataset,
            counted.tokens,
            stage.seed,
            stage.batch,
            tokens=lesson.tokens,
            media=counted.media,
            near=near,
        )
    if lesson.tokens:
        raise BeholderError(f"stage {lesson.name}: pairs are not packed into rows; set tokens=0")
    sizes = dataset.sizes() if hasattr(dataset, "sizes") else None
    if sizes is None:
        raise BeholderError(
            f"stage {lesson.name}: {lesson.data} does not tell the lengths of its rows before they are read; set alike=false"
        )
    return Buckets(dataset, sizes, stage.seed, stage.batch, near=near)


def collator(card: Card, tokenizer: Tokenizer, lesson: Lesson) -> Collate:
    """What makes the batches that a lesson's objective reads."""
    from beholder.prompts.registry import format_named
    from beholder.train.pairs import OF_PAIRS, collator_of

    if lesson.chat:
        card = card.but(prompt=format_named(lesson.chat))
    if lesson.longest not in LONGEST:
        raise UnknownName(f"stages.{lesson.name}.longest", lesson.longest, LONGEST)
    longest: Literal["error", "cut"] = "cut" if lesson.longest == "cut" else "error"
    if lesson.stage.objective.startswith(OF_PAIRS):
        return collator_of(lesson.stage.objective, card, tokenizer, longest=longest)
    return Collator(card, tokenizer, tokens=lesson.tokens or None, longest=longest)
