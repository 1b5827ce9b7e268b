"""The comparisons of `benchmarks.peers`: the rows of a table in docs/performance.md."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from llmengine.bench.server import Plan

HALF_B, LARGE_VOCABULARY = "qwen2.5-0.5b:q8_0", "tiny-152k:q8_0"


class Comparison(Struct, frozen=True, kw_only=True):
    """What both servers are asked, and what is told of it."""

    what: str
    plan: Plan
    figures: tuple[str, ...]
    part: str = ""  # of the workload's rows, where it has several
    shape: str = HALF_B  # empty: the embedded model
    context: int = 8192  # cells
    slots: int = 8
    busy: int = 0  # cores that another process keeps busy
    restart: bool = False  # whether the next turns after a restart are what is measured


def _random(clients: int, count: int, tokens: int, output: int, **body: Any) -> Plan:
    sizes = {"count": count, "input": tokens, "output": output}
    return Plan(clients=(clients,), sizes=sizes, body=body)


COMPARISONS = {
    "decode": Comparison(
        what="one stream, decoding",
        plan=_random(1, 2, 40, 128),
        figures=("median_tpot_ms", "output_throughput"),
    ),
    "eight": Comparison(
        what="16 requests, 8 at once, 205 tokens in, 48 out",
        plan=_random(8, 16, 205, 48),
        figures=("duration", "p99_itl_ms", "max_itl_ms", "output_throughput"),
    ),
    "prefix": Comparison(
        what="16 requests, 8 at once, 1,308 common tokens",
        plan=Plan(workloads=("shared-prefix",), clients=(8,), sizes={"count": 16}),
        figures=("duration", "median_ttft_ms", "max_itl_ms"),
        context=16_384,
    ),
    "sessions": Comparison(
        what="12 sessions x 4 turns, one after the other",
        plan=Plan(workloads=("multi-turn",), clients=(1,), sizes={"count": 12}),
        part="later turns",
        figures=("median_ttft_ms", "p99_ttft_ms"),
        context=16_384,
    ),
    "restart": Comparison(
        what="the next turn of 12 sessions x 4 turns, after a restart",
        plan=Plan(workloads=("multi-turn",), sizes={"count": 12}),
        figures=("median_ttft_ms", "p99_ttft_ms"),
        context=16_384,
        restart=True,
    ),
    "stall": Comparison(
        what="a stream runs, 3,200 tokens arrive: the stream",
        plan=Plan(workloads=("long-prompt-arrives",), clients=(1,)),
        part="streams",
        figures=("max_itl_ms", "median_itl_ms"),
    ),
    "long-prompt": Comparison(
        what="a stream runs, 3,200 tokens arrive: the long prompt",
        plan=Plan(workloads=("long-prompt-arrives",), clients=(1,)),
        part="long prompt",
        figures=("median_ttft_ms",),
    ),
    "clients": Comparison(
        what="32 clients, 17 tokens in, 32 out, 152k vocabulary",
        plan=_random(32, 128, 17, 32),
        figures=("output_throughput", "median_ttft_ms", "p99_itl_ms"),
        shape=LARGE_VOCABULARY,
        slots=32,
    ),
    "busy": Comparison(
        what="one core busy with another process, one stream",
        plan=_random(1, 2, 40, 64),
        figures=("output_throughput",),
        busy=1,
    ),
    "busy-eight": Comparison(
        what="one core busy with another process, 8 streams",
        plan=_random(8, 8, 40, 64),
        figures=("output_throughput",),
        busy=1,
    ),
    "edits": Comparison(
        what="repetitive edits, one client, greedy",
        plan=Plan(
            workloads=("repetitive-edit",),
            clients=(1,),
            sizes={"count": 8},
            body={"temperature": 0},
        ),
        figures=("output_throughput", "median_tpot_ms"),
        shape="",
    ),
    "json": Comparison(
        what="JSON by a schema, one client, greedy",
        plan=Plan(
            workloads=("json-schema",), clients=(1,), sizes={"count": 8}, body={"temperature": 0}
        ),
        figures=("output_throughput", "median_tpot_ms"),
        shape="",
    ),
    "sampling": Comparison(
        what="16 streams at 152k vocabulary, top_k 40, top_p 0.95, temperature 0.8",
        plan=_random(16, 32, 17, 64, temperature=0.8, top_k=40, top_p=0.95),
        figures=("median_tpot_ms", "output_throughput"),
        shape=LARGE_VOCABULARY,
        slots=16,
    ),
    "greedy": Comparison(
        what="16 streams at 152k vocabulary, greedy",
        plan=_random(16, 32, 17, 64, temperature=0),
        figures=("median_tpot_ms", "output_throughput"),
        shape=LARGE_VOCABULARY,
        slots=16,
    ),
}
