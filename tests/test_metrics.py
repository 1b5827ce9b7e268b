"""What Prometheus reads."""

from __future__ import annotations

import os
import time

import msgspec
import pytest
from fakes import FakeHost
from prometheus_client.parser import text_string_to_metric_families
from serving import config, eventually, serving

from llmengine import usage
from llmengine.config import Config, MetricsConfig
from llmengine.core import Stats
from llmengine.inventory import CacheStats, HotStats, TierStats
from llmengine.metrics import Metrics
from llmengine.metrics.cache import CACHE_COUNTERS, CACHE_GAUGES, CACHE_SECONDS
from llmengine.metrics.engine import COUNTERS, GAUGES
from llmengine.usage import DeviceUsage, ProcessUsage


def samples(text: str) -> dict[str, float]:
    """Every sample, named as in the exposition: `name{label="value"}`."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def test_the_engines_counters_are_read_when_asked_for() -> None:
    stats = Stats(prompt_tokens=10, cached_tokens=4, running=2, preemptions=1, finished={"stop": 3})
    metrics = Metrics("m", lambda: stats)
    found = samples(metrics.exposition()[0].decode())
    assert found["llmengine_prompt_tokens_total"] == 10
    assert found["llmengine_cached_tokens_total"] == 4
    assert found["llmengine_preemptions_total"] == 1
    assert found["llmengine_running"] == 2
    assert found["llmengine_cache_hit_rate"] == 0.4
    assert found['llmengine_finished_total{reason="stop"}'] == 3
    stats = Stats(prompt_tokens=20)
    assert samples(metrics.exposition()[0].decode())["llmengine_prompt_tokens_total"] == 20


def test_engines_that_were_lost_are_counted() -> None:
    metrics = Metrics("m", Stats, restarts=lambda: 3)
    assert samples(metrics.exposition()[0].decode())["llmengine_engine_restarts_total"] == 3


def test_the_prompt_cache_is_counted_by_tier() -> None:
    memory = TierStats(entries=3, bytes=300, pinned=1, max_entries=9, max_bytes=900, hits=4)
    memory.hit_tokens, memory.misses, memory.evictions = 40, 2, {"size": 5, "ttl": 1}
    disk = TierStats(entries=8, bytes=800, pinned=0, max_entries=9, max_bytes=900, corrupt=1)
    disk.saving.note(0.002)
    for seconds in (0.01, 0.02, 99):
        disk.loading.note(seconds)
    hot = HotStats(
        entries=2,
        tokens=70,
        cells=100,
        cells_used=80,
        evictions=6,
        hits=5,
        hit_tokens=300,
        misses=4,
    )
    cache = CacheStats(hot=hot, memory=memory, disk=disk)
    cache.copying.note(0.3)
    cache.restoring.note(0.1)
    metrics = Metrics("m", Stats, lambda: cache)
    found = samples(metrics.exposition()[0].decode())
    prefix = "llmengine_cache_"
    for name, tier, value in (
        ("hits_total", "hot", 5),
        ("hit_tokens_total", "hot", 300),
        ("misses_total", "hot", 4),
        ("hits_total", "memory", 4),
        ("hit_tokens_total", "memory", 40),
        ("misses_total", "memory", 2),
        ("corrupt_total", "disk", 1),
        ("entries", "hot", 2),
        ("entries", "memory", 3),
        ("entries", "disk", 8),
        ("bytes", "memory", 300),
        ("bytes", "disk", 800),
        ("save_seconds_count", "disk", 1),
        ("save_seconds_sum", "disk", 0.002),
        ("load_seconds_count", "disk", 3),
    ):
        assert found[f'{prefix}{name}{{tier="{tier}"}}'] == value, name
    assert found[f"{prefix}copy_seconds_sum"] == 0.3
    assert found[f'{prefix}restore_seconds_bucket{{le="0.03"}}'] == 0
    assert found[f'{prefix}restore_seconds_bucket{{le="0.1"}}'] == 1
    assert found[f'{prefix}evictions_total{{reason="room",tier="hot"}}'] == 6
    assert found[f'{prefix}evictions_total{{reason="size",tier="memory"}}'] == 5
    bucket = f"{prefix}load_seconds_bucket"
    assert found[f'{bucket}{{le="0.003",tier="disk"}}'] == 0
    assert found[f'{bucket}{{le="0.01",tier="disk"}}'] == 1
    assert found[f'{bucket}{{le="10.0",tier="disk"}}'] == 2
    assert found[f'{bucket}{{le="+Inf",tier="disk"}}'] == 3


def test_a_missing_tier_is_not_counted() -> None:
    tier = TierStats(entries=0, bytes=0, pinned=0, max_entries=9, max_bytes=900)
    metrics = Metrics("m", Stats, lambda: CacheStats(memory=tier))
    found = metrics.exposition()[0].decode()
    assert 'llmengine_cache_entries{tier="memory"} 0.0' in found
    assert 'tier="disk"' not in found
    assert 'tier="hot"' not in found
    assert "llmengine_cache_entries" not in Metrics("m", Stats).exposition()[0].decode()


def test_the_names_of_the_cache_are_attributes_of_its_tiers() -> None:
    names = {*CACHE_COUNTERS, *CACHE_GAUGES, *CACHE_SECONDS}
    assert names <= {field.name for field in msgspec.structs.fields(TierStats)}


def test_every_name_is_an_attribute_of_the_stats() -> None:
    assert {*COUNTERS, *GAUGES} - {"cache_hit_rate"} <= set(Stats.__struct_fields__)


def test_times_fall_into_buckets() -> None:
    metrics = Metrics("m", Stats)
    metrics.first_token(0.2)
    metrics.later_tokens(0.3, 3)
    metrics.phases(0.002, 0.3, 40)
    metrics.request("/v1/x", 200, 7)
    found = samples(metrics.exposition()[0].decode())
    for name, least, count in (
        ("time_to_first_token", "0.1", 0),
        ("time_to_first_token", "0.25", 1),
        ("inter_token_latency", "0.075", 0),
        ("inter_token_latency", "0.1", 3),
        ("request_queue", "0.001", 0),
        ("request_queue", "0.01", 1),
        ("request_prefill", "0.25", 0),
        ("request_prefill", "0.5", 1),
        ("request_decode", "30.0", 0),
        ("request_decode", "60.0", 1),
    ):
        bucket = f'llmengine_{name}_seconds_bucket{{le="{least}",model="m"}}'
        assert found[bucket] == count, bucket
    between = 'llmengine_inter_token_latency_seconds_sum{model="m"}'
    assert found[between] == pytest.approx(0.3)
    assert found['llmengine_http_requests_total{endpoint="/v1/x",model="m",status="200"}'] == 1
    assert found['llmengine_request_seconds_bucket{endpoint="/v1/x",le="10.0",model="m"}'] == 1


def test_two_engines_in_one_process_do_not_mix() -> None:
    first, second = Metrics("m", Stats), Metrics("m", Stats)
    first.first_token(1)
    name = 'llmengine_time_to_first_token_seconds_count{model="m"}'
    assert samples(first.exposition()[0].decode())[name] == 1
    assert name not in samples(second.exposition()[0].decode())


def test_the_endpoint() -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    counted = "llmengine_http_requests_total"
    chats = f'{counted}{{endpoint="/v1/chat/completions",model="fake"'
    with FakeHost() as host, serving(host) as client:
        client.post("/v1/chat/completions", json=body)
        client.post("/v1/chat/completions", json={**body, "stream": True})
        client.post("/v1/chat/completions", json={})
        client.get("/secret/path")
        assert eventually(
            lambda: samples(client.get("/metrics").text).get(f'{chats},status="200"}}') == 2
        )
        response = client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=")
        found = samples(response.text)
        assert found[f'{chats},status="400"}}'] == 1
        assert found[f'{counted}{{endpoint="other",model="fake",status="404"}}'] == 1
        assert "secret" not in response.text
        for name in ("time_to_first_token", "request_queue", "request_prefill", "request_decode"):
            assert found[f'llmengine_{name}_seconds_count{{model="fake"}}'] == 2, name
        # 13 bytes in pieces of 4: the first piece is the first token, the other 9 tokens follow.
        assert found['llmengine_inter_token_latency_seconds_count{model="fake"}'] == 18
        assert found["llmengine_requests_total"] == 2
        assert found["llmengine_completion_tokens_total"] == 26
        assert found['llmengine_finished_total{reason="stop"}'] == 2

        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        response = client.get("/metrics", headers=accept)
        assert response.headers["content-type"].startswith("application/openmetrics-text")
        assert response.text.endswith("# EOF\n")


def test_the_endpoint_moves_and_goes() -> None:
    with FakeHost() as host:
        moved = Config(metrics=MetricsConfig(endpoint="/prom"), server=config().server)
        with serving(host, moved) as client:
            assert client.get("/prom").status_code == 200
            assert client.get("/metrics").status_code == 404
    with FakeHost() as host:
        gone = Config(metrics=MetricsConfig(enabled=False), server=config().server)
        with serving(host, gone) as client:
            assert client.get("/metrics").status_code == 404


def test_the_machine_and_the_processes_are_measured() -> None:
    engine = ProcessUsage(pid=-1, started=5, cpu_seconds=2.5, memory_bytes=3000, threads=4, files=6)
    stats = Stats(process=engine, devices=(DeviceUsage("CUDA0", 800, 300),))
    found = samples(Metrics("m", lambda: stats).exposition()[0].decode())
    assert found['llmengine_process_memory_bytes{process="engine"}'] == 3000
    assert found['llmengine_process_cpu_seconds_total{process="engine"}'] == 2.5
    assert found['llmengine_process_open_files{process="engine"}'] == 6
    assert found['llmengine_process_start_time_seconds{process="engine"}'] == 5
    assert found['llmengine_process_memory_bytes{process="server"}'] > 2**20
    assert found['llmengine_process_open_files{process="server"}'] >= 3
    assert 0 < found['llmengine_process_start_time_seconds{process="server"}'] < time.time()
    assert found['llmengine_gpu_memory_total_bytes{gpu="CUDA0"}'] == 800
    assert found['llmengine_gpu_memory_free_bytes{gpu="CUDA0"}'] == 300
    total = found["llmengine_system_memory_total_bytes"]
    assert 0 < found["llmengine_system_memory_available_bytes"] <= total
    assert found['llmengine_system_cpu_seconds_total{mode="user"}'] > 0


def test_an_engine_in_the_servers_process_is_not_counted_twice() -> None:
    stats = Stats(process=usage.process())
    text = Metrics("m", lambda: stats).exposition()[0].decode()
    assert 'process="server"' in text
    assert 'process="engine"' not in text


def test_processor_time_is_this_process_own() -> None:
    before = usage.process()
    while time.process_time() < before.cpu_seconds + 0.05:
        sum(range(1000))
    after = usage.process()
    assert after.cpu_seconds > before.cpu_seconds
    assert (
        (after.pid, after.started) == (before.pid, before.started) == (os.getpid(), after.started)
    )


def test_a_machine_without_disks_and_network_is_measured_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("psutil.disk_io_counters", lambda: None)
    monkeypatch.setattr("psutil.net_io_counters", lambda: None)
    found = samples(Metrics("m", Stats).exposition()[0].decode())
    assert found["llmengine_system_disk_read_bytes_total"] == 0
    assert found["llmengine_system_network_sent_bytes_total"] == 0
