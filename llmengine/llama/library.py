"""llama.cpp as a loaded library: its log, its devices, its start."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llama_cpp
from llama_cpp._ggml import libggml
from msgspec import Struct

from llmengine.errors import ConfigError
from llmengine.usage import DeviceUsage

log = logging.getLogger("llmengine.llama")

# The last errors in llama.cpp's log: its functions return null and tell the reason only there.
_recent: deque[str] = deque(maxlen=8)

DEVICE_BACKENDS = {"cuda": "CUDA", "metal": "Metal", "rocm": "ROCm", "vulkan": "Vulkan"}
_GPU_TYPES = (1, 2)  # GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU in ggml-backend.h


class Device(Struct, frozen=True):
    """A GPU that this build of llama.cpp can use. Memory in bytes."""

    name: str
    description: str
    memory_free: int
    memory_total: int
    handle: int


# Who wants to hear what llama.cpp logs on a thread, by the thread.
_listeners: dict[int, list[str]] = {}


def _write_log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    line = text.decode("utf-8", "replace").rstrip()
    if not line or set(line) == {"."}:  # progress dots of a load
        return
    if (heard := _listeners.get(threading.get_ident())) is not None:
        heard.append(line)
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        _recent.append(line)
    log.debug("%s", line)


on_log = llama_cpp.llama_log_callback(_write_log)  # llama.cpp keeps it: it must outlive all


@functools.cache
def start() -> None:
    """Load the library once per process, its log going to ours."""
    llama_cpp.llama_log_set(on_log, ctypes.c_void_p())
    llama_cpp.llama_backend_init()


def last_error(default: str) -> str:
    """The first error that llama.cpp logged since `forget_errors`, without its function's name."""
    if not _recent:
        return default
    line = _recent[0]
    _recent.clear()
    head, separator, rest = line.partition(": ")
    return rest if separator and " " not in head else line


def forget_errors() -> None:
    _recent.clear()


@contextmanager
def listening() -> Iterator[list[str]]:
    """The lines that llama.cpp logs meanwhile on this thread, as they come."""
    thread = threading.get_ident()
    lines: list[str] = []
    _listeners[thread] = lines
    try:
        yield lines
    finally:
        del _listeners[thread]


_stderr_lock = threading.Lock()


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """The lines that C code prints past the log; filled in when the block is left."""
    lines: list[str] = []
    with _stderr_lock, tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            lines += file.read().decode("utf-8", "replace").splitlines()


@functools.cache
def _ggml() -> Any:
    for name in ("name", "description"):
        function = getattr(libggml, f"ggml_backend_dev_{name}")
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
    libggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    libggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    libggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    libggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    libggml.ggml_backend_dev_memory.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_size_t),
        ctypes.POINTER(ctypes.c_size_t),
    ]
    libggml.ggml_backend_dev_memory.restype = None
    return libggml


def devices() -> list[Device]:
    """The GPUs that llama.cpp sees; empty for a build without a GPU backend."""
    start()
    ggml = _ggml()
    handles = [ggml.ggml_backend_dev_get(i) for i in range(ggml.ggml_backend_dev_count())]
    return [_device(each) for each in handles if ggml.ggml_backend_dev_type(each) in _GPU_TYPES]


def _device(handle: int) -> Device:
    ggml = _ggml()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ggml.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
    return Device(
        name=ggml.ggml_backend_dev_name(handle).decode(),
        description=ggml.ggml_backend_dev_description(handle).decode(),
        memory_free=free.value,
        memory_total=total.value,
        handle=handle,
    )


def device_usage(devices: Sequence[Device]) -> tuple[DeviceUsage, ...]:
    """What is taken of their memory now."""
    found = (_device(each.handle) for each in devices)
    return tuple(DeviceUsage(each.name, each.memory_total, each.memory_free) for each in found)


def choose_devices(wanted: str) -> list[Device]:
    """The GPUs for `device = wanted`; none means the CPU.

    Raises ConfigError when a device is asked for that this build or machine lacks.
    """
    if wanted == "cpu":
        return []
    found = devices()
    if wanted == "auto":
        return found
    backend = DEVICE_BACKENDS[wanted]
    matching = [each for each in found if each.name.upper().startswith(backend.upper())]
    if not matching:
        have = ", ".join(each.name for each in found) or "only the CPU"
        raise ConfigError(
            f'device "{wanted}" is not there: this build of llama.cpp sees {have}; '
            "`llmengine doctor` says how to build for it",
            param="model.device",
        )
    return matching


def system_info() -> str:
    """The CPU features that were compiled in (`llama_print_system_info`)."""
    start()
    return str(llama_cpp.llama_print_system_info().decode())
