from __future__ import annotations

from pathlib import Path

import pytest

from llmengine import hardware
from llmengine.hardware import Memory

MACHINE = Memory(total=1000, available=800)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "proc/self/cgroup"


@pytest.mark.parametrize(
    ("files", "affinity", "expected"),
    [
        pytest.param({}, 8, 8, id="no cgroups"),
        pytest.param({V2: "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8, 8, id="no quota"),
        pytest.param({V2: "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000"}, 8, 4, id="v2"),
        pytest.param({V2: "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000"}, 8, 2, id="2.5"),
        pytest.param({V2: "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000"}, 8, 1, id="half"),
        pytest.param({V2: "0::/\n", "sys/fs/cgroup/cpu.max": "800000 100000"}, 2, 2, id="affinity"),
        pytest.param({V2: "0::/\n", "sys/fs/cgroup/cpu.max": "garbage"}, 8, 8, id="garbage"),
        pytest.param({V2: "0::/\n", "sys/fs/cgroup/cpu.max": "100 0"}, 8, 8, id="no period"),
        pytest.param(
            {
                V2: "0::/kube/pod/box\n",
                "sys/fs/cgroup/kube/cpu.max": "600000 100000",
                "sys/fs/cgroup/kube/pod/cpu.max": "300000 100000",
                "sys/fs/cgroup/kube/pod/box/cpu.max": "max 100000",
            },
            8,
            3,
            id="the tightest of nested groups",
        ),
        pytest.param(
            {V2: "0::/../../host/box\n", "sys/fs/cgroup/cpu.max": "200000 100000"},
            8,
            2,
            id="a path outside of the container's view",
        ),
        pytest.param(
            {
                V2: "5:memory:/\n4:cpu,cpuacct:/docker/abc\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            8,
            3,
            id="v1",
        ),
        pytest.param(
            {
                V2: "4:cpu,cpuacct:/docker/abc\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000",
            },
            8,
            3,
            id="v1 inside a container",
        ),
        pytest.param(
            {
                V2: "1:cpuacct:/\n0::/box\n",
                "sys/fs/cgroup/unified/box/cpu.max": "200000 100000",
                "sys/fs/cgroup/cpuacct/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpuacct/cpu.cfs_period_us": "100000",
            },
            8,
            2,
            id="hybrid; cpuacct limits nothing",
        ),
    ],
)
def test_cores(tmp_path: Path, files: dict[str, str], affinity: int, expected: int) -> None:
    assert hardware.cores(tree(tmp_path, files), affinity) == expected


def test_cores_of_this_process_are_those_it_may_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: {1, 5, 6}, raising=False)
    assert hardware.cores(tmp_path) == 3
    monkeypatch.delattr(hardware.os, "sched_getaffinity")
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: None)
    assert hardware.cores(tmp_path) == 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, MACHINE, id="no cgroups"),
        pytest.param({V2: "0::/\n", "sys/fs/cgroup/memory.max": "max"}, MACHINE, id="no limit"),
        pytest.param(
            {
                V2: "0::/\n",
                "sys/fs/cgroup/memory.max": "500",
                "sys/fs/cgroup/memory.current": "300",
                "sys/fs/cgroup/memory.stat": "anon 100\ninactive_file 150\n",
            },
            Memory(total=500, available=350),
            id="page cache counts as free",
        ),
        pytest.param(
            {
                V2: "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "400",
                "sys/fs/cgroup/a/memory.current": "390",
                "sys/fs/cgroup/a/b/memory.max": "600",
                "sys/fs/cgroup/a/b/memory.current": "100",
            },
            Memory(total=400, available=10),
            id="the tightest of nested groups",
        ),
        pytest.param(
            {
                V2: "0::/\n",
                "sys/fs/cgroup/memory.max": "100",
                "sys/fs/cgroup/memory.current": "120",
            },
            Memory(total=100, available=0),
            id="over the limit",
        ),
        pytest.param(
            {
                V2: "3:memory:/docker/x\n",
                "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "700",
                "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes": "600",
                "sys/fs/cgroup/memory/docker/x/memory.stat": "total_inactive_file 50\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "5",
            },
            Memory(total=700, available=150),
            id="v1, where no limit is a huge number",
        ),
    ],
)
def test_memory(tmp_path: Path, files: dict[str, str], expected: Memory) -> None:
    assert hardware.memory(tree(tmp_path, files), MACHINE) == expected


def test_memory_of_this_machine_is_real() -> None:
    found = hardware.memory()
    assert 0 < found.available <= found.total
