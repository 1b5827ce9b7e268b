"""Messages over a socket, each behind its length."""

from __future__ import annotations

import select
import socket
import struct
import threading
from typing import Any, Generic, TypeVar

import msgspec

from llmengine.host.wire import Message

T = TypeVar("T")

_LENGTH = struct.Struct("<I")
_CHUNK = 1 << 18  # bytes read at once

_encode = msgspec.msgpack.Encoder(enc_hook=str).encode


def packed(message: Message) -> bytes:
    """A message as it is sent; raises UnicodeEncodeError for text that is no valid Unicode."""
    data = _encode(message)
    return _LENGTH.pack(len(data)) + data


class Channel(Generic[T]):
    """One end of a socket. Any thread may send, one may receive."""

    def __init__(self, end: socket.socket, receives: Any) -> None:
        """`receives` is the type T."""
        self._socket = end
        self._decode = msgspec.msgpack.Decoder(receives).decode
        self._sending = threading.Lock()
        self._readable = select.poll()
        self._readable.register(end, select.POLLIN)
        self._data = bytearray()

    def send(self, data: bytes) -> None:
        """Send what `packed` made, of one message or of many. Raises OSError if nobody listens."""
        with self._sending:
            self._socket.sendall(data)

    def receive(self, seconds: float | None = None) -> list[T] | None:
        """What has come, waiting for it up to `seconds`; None when the other end is gone."""
        while not (found := self._messages()):
            if not self._readable.poll(None if seconds is None else seconds * 1000):
                return []
            try:
                data = self._socket.recv(_CHUNK)
            except ConnectionError:
                return None
            if not data:
                return None
            self._data += data
        return found

    def _messages(self) -> list[T]:
        """The whole ones of what was read."""
        found: list[T] = []
        start, end = 0, len(self._data)
        while end - start >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._data, start)
            if end - start < _LENGTH.size + size:
                break
            start += _LENGTH.size
            # A copy: answers are kept as they came.
            found.append(self._decode(bytes(self._data[start : start + size])))
            start += size
        del self._data[:start]
        return found

    def close(self) -> None:
        self._socket.close()
