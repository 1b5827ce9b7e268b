"""What was measured, in one form for both benchmarks, as text files carry it."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from llmengine.errors import InvalidRequest

FORMAT = 1


class Spread(Struct, frozen=True):
    """A figure, as it was in several rounds."""

    median: float
    least: float
    most: float
    rounds: int = 1

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        return f"{self.median:.3f}"

    def worded(self, unit: float = 1.0, digits: int = 1) -> str:
        """`12.3 (11.9 to 13.0)`, in multiples of `unit`."""
        median, least, most = (
            f"{value / unit:,.{digits}f}" for value in (self.median, self.least, self.most)
        )
        return f"{median} ({least} to {most})" if self.rounds > 1 else median


class Row(Struct, frozen=True, kw_only=True):
    """A test or a load, with its figures by name."""

    group: str  # rows of one belong together, as the points of a line
    load: str
    figures: dict[str, Spread]
    errors: dict[str, int] = {}  # what went wrong, and how often

    @property
    def name(self) -> str:
        return f"{self.group} @ {self.load}"


class Machine(Struct, frozen=True, kw_only=True):
    system: str
    processor: str
    cores: int
    memory: int  # bytes
    llmengine: str
    llama_cpp: str


class Report(Struct, frozen=True, kw_only=True):
    kind: Literal["model", "server"]
    target: str  # what was measured
    started: str  # ISO 8601
    machine: Machine
    rows: list[Row]
    notes: list[str] = []
    interrupted: bool = False
    format: int = FORMAT


def encode(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"


def load(path: Path) -> Report:
    """Raises InvalidRequest for what is no report."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"{path} is no report of `llmengine bench --json`: {error}") from error
    if found.format != FORMAT:
        raise InvalidRequest(f"{path} has format {found.format}, this release reads {FORMAT}")
    return found


def encode_csv(report: Report) -> str:
    """A line for each figure of each row."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["row", "figure", "median", "least", "most", "rounds"])
    for row in report.rows:
        for name, spread in row.figures.items():
            values = (spread.median, spread.least, spread.most)
            writer.writerow([row.name, name, *(f"{value:.6g}" for value in values), spread.rounds])
        for error, count in row.errors.items():
            writer.writerow([row.name, f"error: {error}", count, count, count, 1])
    return file.getvalue()
