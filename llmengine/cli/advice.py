"""What to do about a build of llama.cpp that does not fit its machine."""

from __future__ import annotations

import platform
import shlex
import shutil
import sys
from collections.abc import Set
from pathlib import Path

from llmengine.hardware import ROOT

PACKAGE = "llama-cpp-python"
CMAKE = {
    "cuda": "-DGGML_CUDA=on",
    "metal": "-DGGML_METAL=on",
    "rocm": "-DGGML_HIP=on",
    "vulkan": "-DGGML_VULKAN=on",
}

# How llama.cpp names a CPU feature, and how /proc/cpuinfo does (`flags` or `Features`).
_FEATURES = {
    "SSE3": "pni",
    "SSSE3": "ssse3",
    "AVX": "avx",
    "AVX2": "avx2",
    "F16C": "f16c",
    "FMA": "fma",
    "BMI2": "bmi2",
    "AVX_VNNI": "avx_vnni",
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_INT8": "amx_int8",
    "DOTPROD": "asimddp",
    "MATMUL_INT8": "i8mm",
    "SVE": "sve",
}


def build_command(backend: str = "", version: str | None = None) -> str:
    """The line that builds llama.cpp for this Python, for a GPU backend or for the CPU alone."""
    package = shlex.quote(f"{PACKAGE}=={version}" if version else _requirement())
    pip = f"{shlex.quote(sys.executable)} -m pip"  # the one on PATH may be another Python's
    command = f"{pip} install --force-reinstall --no-cache-dir {package}"
    return f'CMAKE_ARGS="{CMAKE[backend]}" {command}' if backend else command


def _requirement() -> str:
    """The releases that fit, like `llama-cpp-python<0.3.37,>=0.3.36`."""
    from importlib import metadata

    try:
        required = metadata.requires("llmengine") or []
    except metadata.PackageNotFoundError:  # a checkout on PYTHONPATH
        required = []
    return next((each for each in required if each.startswith(PACKAGE)), PACKAGE)


def compiled_features(system_info: str) -> list[str]:
    """The names set to 1 in `llama_print_system_info`, like `CPU : AVX2 = 1 | FMA = 1 |`."""
    of_cpu = system_info.rpartition("CPU : ")[2]  # those of a GPU's backend come before
    fields = (field.split("=") for field in of_cpu.split("|"))
    return [field[0].strip() for field in fields if len(field) == 2 and field[1].strip() == "1"]


def cpu_flags(root: Path = ROOT) -> frozenset[str]:
    """What the kernel says the CPU can; empty where it does not say."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def unused_features(compiled: Set[str], flags: Set[str]) -> list[str]:
    """CPU features that would speed llama.cpp up and were not compiled in."""
    return [name for name, flag in _FEATURES.items() if flag in flags and name not in compiled]


def missing_features(compiled: Set[str], flags: Set[str]) -> list[str]:
    """CPU features that were compiled in and are not there: an illegal instruction awaits."""
    if not flags:
        return []
    return [name for name, flag in _FEATURES.items() if name in compiled and flag not in flags]


def gpu_backends(root: Path = ROOT) -> list[str]:
    """The backends for the GPUs of this machine, whether llama.cpp was built for them or not."""
    nvidia = (root / "proc/driver/nvidia").exists() or (root / "dev/nvidiactl").exists()
    found = []
    if nvidia or (root == ROOT and shutil.which("nvidia-smi")):
        found.append("cuda")
    if (root / "dev/kfd").exists():
        found.append("rocm")
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        found.append("metal")
    if not found and any((root / "dev/dri").glob("renderD*")):
        found.append("vulkan")
    return found
