"""Which model it is, without reading all of its file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from llmengine.llama.parts import parts

_HEAD = 4 * 1024 * 1024  # bytes: the metadata, the vocabulary and the table of tensors
_SAMPLES = 64
_SAMPLE = 4096  # bytes


def of_file(path: Path) -> str:
    """A hash of the size, the head and samples of the weights, of each file of the model.

    Two fine-tunes of one model differ in nearly every weight, so samples tell them apart.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts(path):
        with part.open("rb") as file:
            for piece in _pieces(file, part.stat().st_size):
                digest.update(piece)
    return digest.hexdigest()


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    yield str(size).encode()
    yield file.read(_HEAD)
    for number in range(1, _SAMPLES + 1):
        file.seek(max(0, size * number // _SAMPLES - _SAMPLE))
        yield file.read(_SAMPLE)
