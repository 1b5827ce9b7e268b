"""The checkout as a whole: what it imports is declared, and its documents point at files."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import tomli
from conftest import ROOT

PROJECT = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# The recipe of the model is no package: the tests put its folder on the path.
OWN = {"llmengine", "benchmarks", "tests"} | {
    path.stem
    for folder in ("tests", "models/tiny-chat")
    for path in (ROOT / folder).iterdir()
    if path.is_dir() or path.suffix == ".py"
}
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("models/**/*.md"),
    *ROOT.glob("benchmarks/**/*.md"),
]
CLIENTS = ROOT / "tests" / "clients"


def imported(folder: str) -> set[str]:
    """The top-level modules of others that the code in `folder` imports."""
    names: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        if CLIENTS in path.parents:
            continue  # they have requirements of their own
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - OWN - set(sys.stdlib_module_names)


def plain(requirement: str) -> str:
    """The name in a requirement like `Sanic>=25.3`, as names are compared."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


@pytest.mark.parametrize("folder", ["llmengine", "tests", "benchmarks"])
def test_what_is_imported_is_declared(folder: str) -> None:
    """Else it is there only as long as something else happens to need it."""
    extras = PROJECT["optional-dependencies"]
    required = PROJECT["dependencies"] + extras["otel" if folder == "llmengine" else "dev"]
    declared = set(map(plain, required))
    provided = {
        file.parts[0].removesuffix(".py")
        for name in declared
        for file in metadata.files(name) or ()
    }
    optional = {plain(each) for name in ("plot", "peers") for each in extras[name]}
    # uvloop is taken where sanic brings it.
    assert imported(folder) - provided - optional <= {"uvloop"}


def links(document: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for link in links(document):
        name, _, anchor = link.partition("#")
        target = (document.parent / name) if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem
)
def test_what_benchmarks_import_is_there(path: Path) -> None:
    """Few of them have tests of their own."""
    importlib.import_module(f"benchmarks.{path.stem}")
