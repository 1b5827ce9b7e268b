"""Dimensions of known models, from the configurations that their makers published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from llmengine.errors import InvalidRequest

DEFAULT_KIND = "q8_0"

Size = Annotated[int, Meta(ge=1, le=2**24)]


class Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decoder with grouped attention and a gated feed-forward part."""

    architecture: str = "llama"  # llama, qwen2 (biases), qwen3 (normed heads) or qwen3moe
    layers: Size
    width: Size
    heads: Size
    kv_heads: Size
    ffn: Size  # of one expert, where there are experts
    vocabulary: Annotated[int, Meta(ge=512, le=2**24)]
    head: Annotated[int, Meta(ge=0, le=2**16)] = 0  # values of a head; 0: width / heads
    tied: bool = False  # whether the output matrix is that of the embeddings
    experts: Annotated[int, Meta(ge=0, le=1024)] = 0
    experts_used: Annotated[int, Meta(ge=0, le=1024)] = 0
    context: Size = 32_768
    rope_base: float = 1_000_000.0

    @property
    def head_width(self) -> int:
        return self.head or self.width // self.heads

    @property
    def q_width(self) -> int:
        return self.heads * self.head_width

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_width


def _llama(layers: int, width: int, heads: int, ffn: int, *, tied: bool = False) -> Shape:
    return Shape(
        layers=layers, width=width, heads=heads, kv_heads=8, ffn=ffn, vocabulary=128_256,
        tied=tied, context=131_072, rope_base=500_000.0,
    )  # fmt: skip


def _qwen2(layers: int, width: int, heads: int, kv_heads: int, ffn: int, *, tied: bool) -> Shape:
    return Shape(
        architecture="qwen2", layers=layers, width=width, heads=heads, kv_heads=kv_heads, ffn=ffn,
        vocabulary=151_936 if tied else 152_064, tied=tied,
    )  # fmt: skip


def _qwen3(layers: int, width: int, heads: int, ffn: int, *, tied: bool = False) -> Shape:
    return Shape(
        architecture="qwen3", layers=layers, width=width, heads=heads, kv_heads=8, ffn=ffn,
        vocabulary=151_936, head=128, tied=tied, context=40_960,
    )  # fmt: skip


SHAPES = {
    "llama-3.2-1b": _llama(16, 2048, 32, 8192, tied=True),
    "llama-3.2-3b": _llama(28, 3072, 24, 8192, tied=True),
    "llama-8b": _llama(32, 4096, 32, 14_336),
    "llama-70b": _llama(80, 8192, 64, 28_672),
    "mistral-7b": Shape(
        layers=32, width=4096, heads=32, kv_heads=8, ffn=14_336, vocabulary=32_768
    ),
    "qwen2.5-0.5b": _qwen2(24, 896, 14, 2, 4864, tied=True),
    "qwen2.5-1.5b": _qwen2(28, 1536, 12, 2, 8960, tied=True),
    "qwen2.5-3b": _qwen2(36, 2048, 16, 2, 11_008, tied=True),
    "qwen2.5-7b": _qwen2(28, 3584, 28, 4, 18_944, tied=False),
    "qwen2.5-14b": _qwen2(48, 5120, 40, 8, 13_824, tied=False),
    "qwen2.5-32b": _qwen2(64, 5120, 40, 8, 27_648, tied=False),
    "qwen3-0.6b": _qwen3(28, 1024, 16, 3072, tied=True),
    "qwen3-1.7b": _qwen3(28, 2048, 16, 6144, tied=True),
    "qwen3-4b": _qwen3(36, 2560, 32, 9728, tied=True),
    "qwen3-8b": _qwen3(36, 4096, 32, 12_288),
    "qwen3-14b": _qwen3(40, 5120, 40, 17_408),
    "qwen3-32b": _qwen3(64, 5120, 64, 25_600),
    "qwen3-30b-a3b": Shape(
        architecture="qwen3moe", layers=48, width=2048, heads=32, kv_heads=4, ffn=768, head=128,
        vocabulary=151_936, experts=128, experts_used=8, context=40_960,
    ),
    # Nobody's model: the smallest that runs, and one with nothing large but its vocabulary.
    "tiny": Shape(
        architecture="qwen2", layers=2, width=128, heads=4, kv_heads=2, ffn=256, vocabulary=1024,
        tied=True,
    ),
    "tiny-152k": Shape(
        architecture="qwen2", layers=4, width=256, heads=4, kv_heads=2, ffn=704,
        vocabulary=151_936, tied=True,
    ),
}  # fmt: skip


def parse(text: str) -> tuple[str, Shape, str]:
    """Name, dimensions and quantization of `NAME:KIND`, `FILE.json:KIND` or `{...}:KIND`.

    Raises InvalidRequest.
    """
    given, kind = _parted(text)
    if given in SHAPES:
        return given, SHAPES[given], kind
    if not given.startswith("{") and not given.endswith(".json"):
        raise InvalidRequest(
            f"no shape is called {given!r}; known are {', '.join(SHAPES)}, or give a JSON file of "
            "dimensions"
        )
    name = "custom" if given.startswith("{") else Path(given).stem
    try:
        data = given.encode() if given.startswith("{") else Path(given).read_bytes()
        shape = msgspec.json.decode(data, type=Shape)
    except OSError as error:
        raise InvalidRequest(f"cannot read {given}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"the shape {name} is no valid JSON of dimensions: {error}") from error
    return name, checked(name, shape), kind


def _parted(text: str) -> tuple[str, str]:
    head, colon, tail = text.rpartition(":")
    # A colon inside of JSON parts no quantization from it.
    if not colon or "}" in tail or '"' in tail:
        return text, DEFAULT_KIND
    return head, tail.lower()


def checked(name: str, shape: Shape) -> Shape:
    """The shape, if a model can have it; raises InvalidRequest."""
    known = ("llama", "qwen2", "qwen3", "qwen3moe")
    problems = {
        f"architecture is none of {', '.join(known)}": shape.architecture not in known,
        "heads is no multiple of kv_heads": shape.heads % shape.kv_heads,
        "width is no multiple of heads, and no head is given": (
            not shape.head and shape.width % shape.heads
        ),
        "width and ffn must be multiples of 32": shape.width % 32 or shape.ffn % 32,
        "a head must be a multiple of 32, or 16": (
            shape.head_width % 32 and shape.head_width != 16
        ),
        "experts and experts_used belong to qwen3moe": (
            (shape.architecture == "qwen3moe") != (0 < shape.experts_used <= shape.experts)
        ),
    }
    wrong = [problem for problem, found in problems.items() if found]
    if wrong:
        raise InvalidRequest(f"no model can have the shape {name}: {'; '.join(wrong)}")
    return shape
