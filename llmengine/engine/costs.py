"""What steps of more rows cost beside those of fewer."""

from __future__ import annotations

_GUESS = 0.25  # of a row's step: what each further row costs, before it was measured
_FAST, _SLOW = 0.3, 0.1  # weights of the newest step
_MOST = 4.0  # times that a single step may be off
_FORGIVEN = 0.995


class Costs:
    """Learns the time of a decoding step by its rows.

    It is kept in two factors: how fast the machine is now, which moves quickly, and what the
    number of rows has to do with it, which hardly does.
    """

    def __init__(self) -> None:
        self._unit = 0.0  # seconds of a step of one row, 0 before the first
        self._relative: dict[int, float] = {}  # by rows, in units

    def relative(self, rows: int) -> float:
        """The time of a step of so many rows, in those of one row."""
        return self._relative.get(rows) or _guess(rows) * self._off(rows)

    def _off(self, rows: int) -> float:
        """By what the next smaller number of rows that was measured is better than its guess."""
        known = max((each for each in self._relative if each <= rows), default=0)
        return min(1.0, self._relative[known] / _guess(known)) if known else 1.0

    def seconds(self, rows: int) -> float:
        return self._unit * self.relative(rows)

    def units(self, seconds: float) -> float:
        """So many seconds in steps of one row; none before the first was measured."""
        return seconds / self._unit if self._unit else 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from a step that took `rows` rows."""
        seconds = max(seconds, 1e-9)
        if not self._unit:
            self._unit = seconds / _guess(rows)
        known = self._relative.get(rows)
        off = seconds / (self._unit * (known or _guess(rows)))
        off = min(max(off, 1 / _MOST), _MOST)
        if known is None:
            self._relative[rows] = _guess(rows) * off
        else:
            self._relative[rows] = known * off**_SLOW
            self._unit *= off**_FAST

    def forgive(self, rows: int) -> None:
        """Think better of a number of rows that is not tried for its cost, so that it is again."""
        if rows in self._relative:
            self._relative[rows] = max(self._relative[rows] * _FORGIVEN, _guess(rows))


def _guess(rows: int) -> float:
    return 1 + _GUESS * (rows - 1)
