"""Who may share prefixes with whom."""

from __future__ import annotations

import hashlib


class Scopes:
    """Requests with the same salt share, on the same model and settings."""

    def __init__(self, fingerprint: str) -> None:
        """`fingerprint` is of model and settings."""
        self.own = _digest(fingerprint, 8)  # what all of them begin with
        self._fingerprint = fingerprint

    def of(self, salt: str) -> str:
        return self.own + _digest(f"{self._fingerprint} {salt}", 16)


def _digest(text: str, size: int) -> str:
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()
