"""Imports run one way: a layer may import those before it, never one after it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "llmengine"

# Each row may import itself and the rows above it.
LAYERS = [
    {"__init__"},
    {"errors", "hardware", "inventory", "loading", "log", "loop", "plugins", "stderr", "usage"},
    {"keys", "media", "metrics", "sampling"},
    {"config", "core"},
    {"options"},
    {"settings"},
    {"llama"},
    {"grammar"},
    {"cache"},
    {"chat"},
    {"models"},
    {"engine"},
    {"host"},
    {"server", "bench"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# Who may import a library that is slow to load, or that one package alone should know.
OWNERS = {
    "llama_cpp": {"llama", "cli/doctor.py"},
    "sanic": {"server"},
    "typer": {"cli"},
    "prompt_toolkit": {"cli"},
    "rich": {"cli"},
    "jinja2": {"chat"},
    "tomli": {"settings"},
    "diskcache": {"cache", "server/folder.py"},
    "llguidance": {"llama", "grammar"},
    "opentelemetry": {"server/tracing.py"},
    "aiohttp": {"bench"},
    "gguf": {"bench"},
    "plotly": {"bench"},
}

FILES = sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a file imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write absolute imports"
            module = node.module or ""
            # `from llmengine import log` imports the module llmengine.log.
            names = [alias.name for alias in node.names] if module == "llmengine" else []
            yield from ((node.lineno, f"{module}.{name}") for name in names)
            if not names:
                yield node.lineno, module


def ours(name: str) -> str | None:
    """The layer of an import, None for a library or for a plain value of the package."""
    first, _, rest = name.partition(".")
    inner = rest.partition(".")[0]
    return (inner if inner in RANK else "__init__") if first == "llmengine" else None


def test_every_module_has_a_layer() -> None:
    assert FILES
    assert {layer(path) for path in FILES} <= RANK.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    own = RANK[layer(path)]
    upward = [
        f"{path}:{line}: {layer(path)} must not import {name}"
        for line, name in imports(path)
        if (target := ours(name)) is not None
        and (RANK[target] > own or (RANK[target] == own and target != layer(path)))
    ]
    assert upward == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_libraries_stay_where_they_belong(path: Path) -> None:
    places = {layer(path), str(path.relative_to(PACKAGE))}
    strangers = [
        f"{path}:{line}: {name} belongs to {', '.join(sorted(OWNERS[library]))}"
        for line, name in imports(path)
        if (library := name.partition(".")[0]) in OWNERS and not OWNERS[library] & places
    ]
    assert strangers == []


def test_the_checks_see_imports_inside_functions(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "from llmengine import log, errors\n"
        "def f():\n"
        "    import llama_cpp.llama as x\n"
        "    from llmengine.server.app import create\n"
    )
    assert list(imports(path)) == [
        (1, "llmengine.log"),
        (1, "llmengine.errors"),
        (3, "llama_cpp.llama"),
        (4, "llmengine.server.app"),
    ]
    assert [ours(name) for _, name in imports(path)] == ["log", "errors", None, "server"]
