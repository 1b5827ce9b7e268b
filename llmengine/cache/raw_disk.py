"""How diskcache stores what it is given: as raw bytes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import diskcache
import numpy as np
from diskcache.core import MODE_BINARY, MODE_RAW, UNKNOWN

from llmengine.cache.entry import State, new_state
from llmengine.cache.record import Corrupt

STATE = "state/"  # what the key of an array begins with
SUFFIX = ".state"


class RawDisk(diskcache.Disk):  # type: ignore[misc]  # it has no types
    """Text keys; bytes and numbers go into the database, arrays of bytes into files.

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
        if isinstance(value, np.ndarray):
            filename, path = self.filename(key)
            self._write_state(Path(path), value)
            return value.nbytes, MODE_BINARY, filename, None
        if type(value) in (int, bytes):
            return 0, MODE_RAW, None, value
        raise TypeError(f"bytes can be stored, not {type(value).__name__}")

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> object:
        if mode == MODE_BINARY and filename:
            return self._read_state(Path(self._directory, filename))
        if mode == MODE_RAW:
            return value
        raise Corrupt("the database has a value that is not of llmengine")

    def filename(self, key: Any = UNKNOWN, value: Any = UNKNOWN) -> tuple[str, str]:
        """A name that follows from the key, so that a file without an owner can be told."""
        id = key.removeprefix(STATE)
        filename = os.path.join(id[:2], id + SUFFIX)
        return filename, os.path.join(self._directory, filename)

    def remove(self, file_path: str) -> None:
        with suppress(OSError):  # another process was faster
            os.remove(os.path.join(self._directory, file_path))

    def _write_state(self, path: Path, state: State) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.unlink(missing_ok=True)  # half of it, from a process that was killed
        try:
            with path.open("xb") as file:
                file.write(state.data)
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def _read_state(self, path: Path) -> State:
        with path.open("rb") as file:
            state = new_state(os.fstat(file.fileno()).st_size)
            return state[: file.readinto(state.data)]
