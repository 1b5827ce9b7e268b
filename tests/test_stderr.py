"""A stderr whose reader may take its time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TextIO

import pytest
from serving import eventually

from llmengine import stderr
from llmengine.stderr import Unhurried

FULL = 1 << 20  # characters, more than a pipe holds


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    out, into = os.pipe()
    with os.fdopen(out, "rb") as reader, os.fdopen(into, "w", encoding="ascii") as stream:
        yield reader.fileno(), stream


def read(file: int, size: int) -> str:
    found = b""
    while len(found) < size:
        found += os.read(file, size - len(found))
    return found.decode()


def test_what_is_written_comes_in_order_also_what_the_stream_cannot_spell(
    pipe: tuple[int, TextIO],
) -> None:
    own = Unhurried(pipe[1])
    print("one", file=own, flush=True)
    own.write("zwölf\n")
    own.close()
    assert read(pipe[0], 13) == "one\nzw\\xf6lf\n"
    assert (own.fileno(), own.isatty()) == (pipe[1].fileno(), False)


def test_nobody_waits_for_its_reader_and_what_is_lost_is_counted(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stderr, "MAX_WRITES", 2)
    monkeypatch.setattr(stderr, "LAST_SECONDS", 0.01)
    own = Unhurried(pipe[1])
    own.write("x" * FULL)
    assert eventually(own._queue.empty)
    for line in ("one\n", "two\n", "three\n", "four\n"):
        own.write(line)
    own.close()  # in time, whatever is left
    assert read(pipe[0], FULL) == "x" * FULL
    told = "(2 lines are lost: nobody read them in time)\none\ntwo\n"
    assert read(pipe[0], len(told)) == told


def test_a_reader_that_is_gone_is_no_error() -> None:
    out, into = os.pipe()
    os.close(out)
    with os.fdopen(into, "w", encoding="ascii") as stream:
        own = Unhurried(stream)
        own.write("nobody hears\n")
        own.close()
        assert not own._thread.is_alive()
