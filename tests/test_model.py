"""What a model says of itself."""

from __future__ import annotations

import re

import pytest
import real

from llmengine.llama.model import Model, rounded


def test_numbers_of_parameters_are_rounded() -> None:
    assert [rounded(count) for count in (3_187_968, 494_032_768, 7_241_732_096)] == [
        "3.2M",
        "494.0M",
        "7.2B",
    ]


@pytest.mark.model
def test_the_description_names_the_size() -> None:
    model = Model(real.MODEL, real.config())
    try:
        assert re.fullmatch(r"\w+ \d\.\dM \w+", model.description)
    finally:
        model.close()
