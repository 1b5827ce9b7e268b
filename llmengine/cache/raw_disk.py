"""How diskcache stores what it is given: as raw bytes."""

from __future__ import annotations

from typing import Any

import diskcache
from diskcache.core import MODE_RAW, UNKNOWN


class Corrupt(Exception):
    """Something stored does not read back as it was written."""


class RawDisk(diskcache.Disk):  # type: ignore[misc]  # it has no types
    """Text keys; bytes and numbers, in the database.

    diskcache's own pickles whatever else it meets, and unpickles it when it is read, which lets
    anybody who can write to the folder run code (CVE-2025-69872). Here nothing is.
    """

    def put(self, key: object) -> tuple[str, bool]:
        if not isinstance(key, str):
            raise TypeError(f"a key is text, not {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: bool) -> str:
        return key if raw and isinstance(key, str) else ""  # "": none of ours

    def store(
        self, value: object, read: bool, key: Any = UNKNOWN
    ) -> tuple[int, int, str | None, object]:
        if type(value) in (int, bytes):
            return 0, MODE_RAW, None, value
        raise TypeError(f"bytes can be stored, not {type(value).__name__}")

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> object:
        if mode == MODE_RAW:
            return value
        raise Corrupt("the database has a value that is not of llmengine")
