"""What a model says of itself."""

from __future__ import annotations

import re

import pytest
import real

from llmengine.llama import advice
from llmengine.llama.model import Model, rounded


def test_numbers_of_parameters_are_rounded() -> None:
    assert [rounded(count) for count in (3_187_968, 494_032_768, 7_241_732_096)] == [
        "3.2M",
        "494.0M",
        "7.2B",
    ]


@pytest.mark.model
def test_the_description_names_the_size_and_the_advice_is_read() -> None:
    model = Model(real.MODEL, real.config())
    try:
        assert re.fullmatch(r"\w+ \d\.\dM \w+", model.description)
        assert model.sampling == {"temperature": 0.3}
    finally:
        model.close()


def test_what_a_file_advises_has_our_names() -> None:
    said = {"temp": "0.6", "top_k": "20", "penalty_repeat": "1.05", "unheard_of": "1"}
    metadata = {f"general.sampling.{key}": value for key, value in said.items()}
    found = advice.read(metadata.get, "m.gguf")
    assert found == {"temperature": 0.6, "top_k": 20, "repeat_penalty": 1.05}


@pytest.mark.parametrize("value", ["", "hot", "-1", "nan", "1e9"])
def test_impossible_advice_is_not_taken(value: str, caplog: pytest.LogCaptureFixture) -> None:
    assert advice.read({"general.sampling.temp": value}.get, "m.gguf") == {}
    assert caplog.text.count("m.gguf advises sampling that is not possible") == 1
