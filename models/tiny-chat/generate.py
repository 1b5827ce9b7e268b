"""Mixes the skills into conversations; `python generate.py` prints a few of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from conversation import Conversation, Renderer
from fillers import Fillers
from phrasing import system_prompt
from skills import (
    arithmetic,
    copying,
    engine_facts,
    finding,
    json_objects,
    memory,
    ordering,
    refusals,
    smalltalk,
    stories,
    thinking,
    tools,
)

Sampler = Callable[[Random, Fillers], Conversation]


def _ordering(rng: Random, fillers: Fillers) -> Conversation:
    return (ordering.words if rng.random() < 0.65 else ordering.numbers)(rng, fillers)


def _find(rng: Random, fillers: Fillers) -> Conversation:
    return (finding.short if rng.random() < 0.7 else finding.medium)(rng, fillers)


@dataclass(frozen=True)
class Skill:
    """`weight` is its share of the training samples, `held_out` its prompts in the test."""

    sample: Sampler
    weight: float
    held_out: int


SKILLS: dict[str, Skill] = {
    "small talk": Skill(smalltalk.sample, 8, 20),
    "llmengine facts": Skill(engine_facts.sample, 9, 20),
    "counting": Skill(arithmetic.counting, 3, 15),
    "sums": Skill(arithmetic.sums, 24, 30),
    "ordering": Skill(_ordering, 10, 20),
    "repeat": Skill(copying.repeat, 16, 30),
    "first or last line": Skill(copying.line, 3, 10),
    "find": Skill(_find, 6, 20),
    "find, long prompt": Skill(finding.long, 0.9, 15),
    "memory": Skill(memory.sample, 6, 20),
    "stories": Skill(stories.sample, 2.5, 15),
    "json": Skill(json_objects.sample, 8, 20),
    "thinking": Skill(thinking.sample, 6, 20),
    "tool call": Skill(tools.call, 6, 20),
    "tool answer": Skill(tools.answer, 2, 10),
    "tools, none fits": Skill(tools.without, 2, 5),
    "does not know": Skill(refusals.sample, 4, 10),
}
# Each stage multiplies the weights: first much copying and nothing long, then everything, at
# last more of what is learned slowly.
STAGES: dict[str, dict[str, float]] = {
    "easy": {"repeat": 2.5, "first or last line": 2, "find, long prompt": 0},
    "even": {},
    "hard": {"counting": 2.5, "sums": 1.2, "ordering": 2, "repeat": 0.6, "first or last line": 2,
             "find, long prompt": 1.6, "json": 0.5, "thinking": 2.2, "tool call": 1.6,
             "tools, none fits": 1.5, "stories": 0.8},
}
# Skills whose text would contradict itself if it came twice in one conversation.
ONCE = {"find", "find, long prompt", "memory"}


def _joined(rng: Random, fillers: Fillers, names: list[str], weights: list[float]) -> Conversation:
    """One sample, or several plain ones in a row."""
    name = rng.choices(names, weights)[0]
    conversation = SKILLS[name].sample(rng, fillers)
    if not conversation.plain or name == "find, long prompt":
        return conversation
    seen = {name}
    for _ in range(rng.choice((0, 1, 2, 3, 4, 5, 6))):
        name = rng.choices(names, weights)[0]
        if name in ONCE and seen & ONCE:
            continue
        other = SKILLS[name].sample(rng, fillers)
        if other.plain and name != "find, long prompt":
            seen.add(name)
            conversation.messages += other.messages
    return conversation


def training(seed: int, count: int, stage: str = "even") -> Iterator[Conversation]:
    """Training conversations of one stage."""
    rng, fillers = Random(seed), Fillers(held_out=False)
    names = list(SKILLS)
    weights = [SKILLS[name].weight * STAGES[stage].get(name, 1) for name in names]
    for _ in range(count):
        conversation = _joined(rng, fillers, names, weights)
        if conversation.messages[0]["role"] != "system" and rng.random() < 0.25:
            conversation.messages.insert(0, system_prompt(rng))
        yield conversation


def held_out(seed: int = 7) -> list[tuple[str, Conversation]]:
    """The test: (skill, conversation), whose fillers and phrases training never saw."""
    rng, fillers = Random(seed), Fillers(held_out=True)
    result = []
    for name, skill in SKILLS.items():
        for _ in range(skill.held_out):
            conversation = skill.sample(rng, fillers)
            if conversation.messages[0]["role"] != "system":
                if rng.random() < 0.3 and name != "memory":
                    earlier = rng.choice((smalltalk.sample, arithmetic.sums, copying.repeat))
                    conversation.messages[:0] = earlier(rng, fillers).messages
                if rng.random() < 0.25:
                    conversation.messages.insert(0, system_prompt(rng))
            result.append((name, conversation))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10)
    arguments = parser.parse_args()
    renderer = Renderer()
    for conversation in training(arguments.seed, arguments.count):
        print(renderer.full(conversation))
        print("-" * 60)


if __name__ == "__main__":
    main()
