"""One operation of ggml alone on a device: what can be no faster within a model."""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from llmengine.errors import OutOfMemory
from llmengine.llama import library
from llmengine.llama.device import Device

_TENSORS = 4  # at most, of an operation


class _Params(ctypes.Structure):
    """`ggml_init_params` of ggml.h."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class Operation:
    """A graph of one node with all its tensors on one device."""

    def __init__(self, device: Device, node: Callable[[int], int]) -> None:
        """`node` makes the tensors in the context that it is given and returns the result.

        Raises OutOfMemory where the device has no room for them.
        """
        ggml = _functions()
        size = ggml.ggml_tensor_overhead() * _TENSORS + ggml.ggml_graph_overhead()
        self._context = ggml.ggml_init(_Params(size, None, True))
        self._backend = ggml.ggml_backend_dev_init(device.handle, None)
        self._result = node(self._context)
        self._graph = ggml.ggml_new_graph(self._context)
        ggml.ggml_build_forward_expand(self._graph, self._result)
        self._buffer = ggml.ggml_backend_alloc_ctx_tensors(self._context, self._backend)
        if not self._buffer:
            self.close()
            raise OutOfMemory(f"{device.name} has no room for what measures it")

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

    def result(self, size: int) -> npt.NDArray[np.uint8]:
        """The first `size` bytes of what was computed."""
        found = np.empty(size, np.uint8)
        _functions().ggml_backend_tensor_get(self._result, found.ctypes.data, 0, size)
        return found


class Copy(Operation):
    """`size` bytes, a multiple of 4, are read and written."""

    def __init__(self, device: Device, size: int) -> None:
        super().__init__(device, functools.partial(self._node, size // 4))

    def _node(self, count: int, context: int) -> int:
        ggml = _functions()
        self._source, target = (
            ggml.ggml_new_tensor_1d(context, llama_cpp.GGML_TYPE_F32, count) for _ in range(2)
        )
        node: int = ggml.ggml_cpy(context, self._source, target)
        return node

    def fill(self, values: npt.NDArray[np.uint8]) -> None:
        """What is copied begins with these bytes."""
        _set(self._source, values, 0)


class Product(Operation):
    """A matrix of [size, size] weights of a ggml type by one of [size, columns] numbers."""

    def __init__(
        self, device: Device, kind: int, weights: npt.NDArray[np.uint8], size: int, columns: int
    ) -> None:
        """`weights` are rows of the matrix, repeated until it is full."""
        super().__init__(device, functools.partial(self._node, kind, size, columns))
        total = _functions().ggml_nbytes(self._weights)
        for start in range(0, total, len(weights)):
            _set(self._weights, weights[: total - start], start)
        # Zeros are multiplied faster.
        numbers = np.random.default_rng(0).standard_normal((columns, size), np.float32)
        _set(self._numbers, numbers.view(np.uint8).reshape(-1), 0)
        self.operations = 2 * size * size * columns

    def _node(self, kind: int, size: int, columns: int, context: int) -> int:
        ggml = _functions()
        self._weights = ggml.ggml_new_tensor_2d(context, kind, size, size)
        self._numbers = ggml.ggml_new_tensor_2d(context, llama_cpp.GGML_TYPE_F32, size, columns)
        node: int = ggml.ggml_mul_mat(context, self._weights, self._numbers)
        return node


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
            "ggml_new_tensor_1d": ([handle, ctypes.c_int, number], handle),
            "ggml_new_tensor_2d": ([handle, ctypes.c_int, number, number], handle),
            "ggml_cpy": ([handle, handle, handle], handle),
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
