"""Reports: written and read again, compared, drawn."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmengine.bench import plot
from llmengine.bench.compare import differences
from llmengine.bench.report import Machine, Report, Row, Spread, encode, encode_csv, load
from llmengine.errors import InvalidRequest

MACHINE = Machine(system="Linux", processor="CPU", cores=2, memory=1, llmengine="0", llama_cpp="0")


def report(*rows: Row, kind: str = "server") -> Report:
    return Report(kind=kind, target="m <1>", started="now", machine=MACHINE, rows=list(rows))  # type: ignore[arg-type]


def row(load: str = "1 client", **figures: list[float]) -> Row:
    spreads = {name: Spread.of(values) for name, values in figures.items()}
    return Row(group="random", load=load, figures=spreads, errors={"HTTP 503: full": 2})


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = report(row(output_throughput=[10.0, 12.0]))
    (tmp_path / "a.json").write_text(encode(made))
    assert load(tmp_path / "a.json") == made


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot read"),
        ("{}", "is no report of `llmengine bench --json`"),
        (encode(report()).replace('"format": 1', '"format": 2'), "has format 2, this release"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str | None, problem: str) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(InvalidRequest, match=problem):
        load(tmp_path / "a.json")


def test_csv_has_a_line_for_each_figure() -> None:
    assert encode_csv(report(row(duration=[1.0, 2.0, 4.0]))) == (
        "row,figure,median,least,most,rounds\n"
        "random @ 1 client,duration,2,1,4,3\n"
        "random @ 1 client,error: HTTP 503: full,2,2,2,1\n"
    )


def test_spreads_are_worded_with_their_range() -> None:
    assert Spread.of([1000.0, 1500.0, 1200.0]).worded() == "1,200.0 (1,000.0 to 1,500.0)"
    assert Spread.of([1500.0]).worded(1e3, 2) == "1.50"
    assert str(Spread.of([2.0, 4.0])) == "3.000"


@pytest.mark.parametrize(
    ("figure", "before", "after", "ratio", "mark"),
    [
        ("output_throughput", [10, 11], [20, 22], 2.0, "better"),
        ("output_throughput", [20, 22], [10, 11], 0.5, "worse"),
        ("output_throughput", [10, 20], [15, 25], 20 / 15, "noise"),
        ("output_throughput", [10], [20, 21], 2.05, "unknown"),
        ("median_ttft_ms", [10, 11], [20, 22], 2.0, "worse"),
        ("failed", [2, 2], [1, 1], 0.5, "better"),
        ("failed", [0, 0], [1, 1], None, "worse"),
    ],
)
def test_differences_are_told_from_noise(
    figure: str, before: list[float], after: list[float], ratio: float | None, mark: str
) -> None:
    (found,) = differences(report(row(**{figure: before})), report(row(**{figure: after})))
    assert (found.row, found.figure) == ("random @ 1 client", figure)
    assert found.ratio == ratio
    assert found.mark == mark


def test_reports_without_a_row_in_common_are_not_compared() -> None:
    one, other = report(row("1 client")), report(row("2 clients"))
    with pytest.raises(InvalidRequest, match="no row in common"):
        list(differences(one, other))
    with pytest.raises(InvalidRequest, match="one report is of a server, the other of a model"):
        list(differences(one, report(kind="model")))


def test_counts_that_nobody_improves_are_left_out() -> None:
    made = report(row(total_input_tokens=[5.0], output_throughput=[5.0]))
    assert [each.figure for each in differences(made, made)] == ["output_throughput"]


def test_charts_are_one_file_that_needs_nothing_else() -> None:
    rows = [
        row(load, output_throughput=[10.0, 12.0], median_ttft_ms=[5.0])
        for load in ("1 client", "2 clients")
    ]
    page = plot.page(report(*rows))
    assert re.findall(r"<script[^>]+src=|<link[^>]+href=", page) == []
    # What is drawn stands in JSON at the end, behind the library.
    drawn = re.sub(r"\\u(\w{4})", lambda code: chr(int(code[1], 16)), page[-20_000:])
    assert "Output token throughput, tokens/s" in drawn
    assert "random: median_ttft_ms" in drawn
    assert "Inter-token latency" not in drawn  # there are no such figures
    assert "m &lt;1&gt;, now" in drawn


def test_without_its_library_a_plot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidRequest, match=r"pip install 'llmengine\[plot\]'"):
        plot.check()
