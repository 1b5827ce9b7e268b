"""How deeply a body may nest: the same answer as a count by hand, whatever stands in strings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmengine.errors import InvalidRequest
from llmengine.server.bodies import MAX_MESSAGES, MAX_TOOLS, ChatBody, decode
from llmengine.server.depth import MAX_COUNT, MAX_DEPTH, check_depth


def deep(body: bytes) -> bool:
    try:
        check_depth(body)
    except InvalidRequest:
        return True
    return False


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def nested(levels: int, leaf: Any) -> Any:
    for level in range(levels):
        leaf = [leaf] if level % 3 else {"a[": leaf, '"]\\': "}"}
    return leaf


TEXT = st.text('[]{}"\\,:abc', max_size=30)
VALUES = st.recursive(
    TEXT, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
)


@settings(deadline=None)
@given(VALUES, st.integers(0, 140))
def test_it_counts_as_the_parser_does(leaf: Any, levels: int) -> None:
    value = nested(levels, leaf)
    for body in (json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode()):
        assert deep(body) == (depth(value) > MAX_DEPTH)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * (MAX_DEPTH + 1),
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"[]" * 1000 + b"[" * 1000,
        b'["\\\\"' + b"[" * 1000 + b'"\\""',
        b'"' + b"\\" * 1000 + b'"' + b"[" * 1000,
        b'"' * 65535 + b"[" * 100 + b'"' + b"[" * 200,
        b"[" * 100 + b"[]" * 65536 + b"[" * 29,
    ],
)
def test_too_deep(body: bytes) -> None:
    assert deep(body)
    with pytest.raises(InvalidRequest, match="deeper than 128 levels"):
        decode(body, ChatBody)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b"[]" * 100_000,
        b'"' + b"[" * 100_000 + b'"',
        b'"' + b"\\" * 1001 + b'"' + b"[" * 1000 + b'"',
        b"]" * 1000 + b"[" * 1000,
        b'"' * 500 + b"[]" * 1000,
        b'"' * 65535 + b"[" * 200 + b'"' + b"[" * 100,
    ],
)
def test_wide_is_not_deep(body: bytes) -> None:
    assert not deep(body)


def test_there_may_not_be_too_many() -> None:
    assert not deep(b"[" + b"[]," * (MAX_COUNT - 1) + b"]")
    with pytest.raises(InvalidRequest, match="more than 1000000 lists and objects"):
        check_depth(b"[" + b"{}," * MAX_COUNT + b"]")


def test_lists_have_bounds() -> None:
    message = {"role": "user", "content": "x"}
    tool = {"type": "function", "function": {"name": "a"}}
    most = {"messages": [message] * MAX_MESSAGES, "tools": [tool] * MAX_TOOLS}
    decode(json.dumps(most).encode(), ChatBody)
    for name in most:
        more = {**most, name: most[name] + most[name][:1]}
        with pytest.raises(InvalidRequest) as found:
            decode(json.dumps(more).encode(), ChatBody)
        assert found.value.param == name
