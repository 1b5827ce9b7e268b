"""The names of the metrics, where people read them and where dashboards ask for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from metrics_full import Family, families

ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.+) \|$", re.MULTILINE)
SERIES = re.compile(r"\bllmengine_\w+")


def documented(root: Path) -> dict[str, Family]:
    rows = ROW.findall((root / "docs" / "metrics.md").read_text(encoding="utf-8"))
    names = [name for name, *_ in rows]
    assert len(names) == len(set(names))
    return {
        name: Family(kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels, _ in rows
    }


def test_the_documents_name_every_metric_and_no_other(root: Path) -> None:
    assert documented(root) == families()


def dashboard(root: Path) -> dict[str, Any]:
    text = (root / "deploy" / "grafana-dashboard.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def queries(node: Any) -> Iterator[str]:
    """Every expression, and every query of a variable, that Prometheus would be asked."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "query", "definition") and isinstance(value, str):
                yield value
            else:
                yield from queries(value)
    elif isinstance(node, list):
        for value in node:
            yield from queries(value)


def series() -> dict[str, frozenset[str]]:
    """What can be asked for, with its labels: of a histogram its three parts."""
    found = {}
    for name, family in families().items():
        if family.kind != "histogram":
            found[name] = family.labels
            continue
        found[f"{name}_bucket"] = family.labels | {"le"}
        found[f"{name}_count"] = found[f"{name}_sum"] = family.labels
    return found


def test_the_dashboard_asks_for_nothing_that_is_not_there(root: Path) -> None:
    known = series()
    asked = list(queries(dashboard(root)))
    assert len(asked) >= 20
    for query in asked:
        names = SERIES.findall(query)
        assert names or query == "prometheus", query
        assert set(names) <= known.keys(), query


@pytest.mark.parametrize("clause", ["by", "legend"])
def test_the_dashboard_groups_by_labels_that_are_there(root: Path, clause: str) -> None:
    known = series()
    for panel in dashboard(root)["panels"]:
        for target in panel.get("targets", []):
            labels = frozenset[str]().union(
                *(known[each] for each in SERIES.findall(target["expr"]))
            )
            if clause == "by":
                groups = re.findall(r"by \(([^)]*)\)", target["expr"])
                used = {each.strip() for group in groups for each in group.split(",")}
            else:
                used = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert used <= labels | {"instance", "job"}, target


def test_the_panels_of_the_dashboard_do_not_overlap(root: Path) -> None:
    taken: set[tuple[int, int]] = set()
    ids = set()
    for panel in dashboard(root)["panels"]:
        ids.add(panel["id"])
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (column, row)
            for column in range(at["x"], at["x"] + at["w"])
            for row in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len(ids) == len(dashboard(root)["panels"])
