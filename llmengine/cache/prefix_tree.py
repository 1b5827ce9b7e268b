"""A radix tree over token ids: which stored prompts begin as a given one does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int32]
E = TypeVar("E")


class Node(Generic[E]):
    """The tokens from `start` to `end` of a path; `tokens` is a whole array that takes it.

    Edges are views of the arrays that were inserted, so that neither splitting nor joining
    them copies anything.
    """

    __slots__ = ("children", "end", "entries", "parent", "start", "tokens")

    def __init__(self, parent: Node[E] | None, tokens: Tokens, start: int, end: int) -> None:
        self.parent = parent
        self.tokens = tokens
        self.start = start
        self.end = end
        self.children: dict[int, Node[E]] = {}  # by their first token
        self.entries: list[E] = []  # those that end here

    def split(self, at: int) -> Node[E]:
        """A new node above this one, which ends at `at`."""
        upper = Node(self.parent, self.tokens, self.start, at)
        assert self.parent is not None
        self.parent.children[int(self.tokens[self.start])] = upper
        upper.children[int(self.tokens[at])] = self
        self.parent, self.start = upper, at
        return upper

    def below(self) -> Iterator[E]:
        """The entries that end here or deeper, an entry before its continuations.

        Depth first, so that the first few cost no more than the depth of the tree.
        """
        path = [iter((self,))]
        while path:
            node = next(path[-1], None)
            if node is None:
                path.pop()
            else:
                yield from node.entries
                path.append(iter(node.children.values()))


class Hit(Generic[E]):
    """How far the stored prompts go along with one, and which go that far."""

    def __init__(self, length: int, node: Node[E]) -> None:
        self.length = length
        self._node = node

    def __iter__(self) -> Iterator[E]:
        """The entries that begin with those `length` tokens; they are found one by one."""
        return self._node.below()


class PrefixTree(Generic[E]):
    """Entries by their tokens. Every node but the root has an entry at or below it."""

    def __init__(self) -> None:
        self._root: Node[E] = Node(None, np.empty(0, np.int32), 0, 0)

    def __bool__(self) -> bool:
        return bool(self._root.children or self._root.entries)

    def insert(self, tokens: Tokens, entry: E) -> None:
        """Add an entry; the array is kept and must not change any more."""
        node, length = self._walk(tokens)
        if length < node.end:
            node = node.split(length)
        if length < len(tokens):
            leaf = Node(node, tokens, length, len(tokens))
            node.children[int(tokens[length])] = leaf
            node = leaf
        node.entries.append(entry)

    def remove(self, tokens: Tokens, entry: E) -> None:
        """Take an entry out again; ValueError if it is not there."""
        node, length = self._walk(tokens)
        if length < len(tokens) or node.end != length:
            raise ValueError("no such tokens in the tree")
        node.entries.remove(entry)
        _prune(node)

    def longest(self, tokens: Tokens) -> Hit[E]:
        """The longest prefix of `tokens` that any entry has."""
        node, length = self._walk(tokens)
        return Hit(length, node)

    def prefixes(self, tokens: Tokens) -> list[E]:
        """The entries whose tokens are all a prefix of `tokens`, the shortest first."""
        node, length = self._walk(tokens)
        path = []
        above: Node[E] | None = node if node.end == length else node.parent
        while above:
            path.append(above)
            above = above.parent
        return [entry for each in reversed(path) for entry in each.entries]

    def _walk(self, tokens: Tokens) -> tuple[Node[E], int]:
        """The deepest node that agrees with `tokens` and how many tokens agree."""
        node, length = self._root, 0
        while length < len(tokens) and length == node.end:
            child = node.children.get(int(tokens[length]))
            if child is None:
                break
            node = child
            length += common_prefix(node.tokens[node.start : node.end], tokens[length:])
        return node, length


def _prune(node: Node[E]) -> None:
    """Restore the rule that a node has entries or branches, from `node` upwards."""
    parent = node.parent
    if parent is None or node.entries or len(node.children) > 1:
        return
    first = int(node.tokens[node.start])
    if node.children:
        (child,) = node.children.values()
        child.parent, child.start = parent, node.start
        parent.children[first] = child
    else:
        del parent.children[first]
        _prune(parent)


def common_prefix(one: Tokens, other: Tokens) -> int:
    """How many tokens two arrays begin with in common."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    first = int(differs.argmax()) if length else 0
    return first if length and differs[first] else length
