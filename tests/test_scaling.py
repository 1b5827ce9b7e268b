"""The scaling curves, at their smallest points."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks import scaling
from llmengine.bench.report import Report

pytestmark = pytest.mark.model


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["scaling", *arguments, "--shape", "tiny"])
    scaling.main()


def figures(report: Report, name: str) -> dict[str, float]:
    """A figure, by point."""
    return {row.load: row.figures[name].median for row in report.rows}


def test_clients_are_a_report_and_a_chart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "clients.html"
    run(monkeypatch, "clients", "--points", "1,3", "--rounds", "2", "--json", "--plot", str(page))
    found = msgspec.json.decode(capsys.readouterr().out, type=Report)
    assert (found.target, found.interrupted) == ("tiny:q8_0", False)
    assert figures(found, "total_output_tokens") == {"1": 4 * 48, "3": 6 * 48}
    assert [row.figures["p99_itl_ms"].rounds for row in found.rows] == [2, 2]
    assert page.stat().st_size > 1_000_000


def test_a_prompt_is_as_long_as_its_point_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "context", "--points", "100,1000")
    lines = capsys.readouterr().out.replace(",", "").splitlines()
    rows = [[float(cell) for cell in line.split("\t")] for line in lines]
    assert [row[0] for row in rows] == [100, 1000]
    for point, tokens, ttft, speed, failed in rows:
        # Which words a prompt has is chance, and not all are as many tokens.
        assert tokens == pytest.approx(point, rel=0.25)
        assert ttft > 0 < speed
        assert failed == 0


def test_as_much_of_a_prompt_is_cached_as_its_point_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scaling, "PROMPT", 400)
    run(monkeypatch, "cached", "--points", "0,50,100", "--json")
    found = msgspec.json.decode(capsys.readouterr().out, type=Report)
    asked, cached = figures(found, "total_input_tokens"), figures(found, "total_cached_tokens")
    shares = {point: cached[point] / asked[point] for point in asked}
    assert shares == {
        "0": pytest.approx(0, abs=0.15),
        "50": pytest.approx(0.5, abs=0.1),
        "100": pytest.approx(1, abs=0.1),
    }
