"""Errors as plain data, and back."""

from __future__ import annotations

import msgspec
import pytest

from llmengine.errors import EngineError, ErrorInfo, InvalidRequest, OutOfMemory


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemory("no room"),
        InvalidRequest("wrong", param="stop"),
        InvalidRequest("no", code="unsupported_grammar"),
    ],
)
def test_an_error_is_the_same_at_the_other_end(error: EngineError) -> None:
    info = msgspec.msgpack.decode(msgspec.msgpack.encode(error.info), type=ErrorInfo)
    again = EngineError.from_info(info)
    assert type(again) is type(error)
    assert (str(again), again.param, again.code) == (str(error), error.param, error.code)
