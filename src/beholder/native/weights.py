"""A decoder's weights packed for the kernels, in one stretch of memory, in the order in which a step reads them.

N outputs, K inputs.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.native import library
from beholder.native.covered import ACTIVATIONS
from beholder.native.formats import Formats
from beholder.native.packing import Packed, pack, padded, side_by_side
from beholder.parts.blocks.attention import Attention, SelfAttention
from beholder.parts.blocks.mlp import FeedForward, FeedForwardLayer
from beholder.parts.blocks.norms import RmsNorm
from beholder.parts.blocks.transformer import TransformerLayer
from beholder.parts.language.decoder import DecoderModel

LINE = 64  # bytes; where each matrix begins


class Weights:
    """`decoder` for the kernels, and the tensors that it points into."""

    def __init__(self, language: DecoderModel) -> None:
        self.language = language
        self.decoder = library.Decoder()
        self.layers = (library.Layer * len(language.blocks))()
        self._kept: list[Tensor] = []
        self._matrices: list[tuple[library.Matrix, Packed]] = []

    @classmethod
    @torch.no_grad()
    def of(cls, language: DecoderModel, formats: Formats, kernels: library.Kernels) -> Weights:
        """Pack all of them. Memory for them is needed twice while this runs."""
        weights = cls(language)
        weights._settle()
        for layer, block in zip(weights.layers, language.blocks, strict=True):
            assert isinstance(block, TransformerLayer)
            weights._layer(layer, block, formats.language)
        weights._head(formats.of_head)
        weights._gather(kernels)
        return weights

    @property
    def nbytes(self) -> int:
        """Of the packed matrices, which a step reads whole."""
        return self._stretch.nbytes

    def point_at_words(self) -> None:
        """Read words from the language part's table as it is now, in whatever type."""
        self.words = self.language.embedding.weight.detach()
        self.decoder.embedding = self.words.data_ptr()
        self.decoder.embedding_bf16 = self.words.dtype == torch.bfloat16

    def _settle(self) -> None:
        """Everything that is no matrix."""
        language, decoder = self.language, self.decoder
        config, kind = language.config, language.config.layers[0]
        assert isinstance(kind.mixer, Attention) and isinstance(kind.mlp, FeedForward)
        decoder.layers = ctypes.addressof(self.layers)
        decoder.num_layers, decoder.dim = len(self.layers), config.dim
        decoder.heads, decoder.kv_heads = kind.mixer.num_heads, kind.mixer.kv_heads
        decoder.head_dim, decoder.hidden = kind.mixer.width(config.dim), kind.mlp.hidden
        decoder.activation = ACTIVATIONS.index(kind.mlp.act)
        decoder.eps = config.norm.eps
        decoder.qk_eps = kind.mixer.qk_norm.eps if kind.mixer.qk_norm else 0.0
        decoder.score_scale = decoder.head_dim**-0.5 if kind.mixer.scale is None else kind.mixer.scale
        self.point_at_words()
        decoder.embedding_scale = config.embedding.scale

    def _layer(self, layer: library.Layer, block: TransformerLayer, form: str) -> None:
        attn, mlp = block.attn, block.mlp
        assert isinstance(attn, SelfAttention) and isinstance(mlp, FeedForwardLayer) and mlp.gate is not None
        joined = tuple((each.weight, _bias(each)) for each in (attn.q, attn.k, attn.v))
        weight_NK, bias_N = (torch.cat(pieces) for pieces in zip(*joined, strict=True))
        self._matrix(layer.qkv, weight_NK, bias_N, form)
        self._matrix(layer.out, attn.out.weight, _bias(attn.out), form)
        weight_NK = side_by_side(mlp.gate.weight, mlp.up.weight)
        self._matrix(layer.gate_up, weight_NK, side_by_side(_bias(mlp.gate), _bias(mlp.up)), form)
        self._matrix(layer.down, mlp.down.weight, _bias(mlp.down), form)
        dim, width = self.decoder.dim, self.decoder.head_dim
        layer.norm1, layer.norm2 = self._norm(block.norm1, dim), self._norm(block.norm2, dim)
        if attn.q_norm is not None:
            layer.q_norm, layer.k_norm = self._norm(attn.q_norm, width), self._norm(attn.k_norm, width)

    def _head(self, form: str) -> None:
        language, config = self.language, self.language.config
        own = language.head
        weight_NK = language.embedding.weight[: config.vocab_size] if own is None else own.weight
        bias_N = language.head_bias if own is None else own.bias
        scaled_N = None if bias_N is None else bias_N * config.logit_scale
        self._matrix(self.decoder.head, weight_NK, scaled_N, form)
        self.decoder.norm = self._norm(language.norm, config.dim, config.logit_scale)

    def _norm(self, norm: nn.Module | None, count: int, factor: float = 1.0) -> int:
        """The address of a norm's weights in float32, its offset and a factor of what it gives included."""
        assert isinstance(norm, RmsNorm)
        weight_K = torch.ones(count) if norm.weight is None else norm.weight.float() + norm.config.offset
        return self._keep(F.pad(weight_K * factor, (0, padded(count) - count)))

    def _matrix(self, matrix: library.Matrix, weight_NK: Tensor, bias_N: Tensor | None, form: str) -> None:
        packed = pack(weight_NK, form)
        matrix.outputs, matrix.inputs, matrix.format = packed.outputs, packed.inputs, packed.number
        if packed.scales is not None:
            matrix.scales = self._keep(packed.scales)
        if bias_N is not None and bool(bias_N.any()):
            matrix.bias = self._keep(F.pad(bias_N.float(), (0, padded(len(bias_N)) - len(bias_N))))
        self._matrices.append((matrix, packed))

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor.contiguous())
        return self._kept[-1].data_ptr()

    def _gather(self, kernels: library.Kernels) -> None:
        """Move the packed matrices to where they stay."""
        sizes = [padded(packed.bytes.numel(), LINE) for _, packed in self._matrices]
        room = torch.empty(sum(sizes) + LINE, dtype=torch.uint8)
        kernels.ask_for_large_pages(room.data_ptr(), room.numel())
        self._stretch = room[-room.data_ptr() % LINE :]
        start = 0
        for (matrix, packed), size in zip(self._matrices, sizes, strict=True):
            self._stretch[start : start + packed.bytes.numel()] = packed.bytes
            matrix.data = self._stretch[start:].data_ptr()
            start += size
        self._matrices.clear()


def _bias(linear: nn.Linear) -> Tensor:
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
