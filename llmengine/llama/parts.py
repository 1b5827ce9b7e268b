"""The files of a model: one, or as many as it was split into."""

from __future__ import annotations

import glob
import re
from pathlib import Path

_FIRST = re.compile(r"-0*1-of-(\d+)\.gguf$")


def parts(path: Path) -> list[Path]:
    """All files of the model whose only or first one is `path`; llama.cpp finds them alike."""
    first = _FIRST.search(path.name)
    if first is None:
        return [path]
    pattern = f"{glob.escape(path.name[: first.start()])}-*-of-{first[1]}.gguf"
    return sorted(path.parent.glob(pattern))
