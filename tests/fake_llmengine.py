"""The command line on a FakeHost, as a process of its own: for pipes, signals and terminals.

FAKE_ANSWER, FAKE_STEP (bytes) and FAKE_DELAY (seconds) say what it answers and how.
"""

from __future__ import annotations

import os
import sys

from fakes import FakeHost

from llmengine.cli import local, main

if __name__ == "__main__":
    host = FakeHost(
        os.environ.get("FAKE_ANSWER", "Hello, world!"),
        step=int(os.environ.get("FAKE_STEP", "4")),
        delay=float(os.environ.get("FAKE_DELAY", "0")),
    )
    local.open_engine = lambda config: host
    local.open_host = lambda config, loading: host
    code = main.run()
    print(f"cancelled={len(host.cancelled)}", file=sys.stderr)
    sys.exit(code)
