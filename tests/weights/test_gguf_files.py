"""GGUF: files of the official writer, every listed quantization against slow arithmetic, damaged files."""

from __future__ import annotations

import struct

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from beholder.errors import WeightsError
from beholder.weights.files import open_weights
from beholder.weights.gguf_files import CHUNK_VALUES, dequantize, open_gguf, read_metadata

WRITABLE = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1]
STORED = {Kind.F16: torch.float16, Kind.BF16: torch.bfloat16}


def write(path, tensors, metadata=None):
    writer = gguf.GGUFWriter(path, "llama")
    for key, add in (metadata or {}).items():
        getattr(writer, f"add_{add[0]}")(key, *add[1:])
    for name, (values, kind) in tensors.items():
        data = gguf.quants.quantize(values, kind)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_reads_what_the_official_writer_wrote(tmp_path):
    values = random(6, 64)
    path = write(tmp_path / "x.gguf", {kind.name: (values, kind) for kind in WRITABLE})
    tensors = open_weights(path)
    assert list(tensors) == [kind.name for kind in WRITABLE]
    for kind in WRITABLE:
        tensor = tensors[kind.name]
        want = torch.from_numpy(
            gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind).reshape(6, 64).copy()
        )
        assert (tensor.shape, tensor.dtype) == ((6, 64), STORED.get(kind, torch.float32))
        assert torch.equal(tensor.load().float(), want), kind
        assert torch.equal(tensor.load(torch.bfloat16), want.bfloat16()), kind
        assert (tensor.load().float() - torch.from_numpy(values)).abs().max() < 0.5, kind


def half(block, at):
    return float(np.frombuffer(bytes(block[at : at + 2]), np.float16)[0])


def slow_q4_0(block):
    low, high = [b & 15 for b in block[2:]], [b >> 4 for b in block[2:]]
    return [(q - 8) * half(block, 0) for q in low + high]


def slow_q4_1(block):
    low, high = [b & 15 for b in block[4:]], [b >> 4 for b in block[4:]]
    return [q * half(block, 0) + half(block, 2) for q in low + high]


def slow_q8_0(block):
    return [(b - 256 if b > 127 else b) * half(block, 0) for b in block[2:]]


def slow_q4_k(block):
    """256 values: runs 2i and 2i+1 are the low and high halves of 32 bytes; run j has a 6-bit scale and minimum."""
    scales, packed = block[4:16], block[16:]
    result = []
    for run in range(8):
        if run < 4:
            scale, least = scales[run] & 63, scales[run + 4] & 63
        else:
            scale = (scales[run + 4] & 15) | ((scales[run - 4] >> 6) << 4)
            least = (scales[run + 4] >> 4) | ((scales[run] >> 6) << 4)
        for b in packed[run // 2 * 32 : run // 2 * 32 + 32]:
            q = b >> 4 if run % 2 else b & 15
            result.append(half(block, 0) * scale * q - half(block, 2) * least)
    return result


def slow_q6_k(block):
    low, high, scales = block[:128], block[128:192], block[192:208]
    result = []
    for i in range(256):
        part, run, lane = i // 128, i % 128 // 32, i % 32
        byte = low[part * 64 + run % 2 * 32 + lane]
        q = (byte >> 4 if run >= 2 else byte & 15) | ((high[part * 32 + lane] >> 2 * run & 3) << 4)
        scale = scales[i // 16]
        result.append(half(block, 208) * (scale - 256 if scale > 127 else scale) * (q - 32))
    return result


SLOW = {
    Kind.Q4_0: (slow_q4_0, (0,)),
    Kind.Q4_1: (slow_q4_1, (0, 2)),
    Kind.Q8_0: (slow_q8_0, (0,)),
    Kind.Q4_K: (slow_q4_k, (0, 2)),
    Kind.Q6_K: (slow_q6_k, (208,)),
}


def random_blocks(kind, count):
    """Random bytes with finite half-precision scales."""
    rng = np.random.default_rng(int(kind))
    blocks = rng.integers(0, 256, (count, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    for at in SLOW[kind][1]:
        blocks[:, at : at + 2] = rng.standard_normal((count, 1)).astype(np.float16).view(np.uint8)
    return blocks


@pytest.mark.parametrize("kind", SLOW, ids=lambda kind: kind.name)
def test_dequantizes_as_slow_arithmetic_and_the_package_do(kind):
    blocks = random_blocks(kind, 30)
    got = dequantize(torch.from_numpy(blocks).view(-1), kind)
    want = np.array([SLOW[kind][0]([int(b) for b in block]) for block in blocks], np.float32).ravel()
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-5)
    assert np.array_equal(got.numpy(), gguf.quants.dequantize(blocks, kind).ravel())


def test_chunks_join_without_a_seam():
    kind = Kind.Q4_1
    blocks = random_blocks(kind, CHUNK_VALUES // 32 * 2 + 3)
    want = gguf.quants.dequantize(blocks, kind).ravel()
    flat = torch.from_numpy(blocks).view(-1)
    assert np.array_equal(dequantize(flat, kind).numpy(), want)
    assert torch.equal(dequantize(flat, kind, torch.float16), torch.from_numpy(want).half())


def test_other_quantizations_go_through_the_package(tmp_path):
    values = random(2, 64)
    path = write(tmp_path / "x.gguf", {"w": (values, Kind.Q5_1)})
    want = gguf.quants.dequantize(gguf.quants.quantize(values, Kind.Q5_1), Kind.Q5_1)
    assert np.array_equal(open_gguf(path)["w"].load().numpy(), want)


def test_metadata_is_plain(tmp_path):
    tokens, merges = ["<s>", "ü", "Ġthe"], ["Ġ t", "Ġt he"]
    metadata = {
        "llama.block_count": ("uint32", 30),
        "llama.rope.freq_base": ("float32", 1e5),
        "tokenizer.ggml.tokens": ("array", tokens),
        "tokenizer.ggml.merges": ("array", merges),
        "tokenizer.ggml.token_type": ("array", [3, 1, -1]),
        "tokenizer.ggml.add_bos_token": ("bool", False),
        "tokenizer.chat_template": ("string", "{{ messages }}"),
    }
    path = write(tmp_path / "x.gguf", {"w": (random(1, 4), Kind.F32)}, metadata)
    got = read_metadata(path)
    assert got["general.architecture"] == "llama"
    assert {key: got[key] for key in metadata} == {
        "llama.block_count": 30,
        "llama.rope.freq_base": 1e5,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": [3, 1, -1],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{{ messages }}",
    }


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def tensor_info(name="w", shape=(4,), kind=0, offset=0):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def raw_file(path, *infos, fields=b"", num_fields=0, num_tensors=None, data=16, version=3):
    count = len(infos) if num_tensors is None else num_tensors
    head = b"GGUF" + struct.pack("<IQQ", version, count, num_fields) + fields + b"".join(infos)
    path.write_bytes(head + bytes(-len(head) % 32) + bytes(data))
    return path


def test_the_handmade_file_is_good(tmp_path):
    path = raw_file(tmp_path / "x.gguf", tensor_info())
    assert open_gguf(path)["w"].load().tolist() == [0, 0, 0, 0]


DAMAGED = {
    "cut off": ([tensor_info(shape=(5,))], {}, "w ends at byte 84 of a file of 80"),
    "offset": ([tensor_info(offset=2**63)], {}, "w ends at byte"),
    "overlap": ([tensor_info(), tensor_info("v", offset=8)], {"data": 64}, "v overlaps the tensor before it"),
    "twice": ([tensor_info(), tensor_info(offset=32)], {"data": 64}, "w is in it twice"),
    "type": ([tensor_info(kind=99)], {}, "w has the unknown type 99"),
    "rows": ([tensor_info(shape=(33,), kind=2)], {}, "w has rows of 33 values, not whole Q4_0 blocks of 32"),
    "axes": ([text("w") + struct.pack("<I", 1000)], {}, "w has 1000 axes"),
    "tensors": ([tensor_info()], {"num_tensors": 2**40}, "header reaches past its end"),
    "name": ([struct.pack("<Q", 2**60)], {}, "header reaches past its end"),
    "version": ([tensor_info()], {"version": 99}, "GGUF version 99"),
    "not text": ([struct.pack("<Q", 1) + b"\xff"], {}, "not UTF-8"),
    "list": (
        [],
        {"num_fields": 1, "fields": text("k") + struct.pack("<IIQ", 9, 8, 2**50)},
        "does not fit in the file",
    ),
    "numbers": (
        [],
        {"num_fields": 1, "fields": text("k") + struct.pack("<IIQ", 9, 4, 2**50)},
        "reaches past its end",
    ),
    "value": ([], {"num_fields": 1, "fields": text("k") + struct.pack("<I", 77)}, "unknown type 77"),
    "nested": (
        [],
        {"num_fields": 1, "fields": text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9},
        "lists within lists",
    ),
    "alignment": (
        [tensor_info()],
        {"num_fields": 1, "fields": text("general.alignment") + struct.pack("<II", 4, 3)},
        "alignment is 3",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_refused(tmp_path, kind):
    infos, options, message = DAMAGED[kind]
    path = raw_file(tmp_path / "x.gguf", *infos, **options)
    with pytest.raises(WeightsError, match=message) as error:
        open_gguf(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"GG", b"<html>"])
def test_not_gguf(tmp_path, content):
    (tmp_path / "x.gguf").write_bytes(content)
    for read in (open_gguf, read_metadata):
        with pytest.raises(WeightsError, match="not a GGUF file"):
            read(tmp_path / "x.gguf")
