"""What many records come to; the names are those of `vllm bench serve`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from llmengine.bench.record import Record
from llmengine.errors import InvalidRequest

_OBJECTIVE = re.compile(r"(ttft|tpot|e2el):(\d+(?:\.\d+)?)")


class Goodput(Struct, frozen=True):
    """What a request has to keep to, in ms, to count as good."""

    objectives: dict[str, float] = {}

    def met(self, record: Record) -> bool:
        found = {"ttft": record.ttft, "tpot": record.tpot or 0.0, "e2el": record.e2el}
        return all(found[name] * 1000 <= most for name, most in self.objectives.items())


def goodput(texts: Sequence[str]) -> Goodput:
    """Of `ttft:500 tpot:50`; raises InvalidRequest."""
    objectives: dict[str, float] = {}
    for text in (part for each in texts for part in re.split(r"[\s,]+", each.strip()) if part):
        match = _OBJECTIVE.fullmatch(text)
        if not match:
            raise InvalidRequest(
                f"--goodput {text!r} is no objective: ttft:MS, tpot:MS or e2el:MS is one"
            )
        objectives[match[1]] = float(match[2])
    return Goodput(objectives)


def figures(records: Sequence[Record], duration: float, wanted: Goodput) -> dict[str, float]:
    """By name; latencies in ms, and none of what nothing was completed of."""
    done = [record for record in records if record.completed]
    prompt = sum(record.prompt_tokens for record in done)
    output = sum(record.output_tokens for record in done)
    cached = sum(record.cached_tokens for record in done)
    found = {
        "duration": duration,
        "completed": len(done),
        "failed": sum(1 for record in records if record.error and not record.refused),
        "refused": sum(record.refused for record in records),
        "total_input_tokens": prompt,
        "total_output_tokens": output,
        "total_cached_tokens": cached,
        "request_throughput": len(done) / duration,
        "output_throughput": output / duration,
        "total_token_throughput": (prompt + output) / duration,
    }
    if wanted.objectives:
        found["request_goodput"] = sum(map(wanted.met, done)) / duration
    tpot = [record.tpot for record in done]
    return (
        found
        | _latency("ttft", [record.ttft for record in done])
        | _latency("tpot", [each for each in tpot if each is not None])
        | _latency("itl", [gap for record in done for gap in record.itl])
        | _latency("e2el", [record.e2el for record in done])
    )


def _latency(name: str, seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    times = np.array(seconds) * 1000
    return {
        f"mean_{name}_ms": float(times.mean()),
        f"median_{name}_ms": float(np.median(times)),
        f"p90_{name}_ms": float(np.percentile(times, 90)),
        f"p99_{name}_ms": float(np.percentile(times, 99)),
        f"max_{name}_ms": float(times.max()),
    }


def errors(records: Sequence[Record]) -> dict[str, int]:
    """Each kind of error, and how often it came."""
    return dict(Counter(record.error for record in records if record.error).most_common())
