"""How deeply JSON nests, told before any parser follows it down."""

from __future__ import annotations

import re

from llmengine.errors import InvalidRequest

MAX_DEPTH = 128  # of lists and objects; schemas, which nest most, stay under 50

_STRING = re.compile(rb'"[^"]*"?')
_ALIKE = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(each for each in range(256) if each not in b"[]{}")


def check_depth(body: bytes) -> None:
    """Raises InvalidRequest where `body` nests deeper than MAX_DEPTH.

    What is no JSON may pass with up to twice that.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:  # as in nearly every request
        return
    # What follows a backslash may be a quote that ends no string.
    text = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = _STRING.sub(b"", text).translate(_ALIKE, _OTHERS)
    for _ in range(MAX_DEPTH):  # a level less each time; a loop over every byte would be slow
        if b"[]" not in brackets:
            break
        brackets = brackets.replace(b"[]", b"")
    if b"[]" in brackets or brackets.count(b"[") > MAX_DEPTH:
        raise InvalidRequest(f"the body nests deeper than {MAX_DEPTH} levels")
