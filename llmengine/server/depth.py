"""How deeply JSON nests, told before any parser follows it down."""

from __future__ import annotations

import numpy as np

from llmengine.errors import InvalidRequest

MAX_DEPTH = 128  # of lists and objects; schemas, which nest most, stay under 50

_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1


def check_depth(body: bytes) -> None:
    """Raises InvalidRequest where `body` nests deeper than MAX_DEPTH."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:  # as in nearly every request
        return
    # What follows a backslash may be a quote that ends no string.
    text = np.frombuffer(body.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    quotes = np.cumsum(text == ord('"'), dtype=np.uint8)  # it wraps, and stays even or odd
    steps = np.where(quotes & 1, np.int8(0), _STEPS[text])
    if np.cumsum(steps, dtype=np.int32).max(initial=0) > MAX_DEPTH:
        raise InvalidRequest(f"the body nests deeper than {MAX_DEPTH} levels")
