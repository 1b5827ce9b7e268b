"""What the disk tier writes of an entry beside its state."""

from __future__ import annotations

from zlib import crc32

import msgspec
import numpy as np
from msgspec import Struct

from llmengine.cache.entry import Entry, State
from llmengine.cache.prefix_tree import Tokens
from llmengine.cache.raw_disk import Corrupt

VERSION = 1


class Record(Struct, frozen=True, kw_only=True):
    """Times are seconds since the epoch; `tokens` are little-endian int32."""

    version: int = VERSION
    id: str
    scope: str
    tokens: bytes
    size: int
    checksum: int
    created: float
    last_used: float
    uses: int
    pinned: bool
    label: str

    @staticmethod
    def of(entry: Entry, state: State) -> Record:
        return Record(
            id=entry.id,
            scope=entry.scope,
            tokens=entry.tokens.astype("<i4", copy=False).tobytes(),
            size=entry.size,
            checksum=checksum(entry, state),
            created=entry.created,
            last_used=entry.last_used,
            uses=entry.uses,
            pinned=entry.pinned,
            label=entry.label,
        )

    def entry(self, expires: float) -> Entry:
        tokens: Tokens = np.frombuffer(self.tokens, "<i4").astype(np.int32, copy=False)
        return Entry(
            id=self.id,
            scope=self.scope,
            tokens=tokens,
            size=self.size,
            created=self.created,
            last_used=self.last_used,
            expires=expires,
            uses=self.uses,
            pinned=self.pinned,
            label=self.label,
        )

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(data: object) -> Record:
        """Raises Corrupt, also for a record that another version of llmengine wrote."""
        try:
            record = msgspec.msgpack.decode(data if isinstance(data, bytes) else b"", type=Record)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Corrupt(str(error)) from error
        if record.version != VERSION or len(record.tokens) % 4:
            raise Corrupt(f"a record of version {record.version}")
        return record


def checksum(entry: Entry, state: State) -> int:
    """Of a state and what it belongs to, so that it is not taken for another's either.

    crc32 guards against accidents, at four times the speed of blake2b; nobody but the user can
    write to the folder.
    """
    tokens = entry.tokens.astype("<i4", copy=False).tobytes()
    return crc32(state.data, crc32(tokens, crc32(entry.scope.encode())))
