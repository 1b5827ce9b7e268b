"""Sound files, looked at before they are decoded: how long they are, and whether all is there."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from llmengine.errors import InvalidRequest

MAX_SECONDS = 30 * 60
_WAV_CODES = (1, 3, 6, 7, 0xFFFE)  # samples of a fixed size; the last one means "see below"
_FRAME = re.compile(rb"(?=\xff([\xe2-\xff])([\x00-\xff]))", re.DOTALL)
_RATES = (44_100, 48_000, 32_000)  # of MPEG 1; half of it with MPEG 2, a quarter with MPEG 2.5
_SAMPLES = 1152  # of a frame at most


def check_sound(data: bytes) -> None:
    """Refuse what is no sound file, is cut off or lasts too long; raises InvalidRequest.

    Decoders take the room that a file says it needs, so what it says is checked.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        seconds = _wav_seconds(data)
    elif data[:4] == b"fLaC":
        seconds = _flac_seconds(data)
    elif data[:3] == b"ID3" or _FRAME.match(data):
        seconds = _mp3_seconds(data)
    else:
        raise _invalid("is of no known format: send WAV, MP3 or FLAC")
    if not seconds:
        raise _invalid("is empty")
    if seconds > MAX_SECONDS:
        raise _invalid(f"is longer than {MAX_SECONDS // 60} minutes")


def _wav_seconds(data: bytes) -> float:
    per_second = 0
    for name, start, size in _chunks(data):
        if name == b"fmt " and size >= 16 and start + 16 <= len(data):
            code, channels, rate, _, block, _ = struct.unpack_from("<HHIIHH", data, start)
            if code not in _WAV_CODES:
                raise _invalid("is a compressed WAV file: send WAV of plain samples, MP3 or FLAC")
            if not (1 <= channels <= 16 and 1000 <= rate <= 768_000 and block):
                raise _invalid("has a header that makes no sense")
            per_second = rate * block
        elif name == b"data":
            if not per_second or start + size > len(data):
                break
            return size / per_second
    raise _invalid("is cut off")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and size of what a RIFF file consists of."""
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        yield name, at + 8, size
        at += 8 + size + size % 2


def _flac_seconds(data: bytes) -> float:
    if len(data) < 42:
        raise _invalid("is cut off")
    bits = int.from_bytes(data[18:26], "big")
    rate, samples = bits >> 44, bits & (2**36 - 1)
    if not rate or not samples:
        raise _invalid("does not say how long it is")
    return samples / rate


def _mp3_seconds(data: bytes) -> float:
    """At most: chance makes some of its bytes look like a frame's first."""
    seconds = 0.0
    for found in _FRAME.finditer(data):
        version, rate = found[1][0] >> 3 & 3, found[2][0] >> 2 & 3
        if version != 1 and rate != 3:
            seconds += _SAMPLES / (_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version])
    return seconds


def _invalid(reason: str) -> InvalidRequest:
    return InvalidRequest(f"a recording {reason}", code="invalid_audio")
