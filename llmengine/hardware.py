"""Cores and memory that this process may use: affinity and cgroup limits, not the whole machine.

Formats: https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/. A container sees
all cores of its host; more threads than its quota makes them wait for each other.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

ROOT = Path("/")
_UNLIMITED = 1 << 60  # cgroup v1 writes "no limit" as a number near 2**63


class Memory(Struct, frozen=True):
    """Bytes."""

    total: int
    available: int


def cores(root: Path = ROOT, affinity: int | None = None) -> int:
    """Cores that this process may keep busy, at least 1.

    A quota of 2.5 cores counts as 2. `root` holds `proc` and `sys`; `affinity` is the number of
    cores the scheduler may choose from, asked of the system when None.
    """
    allowed = affinity or _affinity()
    quotas = [quota for folder in _folders(root, "cpu") if (quota := _quota(folder)) is not None]
    return max(1, int(min([allowed, *quotas])))


def machine_cores() -> int:
    """Cores of the machine, whoever may use them."""
    return os.cpu_count() or 1


def memory(root: Path = ROOT, machine: Memory | None = None) -> Memory:
    """Memory of the machine or of the tightest cgroup around this process."""
    found = machine or _machine_memory()
    for folder in _folders(root, "memory"):
        limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
        if limit is None or limit >= _UNLIMITED:
            continue
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes") or 0
        free = max(0, limit - used + _inactive_file(folder))
        found = Memory(min(found.total, limit), min(found.available, free))
    return found


def give_back() -> None:
    """Have the C library hand memory that it keeps in reserve back to the kernel."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:  # glibc's; others keep little
        trim(0)


def _affinity() -> int:
    ask: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(ask(0)) if ask else machine_cores()  # macOS has no affinity


def _machine_memory() -> Memory:
    import psutil

    found = psutil.virtual_memory()
    return Memory(found.total, found.available)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The cgroup folders that limit this process, from its own up to the root of each hierarchy."""
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:  # version 2, or the rest of a hybrid set-up
            bases = [mount, mount / "unified"]
        elif controller in controllers.split(","):
            bases = [mount / controllers, mount / controller]
        else:
            continue
        # Seen from inside a container the path may lead outside of what is mounted.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for base in bases:
            yield from (base.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _quota(folder: Path) -> float | None:
    """Cores' worth of time that one cgroup may use; None without a limit."""
    limit, _, period = _text(folder / "cpu.max").strip().partition(" ")
    if not limit:
        limit = _text(folder / "cpu.cfs_quota_us").strip()
        period = _text(folder / "cpu.cfs_period_us").strip()
    if limit.isdecimal() and period.isdecimal() and int(period):
        return int(limit) / int(period)
    return None


def _inactive_file(folder: Path) -> int:
    """Page cache that the kernel gives back when asked for memory."""
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdecimal():
            return int(value)
    return 0


def _number(*files: Path) -> int | None:
    """The number in the first of `files` that has one."""
    texts = (_text(file).strip() for file in files)
    return next((int(text) for text in texts if text.isdecimal()), None)


def _text(file: Path) -> str:
    """What `file` says; nothing where the system has no such file or does not show it."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
