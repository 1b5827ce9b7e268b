"""Token bytes to text: whole characters, exact pieces, stop strings across borders."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmengine.engine.text import TextStream


def feed(stream: TextStream, pieces: list[bytes]) -> list[str]:
    texts = []
    for piece in pieces:
        texts.append(stream.push(piece))
        if stream.stop is not None:
            return texts
    return [*texts, stream.flush()]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.text(), st.lists(st.integers(min_value=0), max_size=20))
def test_pieces_joined_are_the_text_wherever_it_is_cut(text: str, cuts: list[int]) -> None:
    pieces = feed(TextStream(), split(text.encode(), cuts))
    assert "".join(pieces) == text


@given(
    st.text(alphabet="ab \u00e9\U0001f600", max_size=40),
    st.lists(st.text(alphabet="ab \u00e9", min_size=1, max_size=4), min_size=1, max_size=4),
    st.lists(st.integers(min_value=0), max_size=40),
)
def test_text_ends_before_the_first_stop_string(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    stream = TextStream(stops)
    got = "".join(feed(stream, [text[i : i + 1].encode() for i in range(len(text))]))
    ends = [(text.find(stop) + len(stop), -len(stop), stop) for stop in stops if stop in text]
    if not ends:
        assert (got, stream.stop) == (text, None)
        return
    # Character by character, the stop that is complete first wins; among those the longest.
    _, _, stop = min(ends)
    assert stream.stop == stop
    assert got == text[: text.find(stop)]
    again = TextStream(stops)
    whole = "".join(feed(again, split(text.encode(), cuts)))
    assert again.stop is not None
    assert text.startswith(whole)
    assert not any(each in whole for each in stops)


def test_whole_tokens_wait_until_nothing_of_them_is_held() -> None:
    stream = TextStream(["stop"], whole=True)
    assert [stream.push(each) for each in (b"a st", b"o", b"ve", b"b s")] == ["", "", "a stove", ""]
    assert stream.flush() == "b s"


def test_an_emoji_split_over_tokens_comes_whole() -> None:
    pieces = [bytes([byte]) for byte in "\U0001f469\u200d\U0001f680".encode()]
    texts = feed(TextStream(), pieces)
    assert "\ufffd" not in "".join(texts)
    assert [text for text in texts if text] == ["\U0001f469", "\u200d", "\U0001f680"]


def test_an_unfinished_character_at_the_end_is_dropped() -> None:
    assert feed(TextStream(), [b"ok", "\u20ac".encode()[:2]]) == ["ok", "", ""]


def test_bytes_that_are_no_utf8_are_shown_as_such() -> None:
    assert "".join(feed(TextStream(), [b"a\xffb"])) == "a\ufffdb"


@pytest.mark.parametrize(
    ("stops", "pieces", "texts"),
    [
        (["END"], [b"one E", b"N", b"D two"], ["one ", "", ""]),
        (["END"], [b"one E", b"N", b"C", b" two"], ["one ", "", "ENC", " two", ""]),
        (["aab"], [b"aaab"], ["a"]),
        (["\n\n", "\nUser:"], [b"hi\n", b"U", b"ser: x"], ["hi", "", ""]),
        (["x"], [b"x"], [""]),
        (["abc"], [b"ab"], ["", "ab"]),
    ],
)
def test_stop_strings_across_token_borders(
    stops: list[str], pieces: list[bytes], texts: list[str]
) -> None:
    assert feed(TextStream(stops), pieces) == texts
