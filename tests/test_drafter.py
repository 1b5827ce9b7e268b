"""What a draft is made of: earlier places of the text, their odds, and what rows cost."""

from __future__ import annotations

from array import array

import pytest
from engine_fakes import GreedySampler

from llmengine.core import Request
from llmengine.engine.costs import Costs
from llmengine.engine.drafter import Drafter
from llmengine.engine.lookup import Lookup
from llmengine.engine.sequence import Sequence
from llmengine.engine.speculate import Speculator
from llmengine.engine.work import Work
from llmengine.sampling import SamplingParams


def sequence(prompt: list[int], prediction: tuple[int, ...] = (), room: int = 1000) -> Sequence:
    request = Request(id="a", prompt=tuple(prompt), params=SamplingParams(), prediction=prediction)
    return Sequence(request, print, GreedySampler(), room)  # type: ignore[arg-type]


def test_the_longest_of_the_newest_tokens_that_stood_before_is_found() -> None:
    lookup = Lookup(array("i", [1, 2, 3, 4, 5, 9, 3, 4, 6, 4, 5, 8]))
    for token, found in [
        (7, (0, 0)),
        (4, (0, 0)),
        (5, (11, 2)),  # 4 5 stood last before 8
        (9, (6, 3)),  # 4 5 9
        (3, (7, 4)),
        (4, (8, 4)),
    ]:
        lookup.append(token)
        assert lookup.find() == found


def test_what_is_appended_is_indexed_as_what_was_there() -> None:
    tokens = array("i", [each * each % 7 for each in range(60)])
    grown = Lookup(tokens[:10])
    for token in tokens[10:]:
        grown.append(token)
    whole = Lookup(tokens[:])
    assert grown.tokens == whole.tokens
    assert grown._places == whole._places


def test_the_first_occurrence_is_found_by_whole_tokens() -> None:
    # In bytes 0 256 begins in the middle of 65536 1, too.
    lookup = Lookup(array("i", [9, 65536, 1, 0, 256, 7, 0, 256, 8]))
    assert lookup.first(8, 2) == 5
    assert lookup.first(5, 2) == 5


def test_a_draft_goes_round_where_the_text_ends() -> None:
    owner = sequence([1, 2, 3, 1, 2, 3, 1, 2])
    drafter = Drafter(owner)
    assert drafter.draft(7).tolist() == [3, 1, 2, 3, 1, 2, 3]
    owner.tokens.append(3)
    drafter.follow()
    assert drafter.draft(4).tolist() == [1, 2, 3, 1]


def test_a_passage_that_goes_on_has_better_and_better_odds() -> None:
    owner = sequence([*list(range(100)), 0, 1])
    drafter = Drafter(owner)
    first = drafter.odds(4)
    assert first == [0.3]  # a second one is too unlikely
    for token in range(2, 40):
        owner.tokens.append(token)
    drafter.follow()
    later = drafter.odds(15)
    assert len(later) == 15
    assert later[-1] > 0.5
    owner.tokens.append(99)  # there the passage is left, and nothing stood behind a 39 99
    drafter.follow()
    assert drafter.odds(15) == []


def test_little_is_expected_where_a_passage_went_on_in_two_ways() -> None:
    record = [6, 1, 2, 3, 4, 5]
    drafter = Drafter(sequence([*record, 70, *record, 80, 6, 1, 2, 3]))
    assert drafter.draft(3).tolist() == [4, 5, 80]
    assert drafter.odds(3) == pytest.approx([0.5, 0.25])  # then 70 or 80
    alike = Drafter(sequence([*record, 70, *record, 70, 6, 1, 2, 3]))
    assert alike.odds(3) == pytest.approx([0.5, 0.25, 0.125])


def test_it_is_not_fooled_for_long_by_pairs_that_mean_nothing() -> None:
    """Two tokens that always come together, and another one after them each time."""
    owner = sequence([1, 2])
    drafter = Drafter(owner)
    for token in range(10, 60):
        owner.tokens.extend([token, 1, 2])
    drafter.follow()
    assert drafter.odds(15) == []


def test_a_prediction_is_followed_again_after_another_word() -> None:
    owner = sequence([1, 2, 3], prediction=tuple(range(10, 40)))
    drafter = Drafter(owner)
    owner.tokens.extend([10, 11, 12, 99, 14, 15])
    drafter.follow()
    assert drafter.draft(3).tolist() == [16, 17, 18]
    assert drafter.hits == 3
    owner.tokens.extend(range(16, 40))
    assert drafter.hits == 27
    assert owner.usage.accepted_prediction_tokens == 0  # it has another drafter, or none
    owner.drafter = drafter
    assert owner.usage.accepted_prediction_tokens == 27
    assert owner.usage.rejected_prediction_tokens == 3


# What rows cost


def test_costs_are_learned_from_steps_of_their_size() -> None:
    costs = Costs()
    for _ in range(30):
        costs.observe(1, 0.030)
        costs.observe(8, 0.090)
    assert costs.relative(8) / costs.relative(1) == pytest.approx(3, rel=0.02)


def test_a_machine_that_slows_down_changes_no_relation() -> None:
    costs = Costs()
    for speed in [1.0] * 30 + [4.0] * 30 + [1.0] * 30:
        costs.observe(1, 0.030 * speed)
        costs.observe(8, 0.090 * speed)
    assert costs.relative(8) / costs.relative(1) == pytest.approx(3, rel=0.1)


def test_a_step_that_was_held_up_does_not_count_for_long() -> None:
    costs = Costs()
    for _ in range(30):
        costs.observe(1, 0.030)
        costs.observe(8, 0.090)
    costs.observe(8, 3.0)
    for _ in range(10):
        costs.observe(1, 0.030)
    assert costs.relative(8) / costs.relative(1) < 4


def drafted(costs: Costs, sequences: list[Sequence], room: int = 100) -> list[int]:
    """Tokens drafted for each in a step."""
    step = [Work(each, 1, True) for each in sequences]
    Speculator(costs, 15, max_itl=0.4).draft(step, room)
    return [len(work.draft) for work in step]


def repeating() -> Sequence:
    """One that is all but sure to go on."""
    found = sequence(list(range(60)))
    found.tokens.extend(range(40))
    return found


def test_drafts_fill_the_rows_up_to_a_multiple_of_four() -> None:
    costs = Costs()
    costs.relative = lambda rows: 1 + rows / 100  # type: ignore[method-assign]
    for count in (1, 2, 3, 5, 8):
        found = drafted(costs, [repeating() for _ in range(count)])
        assert (count + sum(found)) % 4 == 0
        assert min(found) > 0
    assert sum(drafted(costs, [repeating()], room=9)) == 7
    assert sum(drafted(costs, [repeating()], room=2)) == 0


def test_no_token_is_drafted_beyond_the_last() -> None:
    costs = Costs()
    costs.relative = lambda rows: 1.0  # type: ignore[method-assign]
    for left in range(1, 12):
        one = repeating()
        one.longest = len(one.tokens) + left
        [count] = drafted(costs, [one])
        assert count == (left // 4 * 4 - 1 if left >= 4 else 0)


def test_what_a_draft_costs_the_others_is_weighed() -> None:
    """A row costs a quarter of a step: alone it is worth it, among seven others it is not."""
    others = [sequence([each, 400 - each]) for each in range(7)]
    assert drafted(Costs(), [repeating()]) == [15]
    assert sum(drafted(Costs(), [repeating(), *others])) == 0


def test_others_do_not_wait_longer_than_they_may() -> None:
    costs = Costs()
    for _ in range(30):
        for rows in (1, 2, 4, 8, 12, 16):
            costs.observe(rows, 0.1 + rows * 0.03)
    assert drafted(costs, [repeating()]) == [15]  # 0.58 s, in which nobody else waits
    assert sum(drafted(costs, [repeating(), repeating()])) == 6  # 0.34 s


def test_a_size_that_was_refused_is_tried_again_after_a_while() -> None:
    costs = Costs()
    for _ in range(30):
        costs.observe(1, 0.01)
        for rows in (4, 8, 12, 16):
            costs.observe(rows, 0.3)
    steps = 0
    while not sum(drafted(costs, [repeating()])):
        steps += 1
    assert 100 < steps < 1000
