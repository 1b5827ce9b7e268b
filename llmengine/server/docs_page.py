"""The OpenAPI document as a page for people: plain HTML, which needs neither scripts nor a net."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from typing import Any

Document = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code { font-family: ui-monospace, monospace; }
details { border: 1px solid #8884; border-radius: 6px; margin: .4rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; }
.method { display: inline-block; min-width: 4.5rem; font-weight: 600; text-transform: uppercase; }
.path { font-family: ui-monospace, monospace; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
td { border-top: 1px solid #8884; padding: .25rem .5rem; vertical-align: top; }
.required::after { content: " *"; color: #c33; }
"""
# Nothing but that style is loaded, run or sent anywhere.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
    "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def html(document: Document) -> str:
    title = f"{document['info']['title']} {document['info']['version']}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>"
        f"<p>{escape(document['info']['description'])} "
        'As data: <a href="openapi.json">openapi.json</a>.</p>'
        f"{''.join(_families(document))}</html>"
    )


def _families(document: Document) -> Iterator[str]:
    families: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            shown = _operation(document, method, path, operation)
            families.setdefault(operation["tags"][0], []).append(shown)
    for tag, operations in families.items():
        yield f"<h2>{escape(tag)}</h2>{''.join(operations)}"


def _operation(document: Document, method: str, path: str, operation: Document) -> str:
    head = (
        f'<summary><span class="method">{method}</span><span class="path">{escape(path)}</span> '
        f"{escape(operation['summary'])}</summary>"
    )
    parts = []
    if body := operation.get("requestBody"):
        ((media, content),) = body["content"].items()
        name = "Body" if media == "application/json" else "Form"
        parts.append(_fields(document, name, content["schema"]))
    answer = next(iter(operation["responses"].values()))
    content = answer.get("content", {})
    if answered := content.get("application/json"):
        parts.append(_fields(document, "Answer", answered["schema"]))
        if events := content.get("text/event-stream"):
            data = events["schema"]["properties"]["data"]["anyOf"][0]["contentSchema"]
            for each in data.get("anyOf", [data]):
                parts.append(_fields(document, f"Event of a stream: {_kind(each)}", each))
    return f"<details>{head}{''.join(parts)}</details>"


def _fields(document: Document, title: str, schema: Document) -> str:
    schema = _resolved(document, schema)
    required = set(schema.get("required", ()))
    rows = "".join(
        f'<tr><td><code class="{"required" if name in required else ""}">{escape(name)}</code>'
        f"<td>{escape(_kind(each))}<td>{escape(_description(each))}"
        for name, each in schema.get("properties", {}).items()
    )
    return f"<h4>{title}</h4><table>{rows}</table>"


def _resolved(document: Document, schema: Document) -> Document:
    if "$ref" not in schema:
        return schema
    found: Document = document["components"]["schemas"][_name(schema)]
    return found


def _name(schema: Document) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _kind(schema: Document) -> str:
    """A type in a few words: `integer 1..128`, `list of Message`."""
    if "$ref" in schema:
        return _name(schema).rpartition(".")[2]
    if choices := schema.get("anyOf"):
        return " | ".join(dict.fromkeys(_kind(each) for each in choices))
    if values := schema.get("enum"):
        return " | ".join(map(str, values))
    if schema.get("type") == "array":
        items = schema.get("items") or {}
        return f"list of {_kind(items)}" if items else "list"
    return f"{schema.get('type', 'any')}{_bounds(schema)}"


def _bounds(schema: Document) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None and high is None:
        return ""
    return f" {'' if low is None else low}..{'' if high is None else high}"


def _description(schema: Document) -> str:
    if found := schema.get("description"):
        return str(found)
    parts = (_description(each) for each in schema.get("anyOf", ()))
    return next((each for each in parts if each), "")
