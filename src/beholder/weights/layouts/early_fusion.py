"""Patches that language models read without an encoder."""

from __future__ import annotations

from beholder.weights.layout import Layout
from beholder.weights.layouts.rules import affine

# transformers: models/fuyu/modeling_fuyu.py
FUYU_PATCHES = Layout(affine({"vision_embed_tokens": "linear"}), name="transformers Fuyu patches")
