"""Where the report of a benchmark goes: a table or JSON on stdout, files beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from msgspec import Struct

from llmengine.cli import file
from llmengine.errors import InvalidRequest

if TYPE_CHECKING:
    from llmengine.bench.local import Found
    from llmengine.bench.report import Report

Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print a line for each figure, as CSV.")]
Save = Annotated[
    Path | None,
    typer.Option("--save", metavar="FILE", help="Write the JSON to a file as well."),
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE.html", help="Write charts: one file, for any browser."),
]


class Output(Struct, frozen=True, kw_only=True):
    """How to report; raises InvalidRequest, before anything is measured, if it cannot be done."""

    json: bool = False
    csv: bool = False
    save: Path | None = None
    plot: Path | None = None

    def __post_init__(self) -> None:
        if self.json and self.csv:
            raise InvalidRequest("--json and --csv exclude each other")
        for path in (self.save, self.plot):
            if path is not None:
                _check_writable(path)
        if self.plot is not None:
            from llmengine.bench import plot

            plot.check()

    def write(self, report: Report) -> None:
        """Files first, as a pipe may be closed; where they cannot be written, stdout has it all."""
        try:
            self._keep(report)
        finally:
            self._show(report)

    def _keep(self, report: Report) -> None:
        from llmengine.bench.report import encode

        if self.save is not None:
            _write(self.save, encode(report))
        if self.plot is not None:
            from llmengine.bench import plot

            _write(self.plot, plot.page(report))

    def _show(self, report: Report) -> None:
        from llmengine.bench.report import encode, encode_csv

        if self.json:
            sys.stdout.write(encode(report))
        elif self.csv:
            sys.stdout.write(encode_csv(report))
        else:
            show_report(report)


def _check_writable(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise InvalidRequest(f"there is no folder for {path}")
    if path.is_dir():
        raise InvalidRequest(f"{path} is a folder; name a file in it")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise InvalidRequest(f"cannot write {path}: Permission denied")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise file.inaccessible("write", path, error) from error


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def measured(kind: Literal["model", "server"], output: Output) -> Iterator[Found]:
    """What the block finds is reported, also when it is interrupted; not when it fails."""
    from llmengine.bench.local import Found
    from llmengine.bench.machine import machine
    from llmengine.bench.report import Report

    found = Found()
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    interrupt: KeyboardInterrupt | None = None
    try:
        yield found
    except KeyboardInterrupt as error:
        interrupt = error
    output.write(
        Report(
            kind=kind,
            target=found.target,
            started=started,
            machine=machine(),
            rows=found.rows,
            notes=found.notes,
            interrupted=interrupt is not None,
        )
    )
    if interrupt:
        raise interrupt


def show_report(report: Report) -> None:
    from llmengine.cli import bench_table

    machine = report.machine
    say(f"{report.target}; llmengine {machine.llmengine}, {machine.llama_cpp}")
    say(f"{machine.processor}, {machine.cores} cores")
    if report.kind == "model":
        bench_table.show_model(report)
    else:
        bench_table.show_server(report)
    for row in report.rows:
        for error, count in row.errors.items():
            say(f"{row.name}: {count} x {error}")
    for note in report.notes:
        say(note)
    if report.interrupted:
        say("interrupted: this is what there is")
