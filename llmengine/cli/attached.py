"""Files that go with a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from llmengine.chat import media
from llmengine.cli import file
from llmengine.core import Media
from llmengine.errors import InvalidRequest

MAX_BYTES = 64 << 20
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM")
_SOUNDS = (b"ID3", b"fLaC", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")
_IN_RIFF: dict[bytes, Literal["image", "audio"]] = {b"WEBP": "image", b"WAVE": "audio"}


def attached(images: Sequence[Path], sounds: Sequence[Path]) -> list[Media]:
    """What is in the files; raises InvalidRequest for one that cannot be read."""
    seen = [Media("image", _read(each)) for each in images]
    return seen + [Media("audio", _read(each)) for each in sounds]


def recognised(path: Path) -> Media | str:
    """The text of a file, or the image or recording that it is by its first bytes.

    Raises InvalidRequest for other files, and for one that cannot be read.
    """
    data = _read(path)
    if b"\0" not in data:
        try:
            return data.decode("utf-8-sig")  # Windows editors begin a file with a mark
        except UnicodeDecodeError:
            pass  # it may be an image all the same
    kind = _kind(data)
    if kind is None:
        raise InvalidRequest(f"{path} is no text in UTF-8, no image and no recording")
    return Media(kind, data)


def content(prompt: str, files: Sequence[Media]) -> str | list[Mapping[str, Any]]:
    """A message's: the files, and the prompt after them."""
    parts = [media.part(each) for each in files]
    return [*parts, {"type": "text", "text": prompt}] if parts else prompt


def _kind(data: bytes) -> Literal["image", "audio"] | None:
    if data.startswith(b"RIFF"):
        return _IN_RIFF.get(data[8:12])
    if data.startswith(_IMAGES):
        return "image"
    return "audio" if data.startswith(_SOUNDS) else None


def _read(path: Path) -> bytes:
    data = file.read(path, MAX_BYTES)
    if len(data) > MAX_BYTES:
        raise InvalidRequest(f"{path} is larger than {MAX_BYTES >> 20} MiB")
    return data
