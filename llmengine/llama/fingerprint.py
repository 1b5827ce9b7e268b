"""Which model file it is, without reading all of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

_HEAD = 4 * 1024 * 1024  # bytes: the metadata, the vocabulary and the table of tensors
_SAMPLES = 64
_SAMPLE = 4096  # bytes


def of_file(path: Path) -> str:
    """A hash of a file's size, its head and samples of its weights.

    Two fine-tunes of one model differ in nearly every weight, so samples tell them apart.
    """
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(_HEAD))
        for number in range(1, _SAMPLES + 1):
            file.seek(max(0, size * number // _SAMPLES - _SAMPLE))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
