"""Regular expressions of JSON schemas: ECMA-262's, to be read by Rust's `regex` crate."""

from __future__ import annotations

import re

# What means something else there than it does in JavaScript.
_DIFFERENT = re.compile(r"&&|--|~~|\[")
_ESCAPES = frozenset("AzZaQE<>hHRX")
_TOKEN = re.compile(
    r"\\(?P<escape>.)|(?P<group>\(\?(?:<[=!]|.))|(?P<class>\[\^?\]?(?:\\.|[^\]\\])*\])", re.S
)


def fault(expression: str) -> str | None:
    """Why `expression` would not be enforced as it is meant, or None."""
    for found in _TOKEN.finditer(expression):
        if found["escape"] and found["escape"] in _ESCAPES:
            return f"{found[0]} means something else to others"
        if found["escape"] and found["escape"].isdigit() and found["escape"] != "0":
            return f"{found[0]}: back-references are not regular"
        if found["group"] in ("(?=", "(?!"):
            return f"{found[0]}...): looking ahead is not offered"
        if found["group"] in ("(?<=", "(?<!"):
            return f"{found[0]}...): looking behind is not offered"
        if found["group"] and found["group"] not in ("(?:", "(?<"):
            return f"{found[0]}...): flags are not offered"
        if found["class"] and found["class"].lstrip("[^").startswith("]"):
            return f"{found['class']}: escape the bracket"
        if found["class"] and _DIFFERENT.search(re.sub(r"\\.", "", found["class"][1:])):
            return f"{found['class']}: escape [, &, - and ~ in it"
    return None
