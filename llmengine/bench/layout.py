"""The tensors that a model of a shape has, by llama.cpp's names, and how each is quantized."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from llmengine.bench.blocks import KINDS, Kind, kind_for, row_bytes
from llmengine.bench.shapes import Shape
from llmengine.errors import InvalidRequest

# As llama.cpp mixes them: the second kind is for what needs it most.
MIXES = {"q4_k_m": ("q4_k", "q6_k"), "q5_k_m": ("q5_k", "q6_k")}
_MIXED = ("attn_v.weight", "ffn_down.weight", "ffn_down_exps.weight")


class Matrix(Struct, frozen=True):
    """A tensor of weights: for each expert, rows (outputs) of `columns` (inputs)."""

    name: str
    rows: int
    columns: int
    kind: Kind
    experts: int = 1

    @property
    def bytes(self) -> int:
        return self.experts * self.rows * row_bytes(self.kind, self.columns)

    @property
    def byte_shape(self) -> tuple[int, ...]:
        inner = (self.rows, row_bytes(self.kind, self.columns))
        return (self.experts, *inner) if self.experts > 1 else inner


class Vector(Struct, frozen=True):
    """A tensor of equal float32 values: norms do nothing, and biases add nothing."""

    name: str
    size: int
    value: float


def matrices(shape: Shape, kind: str) -> list[Matrix]:
    """Raises InvalidRequest for an unknown quantization."""
    base, better = _kinds(kind)
    # llama.cpp gives the output matrix more bits than most K-types have.
    output = kind_for("q6_k" if base.endswith("_k") else base, shape.width)
    embedding = output if shape.tied else kind_for(base, shape.width)
    found = [Matrix("token_embd.weight", shape.vocabulary, shape.width, embedding)]
    if not shape.tied:
        found.append(Matrix("output.weight", shape.vocabulary, shape.width, output))
    for layer in range(shape.layers):
        precise = better if _favoured(layer, shape.layers) else base
        for name, rows, columns, experts in _layer_matrices(shape):
            chosen = kind_for(precise if name in _MIXED else base, columns)
            found.append(Matrix(f"blk.{layer}.{name}", rows, columns, chosen, experts))
        if shape.experts:
            router = f"blk.{layer}.ffn_gate_inp.weight"
            found.append(Matrix(router, shape.experts, shape.width, KINDS["f32"]))
    return found


def vectors(shape: Shape) -> list[Vector]:
    found = [Vector("output_norm.weight", shape.width, 1.0)]
    for layer in range(shape.layers):
        found += [
            Vector(f"blk.{layer}.{name}", size, value)
            for name, size, value in _layer_vectors(shape)
        ]
    return found


def size(shape: Shape, kind: str) -> int:
    """Bytes of all tensors."""
    small = sum(each.size * 4 for each in vectors(shape))
    return small + sum(each.bytes for each in matrices(shape, kind))


def _kinds(name: str) -> tuple[str, str]:
    base, better = MIXES.get(name, (name, name))
    if base not in KINDS:
        known = ", ".join([*KINDS, *MIXES])
        raise InvalidRequest(f"no quantization is called {name!r}; known are {known}")
    return base, better


def _favoured(layer: int, layers: int) -> bool:
    """`use_more_bits` in llama-quant.cpp: the first and last eighth, and each third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _layer_matrices(shape: Shape) -> Iterator[tuple[str, int, int, int]]:
    """Name, rows, columns and experts."""
    width, ffn = shape.width, shape.ffn
    yield "attn_q.weight", shape.q_width, width, 1
    yield "attn_k.weight", shape.kv_width, width, 1
    yield "attn_v.weight", shape.kv_width, width, 1
    yield "attn_output.weight", width, shape.q_width, 1
    suffix, experts = ("_exps", shape.experts) if shape.experts else ("", 1)
    yield f"ffn_gate{suffix}.weight", ffn, width, experts
    yield f"ffn_up{suffix}.weight", ffn, width, experts
    yield f"ffn_down{suffix}.weight", width, ffn, experts


def _layer_vectors(shape: Shape) -> Iterator[tuple[str, int, float]]:
    yield "attn_norm.weight", shape.width, 1.0
    yield "ffn_norm.weight", shape.width, 1.0
    if shape.architecture == "qwen2":
        yield "attn_q.bias", shape.q_width, 0.0
        yield "attn_k.bias", shape.kv_width, 0.0
        yield "attn_v.bias", shape.kv_width, 0.0
    if shape.architecture in ("qwen3", "qwen3moe"):
        yield "attn_q_norm.weight", shape.head_width, 1.0
        yield "attn_k_norm.weight", shape.head_width, 1.0
