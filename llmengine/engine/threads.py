"""How many threads compute, by what the machine's other processes leave of it.

llama.cpp's threads wait for each other after every operation: when one of them has to share its
core, all do. One thread less is then faster than all of them.
"""

from __future__ import annotations

from collections.abc import Callable

_SLOW = 1.5  # times the usual: a step that others held up
_ROW = 4  # such steps in a row, before anything is tried
_LOOKS = 5  # steps of a trial that are compared
_HOPELESS = 2.0  # times as slow: one look is enough
_WORSE = 1.2  # and of this, two
_BETTER = 0.9  # of the time, for a trial to be a success
_SOON, _LATEST = 16, 128  # steps until more threads are tried again, doubled each time
_EARLY, _RARELY = 32, 512  # steps until fewer are tried though nothing seems wrong, doubled too


class Pace:
    """Seconds of steps by their rows: those of the last ones, and the usual ones."""

    def __init__(self) -> None:
        self._recent: dict[int, float] = {}
        self._usual: dict[int, float] = {}

    def ratio(self, rows: int, seconds: float) -> float | None:
        """A step's time beside that of the last ones of its size; None if there were none."""
        recent = self._recent.get(rows)
        return seconds / recent if recent else None

    def add(self, rows: int, seconds: float) -> bool:
        """Learn from a step; whether it was held up."""
        recent = self._recent.get(rows, seconds)
        usual = self._usual.get(rows, seconds)
        self._recent[rows] = recent + 0.3 * (seconds - recent)
        self._usual[rows] = usual + (0.3 if seconds < usual else 0.01) * (seconds - usual)
        return seconds > _SLOW * usual


class Threads:
    """Tries one count of threads against another, for a few steps, and keeps the faster one.

    Fewer are tried when steps become slow, more from time to time as long as there are fewer than
    could be. That is for steps that decode: the products of a prompt are large enough for threads
    to share them as they find time, so all of them are as fast beside others as fewer, and faster
    as soon as there is nobody else.
    """

    def __init__(self, most: int, apply: Callable[[int], None]) -> None:
        """`apply` makes so many threads compute the next step; `most` do now."""
        self.count = most  # of steps that decode
        self._most = self._applied = most
        self._apply = apply
        self._pace = Pace()
        self._held_up = 0  # steps in a row
        self._since = 0  # steps, since the last trial
        self._doubt = _ROW  # slow steps until the next one, after one that was in vain
        self._patience = _SOON  # steps, until the next one that nothing asks for
        self._calm = _EARLY  # steps, until fewer are tried all the same
        self._leap = False  # whether the last trial, of one more or less, was in vain
        self._trial: _Trial | None = None

    def prepare(self, *, prompts: bool) -> None:
        """Have the next step, with prompts or without, computed by as many as suit it."""
        count = self._most if prompts else self.count
        if count != self._applied:
            self._applied = count
            self._apply(count)

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from a decoding step, and choose the count of the next one."""
        if self._trial is None:
            self._watch(rows, seconds)
            return
        ratio = self._pace.ratio(rows, seconds)
        faster = self._trial.judge(rows, seconds, ratio)
        if faster is not None:
            self._end(self._trial, faster)

    def _watch(self, rows: int, seconds: float) -> None:
        if self._pace.add(rows, seconds):
            self._held_up += 1
        else:
            self._held_up, self._doubt = 0, _ROW
        self._since += 1
        if self._held_up >= _ROW and self._since > self._doubt and self.count > 1:
            self._try(self._fewer)
        elif self.count < self._most:
            if self._since >= self._patience:
                self._try(self._most if self._leap else self.count + 1)
        elif self._since >= self._calm and self.count > 1:
            self._calm = min(2 * self._calm, _RARELY)
            self._try(self._fewer)

    @property
    def _fewer(self) -> int:
        """One less or, where that was in vain, half: several cores may be taken."""
        return self.count // 2 if self._leap else self.count - 1

    def _try(self, count: int) -> None:
        self._trial = _Trial(self.count)
        self.count = count

    def _end(self, trial: _Trial, faster: bool) -> None:
        self._trial, self._held_up, self._since = None, 0, 0
        if faster:
            self._pace, self._patience, self._leap = trial.pace, _SOON, False
        else:
            self._doubt = min(2 * self._doubt, _LATEST)
            self._leap = not self._leap
            self.count = trial.before
            self._patience = min(2 * self._patience, _LATEST)


class _Trial:
    """Some steps of another count of threads."""

    def __init__(self, before: int) -> None:
        self.before = before
        self.pace = Pace()
        self._ratios: list[float] = []
        self._steps = 0

    def judge(self, rows: int, seconds: float, ratio: float | None) -> bool | None:
        """Whether this count is faster; None while that is open."""
        self.pace.add(rows, seconds)
        self._steps += 1
        if ratio is not None:
            if self._steps == 1 and ratio < _HOPELESS:
                return None  # the threads of a new count have to be started
            self._ratios.append(ratio)
        if ratio is not None and ratio > _HOPELESS:
            return False
        if len(self._ratios) >= 2 and min(self._ratios) > _WORSE:
            return False
        if len(self._ratios) == _LOOKS:
            return sorted(self._ratios)[_LOOKS // 2] < _BETTER
        return False if self._steps > 4 * _LOOKS else None
