"""What of the deployment files can be checked without systemd and Docker."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

from llmengine.config import Config, ServerConfig
from llmengine.errors import ConfigError
from llmengine.options import options
from llmengine.server.security import Guard


@pytest.mark.parametrize("file", ["Dockerfile", "llmengine.service"])
def test_the_settings_are_options(file: str, root: Path) -> None:
    text = (root / "deploy" / file).read_text(encoding="utf-8")
    names = set(re.findall(r"\bLLM_ENGINE_\w+", text))
    known = {name for option in options().values() for name in (option.env, option.alias)}
    assert names
    assert names <= known


@pytest.fixture
def unit(root: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(root / "deploy" / "llmengine.service", encoding="utf-8")
    return found


def test_the_unit_waits_for_the_model_and_for_the_drain(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["TimeoutStopSec"] == "2min"
    assert ServerConfig().drain_seconds < 120
    assert service["RestartPreventExitStatus"] == "2 3"


def test_new_settings_can_be_taken_over(unit: configparser.ConfigParser) -> None:
    assert unit["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_a_container_without_a_key_says_what_to_do(root: Path) -> None:
    text = (root / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    (host,) = re.findall(r"\bLLM_ENGINE_HOST=(\S+)", text)
    with pytest.raises(ConfigError, match="set LLM_ENGINE_API_KEY, or allow it with --insecure"):
        Guard(Config()).check_exposure(host)


def test_the_unit_lets_the_engine_have_its_sockets(unit: configparser.ConfigParser) -> None:
    assert "AF_UNIX" in unit["Service"]["RestrictAddressFamilies"].split()
