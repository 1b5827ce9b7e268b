"""The entry point of `llmengine` and `python -m llmengine`."""

from __future__ import annotations

import signal


def main() -> None:
    # A Ctrl-C while modules load ends the process at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from llmengine.cli.main import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
