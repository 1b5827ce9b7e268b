"""How diskcache stores states: each as a file of raw bytes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from diskcache.core import MODE_BINARY, UNKNOWN

from llmengine.cache.entry import State, new_state
from llmengine.cache.raw_disk import RawDisk

STATE = "state/"  # what the key of an array begins with
SUFFIX = ".state"


class StateDisk(RawDisk):
    """Arrays of bytes go into files, the rest into the database."""

    def store(
        self, value: object, read: bool, key: Any = UNKNOWN
    ) -> tuple[int, int, str | None, object]:
        if not isinstance(value, np.ndarray):
            return super().store(value, read, key)
        filename, path = self.filename(key)
        self._write_state(Path(path), value)
        return value.nbytes, MODE_BINARY, filename, None

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> object:
        if mode == MODE_BINARY and filename:
            return self._read_state(Path(self._directory, filename))
        return super().fetch(mode, filename, value, read)

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
