"""Evaluation: questions with known answers, one scorer, and what a model would score without looking."""

from __future__ import annotations

from beholder.evals.answerers import Answerer, answer_with, blind
from beholder.evals.prior import Prior
from beholder.evals.run import Row, evaluate
from beholder.evals.tasks import EvalSet, Question

__all__ = ["Answerer", "EvalSet", "Prior", "Question", "Row", "answer_with", "blind", "evaluate"]
