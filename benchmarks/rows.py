"""What one plan finds out of a server, in one row."""

from __future__ import annotations

from llmengine.bench import server
from llmengine.bench.local import Found
from llmengine.bench.progress import Silent
from llmengine.bench.report import Row
from llmengine.bench.server import Plan
from llmengine.loop import run_until_interrupted


def measured(url: str, plan: Plan, part: str = "") -> Row:
    """The row of a plan's only load; of that `part`, where the workload has several."""
    found = Found()
    run_until_interrupted(server.measure(url, "", plan, found, Silent()))
    return next(row for row in found.rows if row.group.endswith(part))
