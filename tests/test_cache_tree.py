"""The prefix tree against a plain list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmengine.cache.entry import as_tokens, entry_id
from llmengine.cache.prefix_tree import PrefixTree

PROMPT = st.lists(st.integers(0, 2), max_size=8)  # few tokens, so that prompts share much


def common(one: list[int], other: list[int]) -> int:
    length = 0
    while one[: length + 1] == other[: length + 1] and length < len(one):
        length += 1
    return length


class Model:
    def __init__(self) -> None:
        self.stored: list[tuple[list[int], int]] = []

    def longest(self, tokens: list[int]) -> tuple[int, set[int]]:
        length = max((common(tokens, each) for each, _ in self.stored), default=0)
        return length, {name for each, name in self.stored if each[:length] == tokens[:length]}

    def prefixes(self, tokens: list[int]) -> list[int]:
        fitting = [(each, name) for each, name in self.stored if tokens[: len(each)] == each]
        return [name for _, name in sorted(fitting, key=lambda pair: len(pair[0]))]


@given(
    work=st.lists(st.tuples(PROMPT, st.booleans()), max_size=30),
    asked=st.lists(PROMPT, min_size=1, max_size=6),
)
def test_it_finds_what_a_list_finds(work: list[tuple[list[int], bool]], asked: list) -> None:
    tree, model = PrefixTree(), Model()
    for number, (prompt, insert) in enumerate(work):
        if insert or not model.stored:
            tree.insert(as_tokens(prompt), number)
            model.stored.append((prompt, number))
        else:
            tokens, name = model.stored.pop(number % len(model.stored))
            tree.remove(as_tokens(tokens), name)
        for tokens in [*asked, prompt]:
            hit = tree.longest(as_tokens(tokens))
            assert (hit.length, set(hit)) == model.longest(tokens)
            assert tree.prefixes(as_tokens(tokens)) == model.prefixes(tokens)
    assert bool(tree) == bool(model.stored)


@given(prompts=st.lists(PROMPT, min_size=1, max_size=20))
def test_nothing_is_left_of_what_was_removed(prompts: list[list[int]]) -> None:
    tree = PrefixTree()
    for number, prompt in enumerate(prompts):
        tree.insert(as_tokens(prompt), number)
    for number, prompt in enumerate(prompts):
        tree.remove(as_tokens(prompt), number)
    assert not tree
    assert tree.longest(as_tokens([0, 1])).length == 0


def test_removing_what_is_not_there_is_an_error() -> None:
    tree = PrefixTree()
    tree.insert(as_tokens([1, 2, 3]), "a")
    with pytest.raises(ValueError, match="no such tokens"):
        tree.remove(as_tokens([1, 2]), "a")
    with pytest.raises(ValueError, match="not in list"):
        tree.remove(as_tokens([1, 2, 3]), "b")


def test_the_shortest_of_many_continuations_comes_first() -> None:
    tree = PrefixTree()
    tree.insert(as_tokens([1, 2, 3, 4, 5, 6]), "long")
    tree.insert(as_tokens([1, 2, 3, 4]), "short")
    assert list(tree.longest(as_tokens([1, 2, 9]))) == ["short", "long"]


def test_edges_are_views() -> None:
    tree = PrefixTree()
    stored = np.arange(1000, dtype=np.int32)
    tree.insert(stored, "a")
    tree.insert(np.concatenate([stored[:500], stored[:5]]), "b")
    node = tree._root.children[0]
    assert node.tokens is stored
    assert node.children[500].tokens is stored


def test_ids_tell_scopes_and_tokens_apart() -> None:
    tokens = as_tokens([1, 2, 3])
    assert entry_id("a", tokens) == entry_id("a", tokens.copy())
    assert len({entry_id("a", tokens), entry_id("b", tokens), entry_id("a", tokens[:2])}) == 3
    assert len(entry_id("a", tokens)) == 24
