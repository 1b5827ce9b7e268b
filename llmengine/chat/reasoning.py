"""How templates mark a model's thinking."""

from __future__ import annotations

from msgspec import Struct


class Tags(Struct, frozen=True):
    open: str
    close: str

    def opened_by(self, prompt: str) -> bool:
        """Whether the prompt has opened the thinking that the model goes on with."""
        return prompt.rstrip().endswith(self.open)


THINK = Tags("<think>", "</think>")

# The first whose close stands in the template, or in what it renders, is the model's.
STYLES = (
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),
    Tags("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    Tags("<|channel>thought", "<channel|>"),
    Tags("[THINK]", "[/THINK]"),
    Tags("<seed:think>", "</seed:think>"),
    Tags("<mm:think>", "</mm:think>"),
    Tags("<think:opensource>", "</think:opensource>"),
    Tags("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    Tags("<|think|>", "<|end|>"),
    Tags("<|inner_prefix|>", "<|inner_suffix|>"),
    THINK,
)


def tags_of(template: str) -> Tags:
    """The tags of a template; `<think>`, the most common ones, where it names none."""
    return next(
        (each for each in STYLES if each.open in template and each.close in template), THINK
    )
