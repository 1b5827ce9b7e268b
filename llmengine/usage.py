"""What a process and the machine have used so far: processor, memory, disk and network."""

from __future__ import annotations

import os
from typing import Any

from msgspec import Struct


class ProcessUsage(Struct, frozen=True, kw_only=True):
    """Counters since the process began, and gauges of now."""

    pid: int
    started: float  # seconds since the epoch
    cpu_seconds: float
    memory_bytes: int  # resident, pages of mapped files included
    threads: int
    files: int = 0  # open ones, where the system tells
    read_bytes: int = 0  # from disks, where the system tells
    written_bytes: int = 0


class DeviceUsage(Struct, frozen=True):
    """The memory of a GPU, whoever uses it. Bytes."""

    name: str
    memory_total: int
    memory_free: int


class SystemUsage(Struct, frozen=True, kw_only=True):
    """The whole machine's, also in a container."""

    cpu_seconds: dict[str, float]  # of all cores, by mode
    read_bytes: int = 0
    written_bytes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0


def process() -> ProcessUsage:
    """That of this process."""
    import psutil

    own = psutil.Process()
    with own.oneshot():
        times = own.cpu_times()
        # macOS counts neither without privileges.
        counters = own.io_counters() if hasattr(own, "io_counters") else None
        return ProcessUsage(
            pid=os.getpid(),
            started=own.create_time(),
            cpu_seconds=times.user + times.system,
            memory_bytes=own.memory_info().rss,
            threads=own.num_threads(),
            files=own.num_fds(),
            read_bytes=counters.read_bytes if counters else 0,
            written_bytes=counters.write_bytes if counters else 0,
        )


def system() -> SystemUsage:
    import psutil

    times: dict[str, float] = psutil.cpu_times()._asdict()
    # None where there is no disk or interface to be seen, as in some containers.
    disk, network = _counters(psutil.disk_io_counters), _counters(psutil.net_io_counters)
    return SystemUsage(
        # Linux counts the time of guests as user's too.
        cpu_seconds={mode: seconds for mode, seconds in times.items() if "guest" not in mode},
        read_bytes=disk.get("read_bytes", 0),
        written_bytes=disk.get("write_bytes", 0),
        received_bytes=network.get("bytes_recv", 0),
        sent_bytes=network.get("bytes_sent", 0),
    )


def _counters(ask: Any) -> dict[str, int]:
    found = ask()
    return found._asdict() if found else {}
