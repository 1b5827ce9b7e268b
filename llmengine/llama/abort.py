"""How a computation of llama.cpp is stopped while it is under way."""

from __future__ import annotations

import ctypes

import llama_cpp

# ggml calls the abort callback for every node of the graph. strlen on a flag of one byte answers
# it without the interpreter: "" is false, any other string true.
_strlen = ctypes.CDLL(None).strlen


class AbortFlag:
    """For the params of one context. It must live as long as the context; any thread may set it."""

    def __init__(self) -> None:
        self._flag = ctypes.create_string_buffer(2)

    def attach(self, params: llama_cpp.llama_context_params) -> None:
        params.abort_callback = ctypes.cast(_strlen, llama_cpp.ggml_abort_callback)
        params.abort_callback_data = ctypes.cast(self._flag, ctypes.c_void_p)

    def set(self) -> None:
        self._flag[0] = b"\1"

    def clear(self) -> None:
        self._flag[0] = b"\0"
