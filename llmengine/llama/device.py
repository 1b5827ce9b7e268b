"""The GPUs that llama.cpp can use, and which of them it is to use."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from llmengine.errors import ConfigError
from llmengine.llama import library
from llmengine.usage import DeviceUsage

# How the names of each backend's devices begin: `CUDA0`, `MTL0`.
_NAMES = {"cuda": "CUDA", "metal": "MTL", "rocm": "ROCm", "vulkan": "Vulkan"}
_GPU, _INTEGRATED = 1, 2  # GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU in ggml-backend.h


class Device(Struct, frozen=True):
    """A GPU that this build of llama.cpp can use. Memory in bytes."""

    name: str
    description: str
    memory_free: int
    memory_total: int
    handle: int
    integrated: bool = False  # it shares the memory of the CPU
    bus: str = ""  # where it sits, the same for all backends that see it; empty: they don't say

    @property
    def backend(self) -> str:
        return self.name.rstrip("0123456789")

    @property
    def copies(self) -> bool:
        """Whether the host has what it computes by copies: Metal's memory is the CPU's."""
        return self.backend != _NAMES["metal"]


class _Properties(ctypes.Structure):
    """`ggml_backend_dev_props` of ggml-backend.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("capabilities", ctypes.c_bool * 16),  # more than there are today
    )


@functools.cache
def _functions() -> Any:
    handle = ctypes.c_void_p
    return library.ggml(
        {
            "ggml_backend_dev_count": ([], ctypes.c_size_t),
            "ggml_backend_dev_get": ([ctypes.c_size_t], handle),
            "ggml_backend_dev_type": ([handle], ctypes.c_int),
            "ggml_backend_dev_get_props": ([handle, ctypes.POINTER(_Properties)], None),
        }
    )


def devices() -> list[Device]:
    """The GPUs that llama.cpp sees; empty for a build without a GPU backend."""
    library.start()
    ggml = _functions()
    handles = [ggml.ggml_backend_dev_get(i) for i in range(ggml.ggml_backend_dev_count())]
    gpus = (_GPU, _INTEGRATED)
    return [_device(each) for each in handles if ggml.ggml_backend_dev_type(each) in gpus]


def _device(handle: int) -> Device:
    found = _Properties()
    _functions().ggml_backend_dev_get_props(handle, ctypes.byref(found))
    return Device(
        name=found.name.decode(),
        description=found.description.decode(),
        memory_free=found.memory_free,
        memory_total=found.memory_total,
        handle=handle,
        integrated=found.type == _INTEGRATED,
        bus=(found.device_id or b"").decode(),
    )


def usage(devices: Sequence[Device]) -> tuple[DeviceUsage, ...]:
    """What is taken of their memory now."""
    found = (_device(each.handle) for each in devices)
    return tuple(DeviceUsage(each.name, each.memory_total, each.memory_free) for each in found)


def choose(wanted: str) -> list[Device]:
    """The GPUs for `model.device = wanted`; none means the CPU.

    As llama.cpp itself chooses (llama.cpp, `llama_model_load_from_file_impl`): each GPU once,
    though several backends see it, and integrated ones only where there are no others. Raises
    ConfigError when a backend is asked for that this build or machine lacks.
    """
    if wanted == "cpu":
        return []
    found = devices()
    if wanted == "auto":
        return _best(found)
    matching = [each for each in found if each.name.startswith(_NAMES[wanted])]
    if not matching:
        have = ", ".join(each.name for each in found) or "only the CPU"
        raise ConfigError(
            f'device "{wanted}" is not there: this build of llama.cpp sees {have}; '
            "`llmengine doctor` says how to build for it",
            param="model.device",
        )
    return _best(matching)


def _best(found: Sequence[Device]) -> list[Device]:
    once: dict[str, Device] = {}
    for each in found:
        once.setdefault(each.bus or each.name, each)
    discrete = [each for each in once.values() if not each.integrated]
    # Of an integrated one backends need not say where it sits: those of the first must do.
    return discrete or [each for each in once.values() if each.backend == found[0].backend]
