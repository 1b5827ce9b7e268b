"""The files of a model: one, or as many as it was split into."""

from __future__ import annotations

import re
from pathlib import Path

_FIRST = re.compile(r"-00001-of-(\d{5})\.gguf$")


def parts(path: Path) -> list[Path]:
    """The files that are there of the model whose only or first one is `path`.

    Named as llama.cpp names them (`llama_split_path`).
    """
    first = _FIRST.search(path.name)
    if first is None:
        return [path]
    stem, count = path.name[: first.start()], first[1]
    names = (f"{stem}-{number:05d}-of-{count}.gguf" for number in range(1, int(count) + 1))
    return [each for each in map(path.with_name, names) if each.exists()]
