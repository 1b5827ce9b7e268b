"""Charts of reports: one HTML file that holds all it needs, its script included."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from html import escape
from typing import Any

from msgspec import Struct

from llmengine.bench.report import Report, Row
from llmengine.errors import InvalidRequest


class Chart(Struct, frozen=True):
    title: str
    unit: str
    figures: tuple[str, ...]  # a line of each for every group of rows


CHARTS = {
    "model": [
        Chart("Speed", "tokens/s", ("tokens_per_second",)),
        Chart("Share of the machine's limits", "", ("memory_share", "arithmetic_share")),
    ],
    "server": [
        Chart("Output token throughput", "tokens/s", ("output_throughput",)),
        Chart("Request throughput", "requests/s", ("request_throughput", "request_goodput")),
        Chart("Time to first token", "ms", ("median_ttft_ms", "p99_ttft_ms")),
        Chart("Time per output token", "ms", ("median_tpot_ms", "p99_tpot_ms")),
        Chart("Inter-token latency", "ms", ("median_itl_ms", "p99_itl_ms", "max_itl_ms")),
        Chart("End-to-end latency", "ms", ("median_e2el_ms", "p99_e2el_ms")),
    ],
}
HEIGHT = 360  # pixels of a chart


def check() -> None:
    """Raises InvalidRequest where the library is not installed."""
    if importlib.util.find_spec("plotly") is None:
        raise InvalidRequest("--plot needs plotly: pip install 'llmengine[plot]'")


def page(report: Report) -> str:
    """The whole file."""
    import plotly.graph_objects as graph
    from plotly.subplots import make_subplots

    charts = [chart for chart in CHARTS[report.kind] if _lines(report.rows, chart)]
    titles = [f"{chart.title}, {chart.unit}" if chart.unit else chart.title for chart in charts]
    figure = make_subplots(rows=max(1, len(charts)), cols=1, subplot_titles=titles)
    for place, chart in enumerate(charts, 1):
        for name, rows, key in _lines(report.rows, chart):
            figure.add_trace(graph.Scatter(**_line(name, rows, key)), row=place, col=1)
    figure.update_layout(
        title_text=escape(f"{report.target}, {report.started}"),
        height=HEIGHT * max(1, len(charts)),
        template="plotly_white",
    )
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(type="category")
    html: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return html


def _lines(rows: Sequence[Row], chart: Chart) -> list[tuple[str, list[Row], str]]:
    """Name, rows and figure of each line."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return [
        (f"{group}: {key}", having, key)
        for group, members in groups.items()
        for key in chart.figures
        if (having := [row for row in members if key in row.figures])
    ]


def _line(name: str, rows: Sequence[Row], key: str) -> dict[str, Any]:
    spreads = [row.figures[key] for row in rows]
    return {
        "name": escape(name),
        "mode": "lines+markers",
        "x": [row.load for row in rows],
        "y": [each.median for each in spreads],
        "error_y": {
            "type": "data",
            "array": [each.most - each.median for each in spreads],
            "arrayminus": [each.median - each.least for each in spreads],
            "visible": any(each.rounds > 1 for each in spreads),
        },
    }
