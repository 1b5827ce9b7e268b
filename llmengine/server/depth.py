"""How deeply JSON nests, told before any parser follows it down."""

from __future__ import annotations

from itertools import accumulate

from llmengine.errors import InvalidRequest

MAX_DEPTH = 128  # of lists and objects; schemas, which nest most, stay under 50
PIECE = 2**16  # bytes looked at in one go: between two, other threads go on

_STEPS = {ord("["): 1, ord("]"): -1}
_ALIKE = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(each for each in range(256) if each not in b'[]{}"')


def check_depth(body: bytes) -> None:
    """Raises InvalidRequest where `body` nests deeper than MAX_DEPTH."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:  # as in nearly every request
        return
    # What follows a backslash may be a quote that ends no string.
    text = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_ALIKE, _OTHERS)
    level, quoted = 0, False
    for at in range(0, len(text), PIECE):
        pieces = text[at : at + PIECE].split(b'"')
        brackets = b"".join(pieces[quoted::2])
        if max(accumulate(map(_STEPS.__getitem__, brackets), initial=level)) > MAX_DEPTH:
            raise InvalidRequest(f"the body nests deeper than {MAX_DEPTH} levels")
        level += brackets.count(b"[") - brackets.count(b"]")
        quoted ^= len(pieces) % 2 == 0
