"""Likeness, matching and captions of pictures by a Q-Former (BLIP-2's first stage, 2301.12597, section 3.2), whose three ways
of reading differ in who sees whom alone.

V pictures, S tokens of one, E their width, B texts, W words, Q queries, D width of the stack, C width of vectors, T words of
the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.errors import BeholderError
from beholder.parts.connectors.qformer import QueryStack
from beholder.parts.contracts import Head, HeadConfig, HeadInputs, LanguageConfig
from beholder.parts.heads.masked_token import MaskedToken
from beholder.parts.language.state import State
from beholder.parts.vision.views import by_size


class Matched(NamedTuple):
    """What `Likeness` has, with a vector for every query of a picture, and matching_B2 where pictures and texts come in pairs:
    they do not belong together, or they do.
    """

    images_VD: Tensor | None  # (V, Q, C)
    texts_BD: Tensor | None
    scores_VB: Tensor | None
    matching_B2: Tensor | None


class Captioned(NamedTuple):
    """`Matched` with, in pairs, scores of the word that follows each word of a text, seen the picture and the words before."""

    images_VD: Tensor | None
    texts_BD: Tensor | None
    scores_VB: Tensor | None
    matching_B2: Tensor | None
    captions_BWT: Tensor | None


@dataclass(frozen=True)
class QueryRetrieval(HeadConfig):
    """stack: reads words, whose vectors the language part gives, and the branch's tokens, `memory_dim` wide. width: of vectors
    that are compared. Official folders of models for retrieval leave out what else the first stage trains
    (`blip2_qformer.py`): temperature, learned, which cosines are divided by, from this value on; caption_start, the id of
    the word that captions begin with, where a head scores their words as BERT's for masked words does.
    """

    output: ClassVar[str] = "similarity"
    reads_text: ClassVar[bool] = False
    stack: QueryStack = QueryStack(words=True)
    memory_dim: int = 1408
    width: int = 256
    branch: str = "image"
    temperature: float | None = None
    caption_start: int | None = None

    def tiny(self) -> QueryRetrieval:
        return super().tiny().but(memory_dim=32, width=16, caption_start=self.caption_start and 1)

    def build(self, language: LanguageConfig | None) -> Head:
        if language is None or language.dim != self.stack.dim:
            raise BeholderError(
                f"a Q-Former of width {self.stack.dim} reads words of that width; the language part has "
                f"{language and language.dim}"
            )
        return QueryRetrievalHead(self, language.vocab_size)


class QueryRetrievalHead(Head):
    """Tokens of pictures and words -> `Matched`, or `Captioned` with a `caption_start`: every query's vector of a picture, a
    text's vector, the best query's cosine, and where there are as many pictures as texts, whether each belongs to its text
    and which words follow in it.
    """

    def __init__(self, config: QueryRetrieval, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        dim = config.stack.dim
        self.stack = config.stack.build(config.memory_dim)
        self.image = nn.Linear(dim, config.width)
        self.text = nn.Linear(dim, config.width)
        self.matching = nn.Linear(dim, 2)
        self.temperature: nn.Parameter | None = None
        if config.temperature is not None:
            self.temperature = nn.Parameter(torch.full((), config.temperature))
        captioned = config.caption_start is not None
        self.words = MaskedToken().over(dim, dim, vocab_size) if captioned else None

    def forward(self, inputs: HeadInputs, state: State | None = None) -> Matched | Captioned:
        branch, words_BWD = inputs.branches.get(self.config.branch), inputs.hidden_BTD
        views = [] if branch is None else branch.packed.split()
        images_VQC = self.images(views) if views else None
        texts_BC = scores_VB = matching_B2 = captions_BWT = None
        if words_BWD is not None:
            keep_BW = kept(words_BWD, inputs.lengths)
            texts_BC = self.texts(words_BWD, keep_BW)
            if images_VQC is not None:
                scores_VB = self.compare(images_VQC, texts_BC)
            if len(views) == len(words_BWD):
                matching_B2 = self.match(views, words_BWD, keep_BW)
                if self.words is not None and inputs.unembed is not None:
                    captions_BWT = self.tell(views, words_BWD, keep_BW, inputs.unembed)
        if self.words is None:
            return Matched(images_VQC, texts_BC, scores_VB, matching_B2)
        return Captioned(images_VQC, texts_BC, scores_VB, matching_B2, captions_BWT)

    def images(self, views: Sequence[Tensor]) -> Tensor:
        """Every query's vector of each view (S, E), (V, Q, C) of length 1."""
        return F.normalize(self.image(torch.stack(by_size(views, self.stack))), dim=-1)

    def texts(self, words_BWD: Tensor, keep_BW: Tensor) -> Tensor:
        """(B, C), of length 1: what the first word makes of a text without a picture."""
        return F.normalize(self.text(self.stack(None, words_BWD, keep_VW=keep_BW)[:, 0]), dim=-1)

    def compare(self, images_VQC: Tensor, texts_BC: Tensor) -> Tensor:
        """The best query's cosine over the temperature, (V, B)."""
        cosines_VB = (images_VQC @ texts_BC.T).amax(1)
        return cosines_VB if self.temperature is None else cosines_VB / self.temperature

    def match(self, views: Sequence[Tensor], words_BWD: Tensor, keep_BW: Tensor) -> Tensor:
        """Whether each view belongs to the text of its row, the mean over queries of what each says, (B, 2)."""
        asked = self.stack.pairs(views, words_BWD, keep_BW, keep_words=False)
        given_B2: Tensor = self.matching(torch.stack(asked)).mean(1)
        return given_B2

    def tell(
        self,
        views: Sequence[Tensor],
        words_BWD: Tensor,
        keep_BW: Tensor,
        unembed: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Scores of the word after each word of a view's text, (B, W, T), by queries and the words up to it."""
        assert self.words is not None, "a head built without captions"
        read = self.stack.pairs(views, words_BWD, keep_BW, objective="itg")
        told_BWD = torch.stack(read)[:, self.config.stack.queries :]
        scores_BWT: Tensor = self.words(HeadInputs(told_BWD, unembed=unembed))
        return scores_BWT


def kept(words_BWD: Tensor, lengths: tuple[int, ...] | None) -> Tensor:
    """(B, W), False where words are padding."""
    width = words_BWD.shape[1]
    ends_B = torch.tensor(lengths or [width] * len(words_BWD), device=words_BWD.device)
    return torch.arange(width, device=words_BWD.device) < ends_B[:, None]
