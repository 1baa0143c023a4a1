"""A decoder's weights packed for the kernels, in one stretch of memory, in the order in which a step reads them.

N outputs, K inputs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beholder.native import library
from beholder.native.formats import Formats
from beholder.native.packing import PANEL, Packed, num_bytes, pack, padded, side_by_side
from beholder.native.products import NativeGated, NativeLinear, matrix_of
from beholder.native.rows import ACTIVATIONS
from beholder.parts.blocks.attention import Attention, SelfAttention
from beholder.parts.blocks.mlp import FeedForward, FeedForwardLayer
from beholder.parts.blocks.norms import RmsNorm
from beholder.parts.blocks.transformer import TransformerLayer
from beholder.parts.language.decoder import DecoderModel
from beholder.speed.linears import slices
from beholder.speed.memory import Files, trim

LINE = 64  # bytes; where each matrix begins


class Weights:
    """`decoder` for the kernels, and the tensors that it points into. taken: maps of the language part that read them in place
    of its own, each under the names of those.
    """

    def __init__(
        self, language: DecoderModel, formats: Formats, kernel: library.Kernel, *, shared: bool
    ) -> None:
        """Use `of`."""
        self.language, self.kernel, self.shared = language, kernel, shared
        self.decoder = library.Decoder()
        self.layers = (library.Layer * len(language.blocks))()
        self.taken: dict[tuple[str, ...], NativeLinear] = {}
        self._kept: list[Tensor] = []
        self._files = Files()
        self._settle()
        self._make_room(formats)

    @classmethod
    @torch.no_grad()
    def of(
        cls, language: DecoderModel, formats: Formats, kernel: library.Kernel, *, shared: bool = False
    ) -> Weights:
        """Pack all of them. shared: the language part reads these as well and lets go its own, layer by layer."""
        weights = cls(language, formats, kernel, shared=shared)
        for number, (layer, block) in enumerate(zip(weights.layers, language.blocks, strict=True)):
            assert isinstance(block, TransformerLayer)
            weights._attention(layer, block, formats.language, f"blocks.{number}.attn")
            weights._mlp(layer, block, formats.language, f"blocks.{number}.mlp")
            trim()
        weights._head(formats.of_head)
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

    def _make_room(self, formats: Formats) -> None:
        """One stretch for all matrices."""
        d, form = self.decoder, formats.language
        heads, shared = d.heads * d.head_dim, d.kv_heads * d.head_dim
        gate_up = 2 * padded(d.hidden, PANEL // 2)
        of_layer = ((heads + 2 * shared, d.dim), (d.dim, heads), (gate_up, d.dim), (d.dim, d.hidden))
        sizes = [num_bytes(outputs, inputs, form) for outputs, inputs in of_layer] * len(self.layers)
        sizes.append(num_bytes(self.language.config.vocab_size, d.dim, formats.of_head))
        room = torch.empty(sum(padded(size, LINE) for size in sizes) + LINE, dtype=torch.uint8)
        self.kernel.kernels.ask_for_large_pages(room.data_ptr(), room.numel())
        self._stretch, self._filled = room[-room.data_ptr() % LINE :][: len(room) - LINE], 0

    def _attention(self, layer: library.Layer, block: TransformerLayer, form: str, where: str) -> None:
        attn = block.attn
        assert isinstance(attn, SelfAttention)
        linears = (attn.q, attn.k, attn.v)
        weight_NK = torch.cat([each.weight for each in linears])
        bias_N = torch.cat([_bias(each) for each in linears])
        layer.qkv, joined = self._matrix(weight_NK, bias_N, form)
        layer.out, out = self._matrix(attn.out.weight, _bias(attn.out), form)
        layer.norm1 = self._norm(block.norm1, self.decoder.dim)
        if attn.q_norm is not None:
            width = self.decoder.head_dim
            layer.q_norm, layer.k_norm = self._norm(attn.q_norm, width), self._norm(attn.k_norm, width)
        if self.shared:
            attn.fused = self._take(where, ("q", "k", "v"), joined, bias_N)
            self._forget(*linears, attn.out)
            q, k, v = slices(attn.fused, [each.out_features for each in linears])
            _put(attn, q=q, k=k, v=v, out=self._take(where, ("out",), out, attn.out.bias))

    def _mlp(self, layer: library.Layer, block: TransformerLayer, form: str, where: str) -> None:
        mlp, half = block.mlp, self.decoder.hidden
        assert isinstance(mlp, FeedForwardLayer) and mlp.gate is not None
        biases = (_bias(mlp.gate), _bias(mlp.up))
        weight_NK = side_by_side(mlp.gate.weight, mlp.up.weight)
        layer.gate_up, joined = self._matrix(weight_NK, side_by_side(*biases), form)
        layer.down, down = self._matrix(mlp.down.weight, _bias(mlp.down), form)
        layer.norm2 = self._norm(block.norm2, self.decoder.dim)
        if self.shared:
            both = self._take(where, ("gate", "up"), joined, torch.cat(biases), half)
            mlp.fused = NativeGated(both, mlp.active, mlp.config.act)
            self._forget(mlp.gate, mlp.up, mlp.down)
            gate, up = slices(both, (half, half))
            _put(mlp, gate=gate, up=up, down=self._take(where, ("down",), down, mlp.down.bias))

    def _head(self, form: str) -> None:
        language, config = self.language, self.language.config
        own = language.head
        weight_NK = language.embedding.weight[: config.vocab_size] if own is None else own.weight
        bias_N = language.head_bias if own is None else own.bias
        scaled_N = None if bias_N is None else bias_N * config.logit_scale
        self.decoder.head, head = self._matrix(weight_NK, scaled_N, form)
        self.decoder.norm = self._norm(language.norm, config.dim, config.logit_scale)
        if self.shared:
            if own is not None:
                self._forget(own)
            _put(language, head=self._take("", ("head",), head, bias_N))

    def _norm(self, norm: nn.Module | None, count: int, factor: float = 1.0) -> int:
        """The address of a norm's weights in float32, its offset and a factor of what it gives included."""
        assert isinstance(norm, RmsNorm)
        weight_K = torch.ones(count) if norm.weight is None else norm.weight.float() + norm.config.offset
        return self._keep(F.pad(weight_K * factor, (0, padded(count) - count)))

    def _matrix(self, weight_NK: Tensor, bias_N: Tensor | None, form: str) -> tuple[library.Matrix, Packed]:
        size = num_bytes(weight_NK.shape[0], weight_NK.shape[1], form)
        packed = pack(weight_NK, form, self._stretch[self._filled : self._filled + size])
        self._filled += padded(size, LINE)
        matrix, kept_N = matrix_of(packed, bias_N)
        self._kept += [each for each in (packed.scales, kept_N) if each is not None]
        return matrix, packed

    def _take(
        self,
        where: str,
        names: Sequence[str],
        packed: Packed,
        bias_N: Tensor | None,
        hidden: int | None = None,
    ) -> NativeLinear:
        """The map that takes the place of some modules."""
        bias_N = None if bias_N is None or not bool(bias_N.any()) else bias_N.detach().float()
        linear = NativeLinear(packed, bias_N, self.kernel, hidden=hidden)
        self.taken[tuple(f"{where}.{name}".lstrip(".") for name in names)] = linear
        return linear

    def _forget(self, *linears: nn.Linear) -> None:
        for linear in linears:
            self._files.forget(linear.weight)

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor.contiguous())
        return self._kept[-1].data_ptr()


def _bias(linear: nn.Linear) -> Tensor:
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias


def _put(owner: nn.Module, **modules: nn.Module) -> None:
    for name, module in modules.items():
        setattr(owner, name, module)
