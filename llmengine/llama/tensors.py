"""The tensors in a GGUF file, read by ggml without loading any of them."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

from msgspec import Struct

from llmengine.errors import ModelUnavailable
from llmengine.llama import library
from llmengine.llama.model import check_file
from llmengine.llama.parts import parts

# Without the second, the first one serves as output too.
EMBEDDINGS, OUTPUT = "token_embd.weight", "output.weight"


class Tensor(Struct, frozen=True):
    name: str
    kind: str  # as ggml names its types: q4_K, f16
    bytes: int
    elements: int


class _Params(ctypes.Structure):
    """`gguf_init_params`"""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


def read(path: Path) -> list[Tensor]:
    """The tensors of all parts of a model; raises ModelNotFound and ModelUnavailable."""
    return [tensor for part in parts(path) or [path] for tensor in _read(part)]


def _read(path: Path) -> list[Tensor]:
    check_file(path)
    gguf = _functions()
    handle = gguf.gguf_init_from_file(str(path).encode(), _Params(True, None))
    if not handle:
        raise ModelUnavailable(f"cannot read {path}: it is damaged")
    try:
        count = gguf.gguf_get_n_tensors(handle)
        return [_tensor(gguf, handle, number) for number in range(count)]
    finally:
        gguf.gguf_free(handle)


def _tensor(gguf: Any, handle: int, number: int) -> Tensor:
    kind = gguf.gguf_get_tensor_type(handle, number)
    size = gguf.gguf_get_tensor_size(handle, number)
    return Tensor(
        name=gguf.gguf_get_tensor_name(handle, number).decode("utf-8", "replace"),
        kind=gguf.ggml_type_name(kind).decode(),
        bytes=size,
        elements=size // gguf.ggml_type_size(kind) * gguf.ggml_blck_size(kind),
    )


@functools.cache
def _functions() -> Any:
    handle, number = ctypes.c_void_p, ctypes.c_int64
    return library.ggml(
        {
            "gguf_init_from_file": ([ctypes.c_char_p, _Params], handle),
            "gguf_free": ([handle], None),
            "gguf_get_n_tensors": ([handle], number),
            "gguf_get_tensor_name": ([handle, number], ctypes.c_char_p),
            "gguf_get_tensor_type": ([handle, number], ctypes.c_int),
            "gguf_get_tensor_size": ([handle, number], ctypes.c_size_t),
            "ggml_type_name": ([ctypes.c_int], ctypes.c_char_p),
            "ggml_type_size": ([ctypes.c_int], ctypes.c_size_t),
            "ggml_blck_size": ([ctypes.c_int], number),
        }
    )
