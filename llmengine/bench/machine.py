"""Where a measurement was made."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

from llmengine import __version__, hardware
from llmengine.bench.report import Machine


def machine() -> Machine:
    return Machine(
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        processor=_processor(),
        cores=hardware.cores(),
        memory=hardware.memory().total,
        llmengine=__version__,
        llama_cpp=f"llama-cpp-python {metadata.version('llama-cpp-python')}",
    )


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Its name where the system tells; else its kind."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
