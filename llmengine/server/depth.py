"""How deeply JSON nests, and how wide it is, told before any parser follows it down."""

from __future__ import annotations

import operator
import re
from itertools import accumulate, count

from llmengine.errors import InvalidRequest

MAX_DEPTH = 128  # of lists and objects; schemas, which nest most, stay under 50

MAX_COUNT = 1_000_000  # of lists and objects: 16 MiB may have eight times as many, to no end

_STRING = re.compile(rb'"[^"]*"?')
_STEPS = bytes.maketrans(b"[{]}", b"\x02\x02\x00\x00")  # one more than the change of depth
_REST = bytes(set(range(256)) - set(b"[{]}"))
_PART = 1 << 16  # brackets that are counted before other threads have their turn


def check_depth(body: bytes) -> None:
    """Raises InvalidRequest where `body` nests deeper than MAX_DEPTH, or has too many parts."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:  # as in nearly every request
        return
    # What follows a backslash may be a quote that ends no string.
    text = _STRING.sub(b"", body.replace(b"\\\\", b"").replace(b'\\"', b""))
    steps = text.translate(_STEPS, _REST)
    if len(steps) > 2 * MAX_COUNT:
        raise InvalidRequest(f"the body has more than {MAX_COUNT} lists and objects")
    depth = 0
    for start in range(0, len(steps), _PART):
        part = steps[start : start + _PART]
        if depth + max(map(operator.sub, accumulate(part), count(1))) > MAX_DEPTH:
            raise InvalidRequest(f"the body nests deeper than {MAX_DEPTH} levels")
        depth += sum(part) - len(part)
