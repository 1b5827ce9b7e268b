"""What images and recordings must be, and the ids that stand for them."""

from __future__ import annotations

import io
import struct
import wave
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import image, sound
from PIL import Image

from llmengine.errors import InvalidRequest
from llmengine.media.picture import picture
from llmengine.media.sound import check_sound
from llmengine.media.spans import Span, ids, position, spans, whole

FRAME = b"\xff\xfb\x90\x00" + bytes(413)  # MPEG 1, layer III, 128 kbit/s, 44.1 kHz


# Images


def png(width: int, height: int) -> bytes:
    """Only the header is true: nothing is there to be decoded."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    named = b"IHDR" + head
    checked = struct.pack(">I", 13) + named + struct.pack(">I", zlib.crc32(named))
    return b"\x89PNG\r\n\x1a\n" + checked + struct.pack(">I", 4) + b"IDAT" + bytes(8)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_common_formats_are_decoded(format: str) -> None:
    found = picture(image(1, 40, 24, format).data)
    assert (found.width, found.height, len(found.pixels)) == (40, 24, 40 * 24 * 3)


def test_pixels_are_as_they_were() -> None:
    expected = np.random.default_rng(1).integers(0, 256, (24, 40, 3), np.uint8)
    assert picture(image(1).data).pixels == expected.tobytes()


def test_what_is_transparent_is_white() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (1, 1), (10, 20, 30, 0)).save(file, "PNG")
    assert picture(file.getvalue()).pixels == b"\xff\xff\xff"


def test_it_is_turned_as_the_camera_was_held() -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (4, 2)).save(file, "JPEG", exif=exif)
    found = picture(file.getvalue())
    assert (found.width, found.height) == (2, 4)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_images_that_are_cut_off_are_refused(format: str) -> None:
    data = image(1, 64, 64, format).data
    with pytest.raises(InvalidRequest, match="an image is damaged") as refused:
        picture(data[: len(data) * 2 // 3])
    assert refused.value.code == "invalid_image"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no known format: send PNG, JPEG, WEBP, GIF or BMP"),
        (b"<svg/>", "no known format"),
        (b"%PDF-1.4", "no known format"),
        (b"P6 1 1 255 abc", "no known format"),
        (png(6_000, 6_000), "6000 x 6000 pixels, more than 33,554,432"),
        (png(60_000, 60_000), "far too many pixels, more than 33,554,432"),
        (png(10_000, 10), "one side may be 200 times the other"),
        (png(0, 5), "an image"),
    ],
)
def test_what_is_no_image_to_take_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        picture(data)


# Sound


def wav(code: int = 1, channels: int = 1, rate: int = 16_000, size: int = 100) -> bytes:
    """A header that says that `size` bytes follow; 100 do."""
    head = struct.pack("<HHIIHH", code, channels, rate, rate * 2, 2 * channels, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", size)
    return b"RIFF" + bytes(4) + b"WAVE" + chunks + bytes(100)


def flac(rate: int, samples: int) -> bytes:
    bits = rate << 44 | samples
    return b"fLaC" + bytes(14) + bits.to_bytes(8, "big") + bytes(16)


@pytest.mark.parametrize(
    "data",
    [sound(440).data, wav(), flac(44_100, 44_100 * 60), FRAME * 100, b"ID3" + bytes(7) + FRAME],
)
def test_sound_of_common_formats_is_taken(data: bytes) -> None:
    check_sound(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no known format: send WAV, MP3 or FLAC"),
        (b"OggS" + bytes(100), "no known format"),
        (sound(440).data[:-1], "is cut off"),
        (wav(size=0), "is empty"),
        (wav(size=2**32 - 1), "is cut off"),
        (wav()[:30], "is cut off"),
        (wav(code=2), "compressed WAV"),
        (wav(channels=0), "makes no sense"),
        (wav(rate=1), "makes no sense"),
        (flac(44_100, 2**36 - 1), "longer than 30 minutes"),
        (flac(44_100, 0), "does not say how long"),
        (flac(0, 100), "does not say how long"),
        (flac(1, 1)[:20], "is cut off"),
        (FRAME * 100_000, "longer than 30 minutes"),
        (b"ID3" + bytes(100), "is empty"),
    ],
)
def test_what_is_no_sound_to_take_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        check_sound(data)
    assert refused.value.code == "invalid_audio"


def test_half_an_hour_of_bare_silence_is_the_most() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(1)
        written.setframerate(1000)
        written.writeframes(bytes(1000 * 1800))
    check_sound(file.getvalue())
    with pytest.raises(InvalidRequest, match="longer than 30 minutes"):
        check_sound(wav(rate=1000, size=0)[:-104] + struct.pack("<I", 3_602_000) + bytes(3_602_000))


# Spans


def test_ids_follow_from_the_content() -> None:
    one = ids(b"one", 0, 20, 3)
    assert len(one) == 20
    assert one == ids(b"one", 0, 20, 3)
    assert all(-(2**31) <= token < 0 for token in one)
    # But for the first, which tells no more than the positions.
    for other in (ids(b"two", 0, 20, 3), ids(b"one", 1, 20, 3)):
        assert other[0] == one[0]
        assert not set(other[1:]) & set(one[1:])


PARTS = st.lists(
    st.one_of(
        st.lists(st.integers(0, 1000), max_size=5),
        st.tuples(st.binary(max_size=2), st.integers(1, 40), st.integers(0, 39)),
    ),
    max_size=6,
)


@given(PARTS)
def test_spans_are_found_again(parts: list[list[int] | tuple[bytes, int, int]]) -> None:
    tokens: list[int] = []
    expected: list[Span] = []
    for part in parts:
        if isinstance(part, list):
            tokens += part
        else:
            digest, length, skip = part
            expected.append(Span(len(tokens), length, min(skip, length - 1)))
            tokens += ids(digest, 0, length, min(skip, length - 1))
    assert spans(tokens) == tuple(expected)
    for length in range(len(tokens) + 1):
        cut = [each for each in expected if each.start < length < each.end]
        kept = whole(tokens, length)
        assert kept == (cut[0].start if cut else length)
        assert position(tokens, kept) == kept - sum(
            each.skip for each in expected if each.end <= kept
        )
