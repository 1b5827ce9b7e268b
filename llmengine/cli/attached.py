"""Files that go with a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from llmengine.chat import media
from llmengine.core import Media
from llmengine.errors import InvalidRequest


def attached(images: Sequence[Path], sounds: Sequence[Path]) -> list[Media]:
    """What is in the files; raises InvalidRequest for one that cannot be read."""
    return [_read("image", each) for each in images] + [_read("audio", each) for each in sounds]


def content(prompt: str, files: Sequence[Media]) -> str | list[Mapping[str, Any]]:
    """A message's: the files, and the prompt after them."""
    parts = [media.part(each) for each in files]
    return [*parts, {"type": "text", "text": prompt}] if parts else prompt


def _read(kind: Literal["image", "audio"], path: Path) -> Media:
    try:
        return Media(kind, path.read_bytes())
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}") from None
