"""How well a model reads plain text: documentation of NumPy and PyTorch (BSD licences), which no training shows.

python recipes/mini/perplexity.py        # of the language model that mini is made of
"""

from __future__ import annotations

import inspect

import numpy as np
import torch
from torch.nn import functional

from beholder.model import Batch, Model
from beholder.prompts.tokenizer import Tokenizer

ROWS, WIDTH = 48, 160  # rows and tokens of each


def rows_of_text(tokenizer: Tokenizer) -> torch.Tensor:
    """The first tokens of so many long docstrings, (ROWS, WIDTH)."""
    rows = []
    for home in (np, functional, torch):
        for name in sorted(vars(home)):
            text = inspect.getdoc(getattr(home, name)) if not name.startswith("_") else None
            ids = tokenizer.encode(text) if text and len(text) > 4 * WIDTH else []
            if len(ids) >= WIDTH:
                rows.append(ids[:WIDTH])
    return torch.tensor(rows[:: max(1, len(rows) // ROWS)][:ROWS])


@torch.no_grad()
def perplexity(model: Model, ids_RT: torch.Tensor) -> float:
    """The exponential of the mean surprise at each next token."""
    total = 0.0
    for rows_RT in ids_RT.split(8):
        hidden_RTD = model.read(Batch(ids_BT=rows_RT), {}).hidden_BTD[:, :-1]
        logits_RTV = model.language.logits(hidden_RTD).float()
        wanted_RT = rows_RT[:, 1:]
        total += float(
            functional.cross_entropy(logits_RTV.flatten(0, 1), wanted_RT.flatten(), reduction="sum")
        )
    return float(np.exp(total / ids_RT[:, 1:].numel()))


def base_perplexity() -> float:
    """Of the language model that mini is made of."""
    from beholder.cards.mini import MINI
    from beholder.model import build
    from beholder.weights.pull import base_weights

    base, tokenizer = base_weights("mini")
    model = build(MINI)
    model.load_state_dict(base, strict=False)
    return perplexity(model.eval().to(torch.bfloat16), rows_of_text(tokenizer))


if __name__ == "__main__":
    print(f"{base_perplexity():.3f}")
