"""The place of images and recordings among the tokens of a prompt.

Their embeddings stand where a span of negative ids is. The ids follow from the content, so
whatever compares tokens tells images apart, and prefixes are shared up to an image or beyond it.
The first id of a span is odd and tells how many positions fewer than tokens the span takes; the
others are even.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

SURE = 8  # tokens of a span whose ids alone tell that two images differ
_BITS = 30

Ids = npt.NDArray[np.int32]


class Span(Struct, frozen=True):
    """Tokens of a prompt that are embeddings, one part of an image or a recording."""

    start: int
    length: int
    skip: int  # positions fewer than tokens

    @property
    def end(self) -> int:
        return self.start + self.length

    def __contains__(self, index: int) -> bool:
        return self.start <= index < self.end


def ids(digest: bytes, part: int, length: int, skip: int) -> tuple[int, ...]:
    """The span for a part of what has this digest."""
    seed = digest + part.to_bytes(4, "little")
    values = np.frombuffer(hashlib.shake_128(seed).digest(4 * (length - 1)), "<u4")
    rest = -2 * ((values & (2**_BITS - 1)).astype(np.int64) + 1)
    return -(2 * skip + 1), *rest.tolist()


def spans(tokens: Sequence[int]) -> tuple[Span, ...]:
    """The spans of a prompt, in order."""
    values = np.array(tokens, np.int32)
    starts = np.flatnonzero((values < 0) & (values & 1 == 1))
    found = []
    for start in starts.tolist():
        after = np.flatnonzero((values[start + 1 :] >= 0) | (values[start + 1 :] & 1 == 1))
        length = int(after[0]) + 1 if len(after) else len(values) - start
        found.append(Span(start, length, -int(values[start]) // 2))
    return tuple(found)


def whole(tokens: Sequence[int], length: int) -> int:
    """The first `length` tokens, without a span that is cut there."""
    while 0 < length < len(tokens) and tokens[length] < 0 and not tokens[length] & 1:
        length -= 1
    return length


def position(tokens: Sequence[int], length: int) -> int:
    """The position of what comes after the first `length` tokens, of whole spans."""
    values = np.array(tokens[:length], np.int32)
    heads = values[(values < 0) & (values & 1 == 1)]
    return length + int(((heads + 1) // 2).sum())
