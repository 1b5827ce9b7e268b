"""Thinking taken off the answer, however the text is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmengine.chat.delta import Delta
from llmengine.chat.output import OutputParser


def parsed(pieces: list[str], prompt: str = "") -> tuple[str, str]:
    parser = OutputParser(prompt)
    deltas = [*(parser.feed(each) for each in pieces), parser.finish()]
    return "".join(d.content for d in deltas), "".join(d.reasoning for d in deltas)


CASES = [
    ("", "Hello", "Hello", ""),
    ("", "  Hello ", "  Hello ", ""),
    ("", "<think>a b</think>c", "c", "a b"),
    ("", "\n<think>\na\n\nb\n</think>\n\nc\n", "c\n", "a\n\nb"),
    ("", "<think></think>c", "c", ""),
    ("", "<think>\n\n</think>\n\nc", "c", ""),
    ("", "<think>a</thin</think>c", "c", "a</thin"),
    ("", "<think>a < b </ c</think>c", "c", "a < b </ c"),
    ("", "<think>cut off </th", "", "cut off </th"),
    ("", "<thinking is fun", "<thinking is fun", ""),
    ("", "<thi", "<thi", ""),
    ("", "a <think>b</think>", "a <think>b</think>", ""),
    ("", "<think>a</think>b<think>c</think>", "b<think>c</think>", "a"),
    ("", "<think>a</think>b</think>", "b</think>", "a"),
    ("x<think>\n", "a</think>b", "b", "a"),
    ("x<think>", "\na\n</think>\nb", "b", "a"),
    ("x<think>\n\n</think>\n\n", "b", "b", ""),
    ("x<think>\n", "all thinking", "", "all thinking"),
    ("", "", "", ""),
    ("", " \n", " \n", ""),
]


@pytest.mark.parametrize(("prompt", "text", "content", "reasoning"), CASES)
def test_content_and_reasoning_are_split_in_pieces_of_any_size(
    prompt: str, text: str, content: str, reasoning: str
) -> None:
    for size in range(1, len(text) + 2):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert parsed(pieces, prompt) == (content, reasoning), size


def test_nothing_is_held_back_longer_than_it_must() -> None:
    parser = OutputParser("")
    fed = ["<th", "ink>", "a ", "b<", "/think>", "\n", "c", "</think>"]
    assert [parser.feed(each) for each in fed] == [
        Delta(),
        Delta(),
        Delta(reasoning="a"),
        Delta(reasoning=" b"),
        Delta(),
        Delta(),
        Delta(content="c"),
        Delta(content="</think>"),
    ]


@given(st.text(alphabet="a <>/think\n", max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_cuts_do_not_matter(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert parsed(pieces) == parsed([text])
    assert parsed(pieces, "<think>") == parsed([text], "<think>")
