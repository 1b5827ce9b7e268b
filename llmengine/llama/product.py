"""One matrix product alone on a device: what can be no faster within a model."""

from __future__ import annotations

import ctypes
import functools
import time
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from llmengine.errors import OutOfMemory
from llmengine.llama import library
from llmengine.llama.device import Device

_TENSORS = 3  # weights, numbers, result


class _Params(ctypes.Structure):
    """`ggml_init_params` of ggml.h."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class Product:
    """Weights of a ggml type, [side, side], by numbers, [columns, side] (`ggml_mul_mat`)."""

    def __init__(
        self, device: Device, kind: int, weights: npt.NDArray[np.uint8], side: int, columns: int
    ) -> None:
        """`weights` are whole blocks, repeated until the matrix is full.

        Raises OutOfMemory where the device has no room for it.
        """
        ggml = _functions()
        size = ggml.ggml_tensor_overhead() * _TENSORS + ggml.ggml_graph_overhead()
        self._context = ggml.ggml_init(_Params(size, None, True))
        self._backend = ggml.ggml_backend_dev_init(device.handle, None)
        matrix = ggml.ggml_new_tensor_2d(self._context, kind, side, side)
        numbers = ggml.ggml_new_tensor_2d(self._context, llama_cpp.GGML_TYPE_F32, side, columns)
        self._result = ggml.ggml_mul_mat(self._context, matrix, numbers)
        self._graph = ggml.ggml_new_graph(self._context)
        ggml.ggml_build_forward_expand(self._graph, self._result)
        self._buffer = ggml.ggml_backend_alloc_ctx_tensors(self._context, self._backend)
        if not self._buffer:
            self.close()
            raise OutOfMemory(f"{device.name} has no room for what measures it")
        self.bytes = int(ggml.ggml_nbytes(matrix))  # that are read of the weights
        self.operations = 2 * side * side * columns  # additions and multiplications
        for start in range(0, self.bytes, len(weights)):
            _set(matrix, weights[: self.bytes - start], start)
        # Zeros are multiplied faster.
        drawn = np.random.default_rng(0).standard_normal((columns, side), np.float32)
        _set(numbers, drawn.view(np.uint8).reshape(-1), 0)

    def close(self) -> None:
        ggml = _functions()
        if self._buffer:
            ggml.ggml_backend_buffer_free(self._buffer)
        ggml.ggml_backend_free(self._backend)
        ggml.ggml_free(self._context)

    def run(self) -> float:
        """Seconds that it takes."""
        ggml = _functions()
        ggml.ggml_backend_synchronize(self._backend)
        started = time.perf_counter()
        ggml.ggml_backend_graph_compute(self._backend, self._graph)
        return time.perf_counter() - started

    def result(self, size: int) -> npt.NDArray[np.float32]:
        """The first `size` numbers of the product."""
        found = np.empty(size, np.float32)
        _functions().ggml_backend_tensor_get(self._result, found.ctypes.data, 0, found.nbytes)
        return found


def _set(tensor: int, values: npt.NDArray[np.uint8], offset: int) -> None:
    _functions().ggml_backend_tensor_set(tensor, values.ctypes.data, offset, len(values))


@functools.cache
def _functions() -> Any:
    handle, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
    return library.ggml(
        {
            "ggml_init": ([_Params], handle),
            "ggml_free": ([handle], None),
            "ggml_tensor_overhead": ([], size),
            "ggml_graph_overhead": ([], size),
            "ggml_nbytes": ([handle], size),
            "ggml_new_tensor_2d": ([handle, ctypes.c_int, number, number], handle),
            "ggml_mul_mat": ([handle, handle, handle], handle),
            "ggml_new_graph": ([handle], handle),
            "ggml_build_forward_expand": ([handle, handle], None),
            "ggml_backend_dev_init": ([handle, ctypes.c_char_p], handle),
            "ggml_backend_alloc_ctx_tensors": ([handle, handle], handle),
            "ggml_backend_buffer_free": ([handle], None),
            "ggml_backend_free": ([handle], None),
            "ggml_backend_graph_compute": ([handle, handle], ctypes.c_int),
            "ggml_backend_synchronize": ([handle], None),
            "ggml_backend_tensor_set": ([handle, handle, size, size], None),
            "ggml_backend_tensor_get": ([handle, handle, size, size], None),
        }
    )
