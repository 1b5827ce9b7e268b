"""Where in a text its newest tokens stood before."""

from __future__ import annotations

from array import array

SIZES = (4, 3, 2)  # tokens that have to agree, the surest first


class Lookup:
    """An index of a growing text: one entry per size and token, each in constant time."""

    def __init__(self, tokens: array[int]) -> None:
        self.tokens = tokens
        self._places = {size: self._index(size) for size in SIZES}

    def _index(self, size: int) -> dict[bytes, int]:
        """By their bytes, the place behind the last occurrence of any `size` tokens."""
        data, width = self.tokens.tobytes(), self.tokens.itemsize
        return {
            data[(end - size) * width : end * width]: end for end in range(size, len(self.tokens))
        }

    def append(self, token: int) -> None:
        tokens, end = self.tokens, len(self.tokens)
        # Only now what stands at the end has something behind it.
        for size, places in self._places.items():
            if size <= end:
                places[tokens[end - size :].tobytes()] = end
        tokens.append(token)

    def find(self) -> tuple[int, int]:
        """The place behind an earlier occurrence of the newest tokens, and how many they are.

        No tokens where there is none.
        """
        for size, places in self._places.items():
            place = places.get(self.tokens[-size:].tobytes())
            if place is not None:
                return place, size
        return 0, 0

    def first(self, place: int, size: int) -> int:
        """The place behind the first occurrence of the `size` tokens before `place`.

        Searched for: an entry for each would cost every text more than this costs the few that ask.
        """
        data, width = self.tokens.tobytes(), self.tokens.itemsize
        wanted = data[(place - size) * width : place * width]
        at = data.find(wanted)
        while at % width:
            at = data.find(wanted, at + 1)
        return at // width + size
