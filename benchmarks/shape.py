"""A random-weight GGUF of a given shape: as fast as a real model, with nothing to download."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

Q8_0_BLOCK = 32  # weights that share a scale


@dataclass(frozen=True)
class Shape:
    """Dimensions of a Qwen2-like transformer with tied embeddings."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    context: int = 32_768


SHAPES = {
    "qwen2.5-0.5b": Shape(24, 896, 14, 2, 4864, 151_936),
    "tiny-152k": Shape(4, 256, 4, 2, 704, 151_936),
    "tiny": Shape(2, 128, 4, 2, 256, 1024),
}


def write(path: Path, shape: Shape, kind: str = "q8_0", seed: int = 0) -> Path:
    """Write the model; `kind` is q8_0 or f16."""
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1_000_000.0)
    _add_vocabulary(writer, shape.vocabulary)
    random = np.random.default_rng(seed)
    for name, rows, columns in _matrices(shape):
        _add_matrix(writer, name, rows, columns, kind, random)
    for name, size, value in _vectors(shape):
        writer.add_tensor(name, np.full(size, value, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _matrices(shape: Shape) -> list[tuple[str, int, int]]:
    """Names, rows (outputs) and columns (inputs)."""
    head = shape.width // shape.heads
    found = [("token_embd.weight", shape.vocabulary, shape.width)]
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        found += [
            (block + "attn_q.weight", shape.width, shape.width),
            (block + "attn_k.weight", head * shape.kv_heads, shape.width),
            (block + "attn_v.weight", head * shape.kv_heads, shape.width),
            (block + "attn_output.weight", shape.width, shape.width),
            (block + "ffn_gate.weight", shape.ffn, shape.width),
            (block + "ffn_up.weight", shape.ffn, shape.width),
            (block + "ffn_down.weight", shape.width, shape.ffn),
        ]
    return found


def _vectors(shape: Shape) -> list[tuple[str, int, float]]:
    head = shape.width // shape.heads
    found = [("output_norm.weight", shape.width, 1.0)]
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        found += [
            (block + "attn_norm.weight", shape.width, 1.0),
            (block + "ffn_norm.weight", shape.width, 1.0),
            (block + "attn_q.bias", shape.width, 0.0),
            (block + "attn_k.bias", head * shape.kv_heads, 0.0),
            (block + "attn_v.bias", head * shape.kv_heads, 0.0),
        ]
    return found


def _add_matrix(
    writer: gguf.GGUFWriter,
    name: str,
    rows: int,
    columns: int,
    kind: str,
    random: np.random.Generator,
) -> None:
    spread = columns**-0.5
    if kind == "f16":
        weights = random.standard_normal((rows, columns), np.float32) * spread
        writer.add_tensor(name, weights.astype(np.float16))
        return
    blocks = columns // Q8_0_BLOCK
    scale = np.full((rows, blocks, 1), spread / 64, np.float16).view(np.uint8)
    weights = random.integers(0, 256, (rows, blocks, Q8_0_BLOCK), np.uint8)
    data = np.concatenate([scale.reshape(rows, blocks, 2), weights], axis=2)
    writer.add_tensor(name, data.reshape(rows, -1), raw_dtype=gguf.GGMLQuantizationType.Q8_0)


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """The 256 bytes as GPT-2 writes them, fillers, and the end of text."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    letters = [chr(byte) if byte in printable else chr(next(moved)) for byte in range(256)]
    tokens = letters + ["to"] + [f"tok{number}" for number in range(257, size - 1)] + ["<|end|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    types = [gguf.TokenType.NORMAL] * (size - 1) + [gguf.TokenType.CONTROL]
    writer.add_token_types(types)
    writer.add_token_merges(["t o"])  # llama.cpp wants one at least
    writer.add_eos_token_id(size - 1)
    writer.add_add_bos_token(False)
