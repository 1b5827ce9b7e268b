"""Files that a user names."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path

from llmengine.errors import InvalidRequest


def read(path: Path, most: int) -> bytes:
    """What is in it, with one byte more than `most` if it is larger; raises InvalidRequest."""
    try:
        with path.expanduser().open("rb") as source:
            return source.read(most + 1)
    except (OSError, RuntimeError, ValueError) as error:
        raise inaccessible("read", path, error) from error


def typed(text: str) -> Path:
    """The file that is meant where a line names one: terminals paste names quoted or escaped."""
    path = Path(text)
    if not path.expanduser().exists():
        with suppress(ValueError):  # a quote without an end
            words = shlex.split(text)
            if len(words) == 1:
                return Path(words[0])
    return path


def inaccessible(wish: str, path: Path, error: Exception) -> InvalidRequest:
    """Not only the system refuses: a name may hold NUL, or name the home of nobody."""
    return InvalidRequest(f"cannot {wish} {path}: {getattr(error, 'strerror', None) or error}")
