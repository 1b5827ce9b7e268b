"""Drafts for the sequences of a step, while they are expected to pay."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from llmengine.engine.costs import Costs
from llmengine.engine.draft_model import DraftModel
from llmengine.engine.drafter import Drafter
from llmengine.engine.fast_forward import FastForward
from llmengine.engine.forecast import Forecast
from llmengine.engine.guesser import Guesser
from llmengine.engine.planner import Offer, Plan, Planner, offers
from llmengine.engine.sequence import Sequence
from llmengine.engine.work import Work


class Guess(Struct):
    """The best guesser of a sequence, and its odds."""

    guesser: Guesser
    odds: list[float]

    @property
    def tokens(self) -> float:
        """That are right of it on average."""
        return sum(self.odds)


class Speculator:
    """Adds rows to a step that guess what comes; the sampler keeps those that it would have chosen.

    Text that repeats itself costs nothing to guess from. A draft model is asked where it is right
    more often, as far as it is expected to bring more than the time that it takes.
    """

    def __init__(
        self, costs: Costs, longest: int, max_itl: float, model: DraftModel | None = None
    ) -> None:
        """A draft has at most `longest` tokens; others wait `max_itl` seconds for it at most."""
        self._planner = Planner(costs, max_itl, model)
        self._longest = longest
        self._model = model
        self.seconds = 0.0  # that the draft model took before the last step

    def draft(self, step: list[Work], room: int) -> None:
        """Draft for a step of decoding sequences, `room` rows at most."""
        self.seconds = 0.0
        guesses, plan = self._look(step, room)
        if self._model and self._model.ready() and self._planner.has_time(len(step)):
            started = time.perf_counter()
            if self._ask(self._model, step, guesses, plan, room):
                guesses, plan = self._look(step, room)
                self.seconds = time.perf_counter() - started
        for index, tokens in Counter(each.index for each in plan.offers).items():
            step[index].draft = guesses[index].guesser.draft(tokens)

    def reset(self) -> None:
        """Forget what the draft model has read, as when the books may be wrong."""
        if self._model:
            self._model.reset()

    def _look(self, step: list[Work], room: int) -> tuple[list[Guess], Plan]:
        """What is known already, and the best of it."""
        guesses = [self._guess(work.sequence) for work in step]
        found = [offer for index, each in enumerate(guesses) for offer in offers(index, each.odds)]
        return guesses, self._planner.plan(len(step), found, room)

    def _guess(self, sequence: Sequence) -> Guess:
        drafter = sequence.drafter or self._begin(sequence)
        drafter.follow()
        most = self._most(sequence)
        found = Guess(drafter, drafter.odds(most))
        if sequence.fast_forward or self._model:
            others = [Guess(each, each.odds(most)) for each in self._others(sequence)]
            found = max([found, *others], key=lambda guess: guess.tokens)
        return found

    @staticmethod
    def _begin(sequence: Sequence) -> Drafter:
        sequence.drafter = Drafter(sequence)
        if matcher := sequence.sampler.matcher:
            sequence.fast_forward = FastForward(sequence, matcher)
        return sequence.drafter

    def _others(self, sequence: Sequence) -> Iterator[Guesser]:
        """Those that may guess for it beside its drafter, up to date."""
        forecast = self._forecast(self._model, sequence) if self._model else None
        for each in (sequence.fast_forward, forecast):
            if each:
                each.follow()
                yield each

    def _most(self, sequence: Sequence) -> int:
        return min(self._longest, sequence.space - 1)

    # The draft model

    @staticmethod
    def _forecast(model: DraftModel, sequence: Sequence) -> Forecast | None:
        """None where a draft model cannot read the prompt, as one with images."""
        if sequence.forecast is None and not sequence.media:
            sequence.forecast = model.forecast(sequence)
        return sequence.forecast

    def _ask(
        self, model: DraftModel, step: list[Work], guesses: list[Guess], plan: Plan, room: int
    ) -> bool:
        """Have the draft model write where that is expected to bring more; whether it did."""
        found: list[Offer] = []
        forecasts: dict[int, Forecast] = {}
        for index, (work, guess) in enumerate(zip(step, guesses, strict=True)):
            forecast = work.sequence.forecast
            hopes = forecast.hopes(self._most(work.sequence)) if forecast else []
            if forecast and sum(hopes) > guess.tokens:
                forecasts[index] = forecast
                found += offers(index, hopes, forecast.lag)
            else:
                found += offers(index, guess.odds)
        bolder = self._planner.plan(len(step), found, room)
        depths = bolder.depths if bolder.worth > plan.worth else {}
        for index in forecasts.keys() - depths.keys():
            forecasts[index].accuracy.forgive()
        if depths:
            model.draft({forecasts[index]: depth for index, depth in depths.items()})
        elif forecasts:
            model.forgive()
        return bool(depths)
