"""How much the holder of each key may ask at a time, and what it is told of that."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

from sanic import Request

from llmengine.config import Config
from llmengine.errors import InvalidRequest, RateLimited
from llmengine.keys import ANONYMOUS, Key
from llmengine.server.keyring import Keyring

MINUTE = 60.0  # seconds
WEIGHT = 0.2  # of the latest request in the mean of their durations


class Bucket:
    """What may be spent in a minute. It fills again steadily; what is spent beyond is owed."""

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self._held = float(limit)
        self._at = now

    def held(self, now: float) -> float:
        self._held = min(self.limit, self._held + (now - self._at) * self.limit / MINUTE)
        self._at = now
        return self._held

    def spend(self, amount: float, now: float) -> None:
        self._held = self.held(now) - amount

    def until(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be spent."""
        return max(0.0, (amount - self.held(now)) * MINUTE / self.limit)


class Account:
    """What one key has under way, and what is left to it."""

    def __init__(self, key: Key, now: float) -> None:
        self.key = key
        self.running = 0  # answers that are being made
        self.requests = _bucket(key.requests_per_minute, now)
        self.tokens = _bucket(key.tokens_per_minute, now)
        self._seconds = 1.0  # that an answer takes

    def ended(self, count: int, seconds: float) -> None:
        self.running -= count
        self._seconds += WEIGHT * (seconds - self._seconds)

    @property
    def turnover(self) -> float:
        """Seconds in which one of those under way is likely to end."""
        return self._seconds / max(1, self.running)


class Limits:
    """Used by the event loop alone. A refusal is a RateLimited that says when to come again.

    What could never be let in is an InvalidRequest: to come again would be in vain.
    """

    def __init__(
        self, config: Config, keyring: Keyring, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._places = config.capacity
        self._keyring = keyring
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._running = 0

    def _account(self, key: Key) -> Account:
        found = self._accounts.get(key.id)
        if found is None or found.key.limits != key.limits:  # others since a reload
            made = self._accounts[key.id] = Account(key, self._clock())
            made.running = found.running if found else 0
            return made
        return found

    def request(self, key: Key) -> None:
        """Count a request."""
        bucket, now = self._account(key).requests, self._clock()
        if bucket is None:
            return
        if wait := bucket.until(1, now):
            raise RateLimited(
                f"the API key may ask {bucket.limit} times a minute: "
                f"there is room in {_seconds(wait)}",
                retry_after=wait,
            )
        bucket.spend(1, now)

    @contextlib.contextmanager
    def running(self, key: Key, count: int, tokens: int) -> Iterator[None]:
        """While `count` answers are made to prompts of so many tokens in all."""
        account = self._account(key)
        self._check_possible(key, count)
        self._check_tokens(account)
        self._check_running(account, count)
        self.spend(key, tokens)
        started = self._clock()
        account.running += count
        self._running += count
        try:
            yield
        finally:
            self._running -= count
            # Not the one from before: its limits may have changed meanwhile.
            self._account(key).ended(count, self._clock() - started)

    def spend(self, key: Key, tokens: int) -> None:
        """Count tokens, those of an answer when they are there."""
        if (bucket := self._account(key).tokens) is not None:
            bucket.spend(tokens, self._clock())

    def _check_possible(self, key: Key, count: int) -> None:
        most = min(key.max_concurrent or self._places, self._places)
        if count > most:
            raise InvalidRequest(
                f"the request asks for {count} answers, and {most} may be under way at a time: "
                "ask for them in parts",
                param="n",
            )

    def _check_tokens(self, account: Account) -> None:
        bucket, now = account.tokens, self._clock()
        if bucket is not None and bucket.held(now) <= 0:
            wait = bucket.until(1, now)
            raise RateLimited(
                f"the API key may use {bucket.limit} tokens a minute: "
                f"there is room in {_seconds(wait)}",
                retry_after=wait,
            )

    def _check_running(self, account: Account, count: int) -> None:
        most, reason = account.key.max_concurrent, "the API key may have {} under way at a time"
        if self._keyring.shared and account.running:
            # As many as are left to others: no burst fills the queue.
            share = max(1, (account.running + self._places - self._running) // 2)
            if not most or share < most:
                most, reason = share, "other API keys need their share: this one may have {}"
        if most and account.running + count > most:
            raise RateLimited(
                f"{reason.format(most)}, and has {account.running}",
                retry_after=account.turnover,
            )

    def headers(self, key: Key) -> Mapping[str, str]:
        """As OpenAI words them."""
        if key is ANONYMOUS:
            return {}
        account, now, found = self._account(key), self._clock(), {}
        for name, bucket in (("requests", account.requests), ("tokens", account.tokens)):
            if bucket is not None:
                found[f"x-ratelimit-limit-{name}"] = str(bucket.limit)
                found[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.held(now))))
                found[f"x-ratelimit-reset-{name}"] = duration(bucket.until(bucket.limit, now))
        return found


def limits_of(request: Request) -> Limits:
    limits: Limits = request.app.ctx.limits
    return limits


def duration(seconds: float) -> str:
    """`20ms`, `1.5s` or `1m20s`"""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:.0f}s" if minutes else f"{rest:.1f}s"


def _bucket(limit: int, now: float) -> Bucket | None:
    return Bucket(limit, now) if limit else None


def _seconds(count: float) -> str:
    return f"{max(1, round(count))} s"
