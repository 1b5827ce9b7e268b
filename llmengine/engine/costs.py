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
        return self._relative.get(rows) or _guess(rows)

    def seconds(self, rows: int) -> float:
        return self._unit * self.relative(rows)

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
