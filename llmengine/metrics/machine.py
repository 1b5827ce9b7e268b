"""What the processes and the machine use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llmengine import hardware, usage
from llmengine.metrics.engine import EngineStats
from llmengine.usage import DeviceUsage, ProcessUsage, SystemUsage

# Names of metrics, and the attributes of `ProcessUsage` that they show.
PROCESS_COUNTERS = {
    "cpu_seconds": ("cpu_seconds", "Processor time of a process."),
    "read_bytes": ("read_bytes", "Bytes that a process read from disks."),
    "written_bytes": ("written_bytes", "Bytes that a process wrote to disks."),
}
PROCESS_GAUGES = {
    "start_time_seconds": ("started", "When a process began, in seconds since the epoch."),
    "memory_bytes": ("memory_bytes", "Resident memory of a process, mapped files included."),
    "threads": ("threads", "Threads of a process."),
    "open_files": ("files", "Files and sockets that a process has open."),
}
# Those of `SystemUsage`.
SYSTEM_COUNTERS = {
    "disk_read_bytes": ("read_bytes", "Bytes read from all disks."),
    "disk_written_bytes": ("written_bytes", "Bytes written to all disks."),
    "network_received_bytes": ("received_bytes", "Bytes that came in over all interfaces."),
    "network_sent_bytes": ("sent_bytes", "Bytes that went out over all interfaces."),
}


class MachineCollector(Collector):
    def __init__(self, stats: Callable[[], EngineStats]) -> None:
        self._stats = stats

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        processes = {"server": usage.process()}
        if stats.process and stats.process.pid != os.getpid():
            processes["engine"] = stats.process
        yield from _processes(processes)
        yield from _system(usage.system())
        yield from _memory(hardware.memory())
        yield from _devices(stats.devices)


def _processes(found: dict[str, ProcessUsage]) -> Iterator[Metric]:
    for name, (attribute, help) in PROCESS_COUNTERS.items():
        counter = CounterMetricFamily(f"llmengine_process_{name}", help, labels=["process"])
        for process, used in found.items():
            counter.add_metric([process], getattr(used, attribute))
        yield counter
    for name, (attribute, help) in PROCESS_GAUGES.items():
        gauge = GaugeMetricFamily(f"llmengine_process_{name}", help, labels=["process"])
        for process, used in found.items():
            gauge.add_metric([process], getattr(used, attribute))
        yield gauge


def _system(found: SystemUsage) -> Iterator[Metric]:
    cpu = CounterMetricFamily(
        "llmengine_system_cpu_seconds", "Time of all cores, by what it went to.", labels=["mode"]
    )
    for mode, seconds in found.cpu_seconds.items():
        cpu.add_metric([mode], seconds)
    yield cpu
    for name, (attribute, help) in SYSTEM_COUNTERS.items():
        yield CounterMetricFamily(f"llmengine_system_{name}", help, getattr(found, attribute))


def _memory(found: hardware.Memory) -> Iterator[Metric]:
    total = "Memory of the machine, or of the tightest cgroup around the server."
    yield GaugeMetricFamily("llmengine_system_memory_total_bytes", total, found.total)
    free = "What is free of it."
    yield GaugeMetricFamily("llmengine_system_memory_available_bytes", free, found.available)


def _devices(found: Sequence[DeviceUsage]) -> Iterator[Metric]:
    total = GaugeMetricFamily(
        "llmengine_gpu_memory_total_bytes", "Memory of a GPU.", labels=["gpu"]
    )
    free = GaugeMetricFamily(
        "llmengine_gpu_memory_free_bytes", "What nobody uses of it.", labels=["gpu"]
    )
    for device in found:
        total.add_metric([device.name], device.memory_total)
        free.add_metric([device.name], device.memory_free)
    yield total
    yield free
