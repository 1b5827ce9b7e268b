"""Policies against plain models of themselves."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmengine.cache.policy import FIFO, LFU, LRU, POLICIES


@dataclass(eq=False)
class Page:
    name: int
    uses: int = 0
    created: int = 0
    last_used: int = 0
    score: int = 0


class Model:
    """All pages in a list, sorted whenever somebody asks."""

    def __init__(self, policy: str) -> None:
        self.pages: list[Page] = []
        self.floor = 0
        self._policy = policy

    def key(self, page: Page) -> tuple[int, ...]:
        keys = {
            "lru": (page.last_used,),
            "lfu": (page.score, page.last_used),
            "fifo": (page.created,),
        }
        return keys[self._policy]

    def order(self) -> list[Page]:
        return sorted(self.pages, key=self.key)


# Of ten pages: use one, remove one, or evict the first.
STEPS = st.lists(
    st.tuples(st.sampled_from(["use", "use", "use", "remove", "evict"]), st.integers(0, 9)),
    max_size=80,
)


@pytest.mark.parametrize("name", ["lru", "lfu", "fifo"])
@given(steps=STEPS)
def test_victims_come_in_the_order_of_the_model(name: str, steps: list[tuple[str, int]]) -> None:
    policy, model = POLICIES[name](), Model(name)
    pages: dict[int, Page] = {}
    for clock, (step, number) in enumerate(steps, 1):
        if step == "use":
            page = pages.setdefault(number, Page(number, created=clock))
            page.uses, page.last_used = page.uses + 1, clock
            page.score = model.floor + page.uses
            if page not in model.pages:
                model.pages.append(page)
            policy.used(page)
        elif step == "remove" and number in pages:
            page = pages.pop(number)
            model.pages.remove(page)
            policy.removed(page)
        elif step == "evict" and model.pages:
            page = next(policy.victims())
            assert page is model.order()[0]
            model.floor = max(model.floor, page.score)
            model.pages.remove(page)
            policy.removed(pages.pop(page.name), evicted=True)
        assert list(policy.victims()) == model.order()


def test_the_favourite_of_yesterday_leaves() -> None:
    policy: LFU[Page] = LFU()
    favourite = Page(0)
    for _ in range(20):
        favourite.uses += 1
        policy.used(favourite)
    for name in range(1, 100):  # each is used once, and there is room for three
        policy.used(Page(name, uses=1))
        if len(list(policy.victims())) > 3:
            policy.removed(next(policy.victims()), evicted=True)
    assert favourite not in policy.victims()


def test_only_evictions_age() -> None:
    policy: LFU[Page] = LFU()
    old = Page(0, uses=5)
    policy.used(old)
    policy.removed(old)
    one, two = Page(1, uses=2), Page(2, uses=1)
    policy.used(one)
    policy.used(two)
    assert list(policy.victims()) == [two, one]


@pytest.mark.parametrize("kind", [LRU, LFU, FIFO])
def test_forgetting_what_is_unknown_does_nothing(kind: type[LRU[Page]]) -> None:
    policy = kind()
    policy.removed(Page(0), evicted=True)
    policy.used(page := Page(1, uses=1))
    assert list(policy.victims()) == [page]


@pytest.mark.parametrize("name", ["lru", "lfu", "fifo"])
def test_a_use_costs_the_same_whatever_is_kept(name: str) -> None:
    policy = POLICIES[name]()
    pages = [Page(number) for number in range(10_000)]
    started = time.thread_time()
    for _ in range(2):
        for page in pages:
            page.uses += 1
            policy.used(page)
    assert time.thread_time() - started < 1  # 50 us a use; a sort would take 20 s
