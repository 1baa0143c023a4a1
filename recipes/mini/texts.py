"""Text that `mini` must go on reading as its language model does: what that model says comes next, kept beside the text.

    python recipes/mini/texts.py --out texts.safetensors

Docstrings of Python's own library (PSF licence), and plain questions with the language model's own answers.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import torch

from beholder.cards.mini import MINI
from beholder.model import Batch, Model, build
from beholder.pipeline import Pipeline
from beholder.prompts.chat import render
from beholder.prompts.messages import assistant, user
from beholder.prompts.tokenizer import Tokenizer
from beholder.weights.files import write_safetensors
from beholder.weights.pull import base_weights

WIDTH, LIKELY, ROWS = 64, 24, 192  # tokens of a row, likeliest next tokens that are kept, rows of docstrings
MODULES = (
    "argparse ast base64 calendar cmd collections concurrent.futures configparser contextlib copy csv datetime decimal "
    "difflib email.message enum fractions functools gettext glob heapq html http.client inspect ipaddress itertools json "
    "logging mailbox math multiprocessing.pool optparse os pathlib pickle platform pprint queue random re sched shelve "
    "shlex shutil smtplib socket sqlite3 statistics string subprocess tarfile tempfile textwrap threading timeit "
    "traceback turtle types typing unittest urllib.request uuid weakref zipfile "
)
QUESTIONS = (
    "What is the capital of France?",
    "What is the capital of Japan?",
    "Who wrote Hamlet?",
    "What do bees make?",
    "Why is the sky blue?",
    "How many legs does a spider have?",
    "What is water made of?",
    "Name three fruits.",
    "What is the opposite of hot?",
    "How do plants grow?",
    "What is a computer?",
    "Tell me a fact about the moon.",
    "What is two plus two?",
    "Write a short poem about rain.",
    "What do cows eat?",
    "What is the largest ocean?",
    "How do I boil an egg?",
    "Who was Albert Einstein?",
    "What is the fastest land animal?",
    "Where do penguins live?",
    "How many days are in a week?",
    "Say hello in Spanish.",
    "Tell me a short story.",
    "How does a bicycle work?",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    base, tokenizer = base_weights("mini")
    model = build(MINI)
    model.load_state_dict(base, strict=False)
    model = model.eval().to(torch.bfloat16)
    torch.set_num_threads(1)  # a quick try beside other work
    rows = list(docstrings(tokenizer))
    rows = rows[:: max(1, len(rows) // ROWS)][:ROWS] + list(answers(Pipeline(model, tokenizer), tokenizer))
    ids_RT = torch.tensor(rows)
    likely, logs = zip(*(next_words(model, some) for some in ids_RT.split(16)), strict=True)
    tensors = {"ids": ids_RT.int(), "likely": torch.cat(likely).int(), "logs": torch.cat(logs).half()}
    write_safetensors(args.out, tensors, {})
    print(f"{len(rows)} rows in {args.out}")


def docstrings(tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Rows of WIDTH tokens from the documentation of MODULES and what is in them."""
    for name in MODULES.split():
        module = importlib.import_module(name)
        parts = [module, *(part for _, part in sorted(vars(module).items(), key=lambda pair: pair[0]))]
        for part in parts:
            home = getattr(part, "__module__", name)
            text = inspect.getdoc(part) if part is module or (callable(part) and home == name) else None
            ids = tokenizer.encode(text) if text and len(text) > 240 else []
            if len(ids) >= WIDTH:
                yield ids[:WIDTH]


def answers(pipeline: Pipeline, tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Rows of questions and the model's own greedy answers, filled up with what ends a turn."""
    for question in QUESTIONS:
        answer = str(pipeline.ask(None, question, max_tokens=36))
        ids = render(
            [user(question), assistant(answer)], pipeline.prompt_format, tokenizer, generate=False
        ).ids
        yield [*ids[:WIDTH], *[ids[-1]] * (WIDTH - len(ids))]


@torch.no_grad()
def next_words(model: Model, ids_RT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest next tokens at every place but the last, and their log-probabilities, (R, T - 1, LIKELY) each."""
    hidden_RTD = model.read(Batch(ids_BT=ids_RT), {}).hidden_BTD[:, :-1]
    logs_RTV = model.language.logits(hidden_RTD).float().log_softmax(-1)
    logs, likely = logs_RTV.topk(LIKELY, -1)
    return likely, logs


if __name__ == "__main__":
    main()
