"""How the chunks of a stream are written as server-sent events."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from llmengine.server import wire


class Framing(Struct, frozen=True):
    event: Callable[[Struct], bytes]
    end: bytes = b""  # after the last event
    waiting: bytes = b": waiting\n\n"  # sent while nothing comes, so that proxies stay

    def events(self, chunks: Iterable[Struct]) -> bytes:
        return b"".join(map(self.event, chunks))


def _plain(chunk: Struct) -> bytes:
    return b"data: %b\n\n" % wire.encode(chunk)


def named(chunk: Struct) -> bytes:
    """With the name of the event, which is the tag of its type."""
    name = str(chunk.__struct_config__.tag).encode()
    return b"event: %b\ndata: %b\n\n" % (name, wire.encode(chunk))


PLAIN = Framing(_plain, b"data: [DONE]\n\n")
NAMED = Framing(named)
