"""What it takes until `llmengine` says something, and where the time goes.

python -m benchmarks.startup [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

PHASES = """
import json, sys, time
marks = [("python", time.perf_counter())]
def mark(name): marks.append((name, time.perf_counter()))
import llmengine.cli.main, llmengine.cli.run; mark("import of the command line")
from llmengine import settings; config = settings.load().config; mark("settings")
import numpy; mark("import of numpy")
import llama_cpp; mark("import of llama_cpp")
from llmengine.engine.engine import Engine; mark("import of the engine")
engine = Engine(config); mark("model and context")
from llmengine.cli.client import Client; from llmengine.sampling import SamplingParams
client = Client(engine); mark("chat template")
answer = client.chat([{"role": "user", "content": "hi"}], params=SamplingParams(), think=False)
deltas = iter(answer)
while not next(deltas): pass
mark("prefill and first token")
deltas.close(); engine.close()
print(json.dumps([[name, at - before] for (_, before), (name, at) in zip(marks, marks[1:])]))
"""


def first_byte(command: list[str], stdin: str) -> float:
    """Seconds until a command writes to stdout."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(stdin.encode())
        process.stdin.close()
        process.stdout.read(1)
        seconds = time.perf_counter() - started
        process.stdout.read()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    llmengine = [sys.executable, "-m", "llmengine"]
    for name, command in (("--help", ["--help"]), ("run, to the first token", ["run"])):
        times = [first_byte([*llmengine, *command], "hi\n") for _ in range(rounds)]
        print(f"{name}: {statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f})")
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", PHASES], capture_output=True, text=True, check=True
        )
        for phase, seconds in json.loads(done.stdout):
            found.setdefault(phase, []).append(seconds)
    for phase, times in found.items():
        print(f"  {phase}: {statistics.median(times):.3f} s")


if __name__ == "__main__":
    main()
