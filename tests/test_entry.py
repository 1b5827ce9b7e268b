"""The process itself: Ctrl-C while it is still loading."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from patience import PATIENCE

PROGRAM = "from llmengine.__main__ import main; print(flush=True); main()"


@pytest.mark.parametrize("delay", [0.03, 0.06, 0.1, 0.15, 0.2, 0.3])
def test_an_early_interrupt_leaves_no_traceback(delay: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "chat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode in (-signal.SIGINT, 130)
    assert errors == ""
