"""A folder of this server's own, in which it keeps things by name."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

import diskcache

from llmengine.cache.raw_disk import RawDisk
from llmengine.errors import ConfigError

BUSY_SECONDS = 10.0  # how long to wait for another process's transaction

FAULTS = (OSError, sqlite3.Error, diskcache.Timeout)  # of a disk that cannot be read or written


def full(error: Exception) -> bool:
    """Whether a disk has no room left, or none for this user."""
    if isinstance(error, sqlite3.Error):  # its code is told from Python 3.11 on
        return "disk is full" in str(error)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def open_folder(directory: Path, setting: str) -> Any:
    """A folder that only its user can look into; one with other things in it is left alone.

    Raises ConfigError, which names the setting; where there is no room, what the disk said.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = os.listdir(directory)
        if names and diskcache.core.DBNAME not in names:
            raise FileExistsError("it holds other files; name an empty folder")
        directory.chmod(0o700)
        return diskcache.Cache(
            str(directory),
            timeout=BUSY_SECONDS,
            disk=RawDisk,
            eviction_policy="none",  # diskcache's would pass the limit
            cull_limit=0,
            statistics=0,
            tag_index=0,
        )
    except FAULTS as error:
        if full(error):
            raise  # the setting is right, and there may be room later
        raise ConfigError(f"{setting}: {directory}: {error}") from error
