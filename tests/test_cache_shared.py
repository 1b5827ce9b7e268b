"""Two processes that write to and read from one folder at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from llmengine.cache.disk_tier import DiskTier
from tests.cache_fakes import right
from tests.cache_writer import MAX_BYTES, MAX_ENTRIES, open_tier
from tests.patience import PATIENCE

ROUNDS = 120

SHARER = """
import json, sys
from pathlib import Path
from tests.cache_writer import MAX_BYTES, MAX_ENTRIES, open_tier, prompts
from tests.cache_fakes import right

tier, made, seed = open_tier(Path(sys.argv[1])), prompts(), int(sys.argv[2])
counts = {"right": 0, "missed": 0, "wrong": 0}
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    tokens, state = made[(number * 7 + seed * 3) % len(made)]
    tier.put("s", tokens, state)
    if number % 10 == 0:
        tier.flush()
    wanted, _ = made[(number * 11 + seed) % len(made)]
    found = tier.find("s", wanted)
    read = tier.get(found.entry, found.length) if found else None
    kind = "missed" if read is None else "right" if right(found.entry.tokens, read) else "wrong"
    counts[kind] += 1
    stats = tier.stats()
    assert stats.bytes <= MAX_BYTES and stats.entries <= MAX_ENTRIES, stats
    tier.check()
tier.flush()
counts["corrupt"], counts["failures"] = tier.stats().corrupt, tier.stats().failures
tier.close()
print(json.dumps(counts))
"""


def test_two_processes_at_once(tmp_path: Path, root: Path) -> None:
    folder = tmp_path / "states"
    sharers = [
        subprocess.Popen(
            [sys.executable, "-c", SHARER, str(folder), str(seed), str(ROUNDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        for seed in (1, 2)
    ]
    for each in sharers:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in sharers:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in sharers:
        out, errors = each.communicate(timeout=PATIENCE)
        assert each.returncode == 0, errors
        counts = json.loads(out)
        assert counts["wrong"] == counts["corrupt"] == counts["failures"] == 0, errors
        assert counts["right"] + counts["missed"] == ROUNDS
        assert counts["right"] > 0
    left = open_tier(folder)
    _assert_whole(left)
    files = [path.stat().st_size for path in folder.glob("*/*.state")]
    assert len(files) == left.stats().entries <= MAX_ENTRIES
    assert sum(files) == left.stats().bytes <= MAX_BYTES
    left.close()


def _assert_whole(tier: DiskTier) -> None:
    assert tier.verify() == []
    for entry in tier.entries():
        state = tier.get(entry)
        assert state is not None
        assert right(entry.tokens, state)
