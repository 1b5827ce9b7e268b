"""Tables of benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from llmengine.cli.table import Column, show

if TYPE_CHECKING:
    from llmengine.bench.compare import Difference
    from llmengine.bench.report import Report, Row

LATENCIES = ("ttft", "tpot", "itl", "e2el")


def show_model(report: Report) -> None:
    show(
        [
            Column("test", lambda row: row.name),
            _figure("tok/s, median (least to most)", "tokens_per_second", 1),
            _share("of memory bandwidth", "memory_share"),
            _share("of arithmetic", "arithmetic_share"),
        ],
        report.rows,
    )


def show_server(report: Report) -> None:
    """Counts and throughput of each row, then its latencies."""
    show(
        [
            Column("load", lambda row: row.name),
            _figure("completed", "completed", 0),
            _figure("failed", "failed", 0),
            _figure("refused", "refused", 0),
            _figure("seconds", "duration", 1),
            _figure("input tok", "total_input_tokens", 0),
            _figure("cached", "total_cached_tokens", 0),
            _figure("req/s", "request_throughput", 2),
            *([_figure("good req/s", "request_goodput", 2)] if _has_goodput(report.rows) else []),
            _figure("output tok/s", "output_throughput", 1),
            _figure("total tok/s", "total_token_throughput", 1),
        ],
        report.rows,
    )
    latencies = [
        _Latency(row, name)
        for row in report.rows
        for name in LATENCIES
        if f"mean_{name}_ms" in row.figures
    ]
    show(
        [
            Column("load", lambda each: each.row.name),
            Column("ms", lambda each: each.name.upper()),
            *(_latency(statistic) for statistic in ("mean", "median", "p90", "p99", "max")),
        ],
        latencies,
    )


def show_differences(found: Sequence[Difference]) -> None:
    show(
        [
            Column("row", lambda each: each.row),
            Column("figure", lambda each: each.figure),
            Column("before", lambda each: each.before, lambda spread: spread.worded(), right=True),
            Column("after", lambda each: each.after, lambda spread: spread.worded(), right=True),
            Column("ratio", lambda each: each.ratio, right=True),
            Column("", lambda each: each.mark),
        ],
        found,
    )


class _Latency(Struct, frozen=True):
    row: Row
    name: str


def _latency(statistic: str) -> Column:
    def value(each: _Latency) -> object:
        return each.row.figures[f"{statistic}_{each.name}_ms"]

    return Column(statistic, value, lambda spread: spread.worded(), right=True)


def _figure(head: str, name: str, digits: int) -> Column:
    def value(row: Row) -> object:
        return row.figures.get(name)

    return Column(head, value, lambda spread: spread.worded(1, digits), right=True)


def _share(head: str, name: str) -> Column:
    def value(row: Row) -> object:
        return row.figures.get(name)

    return Column(head, value, lambda spread: f"{spread.median:.0%}", right=True)


def _has_goodput(rows: Sequence[Row]) -> bool:
    return any("request_goodput" in row.figures for row in rows)
