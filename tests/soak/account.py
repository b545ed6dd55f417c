"""What became of every request, and what the server needed meanwhile."""

from __future__ import annotations

import statistics
import threading
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np

MAX_MB_PER_1000 = 0.5
MAX_GROWTH_MB = 20
"""A slope is measured over the second half; one that makes less than this is the allocator's noise."""
MAX_MORE = 5
"""Descriptors and threads that the last sixth may have more than the third before it: connections come and go."""
MIN_JUDGED = 100
"""Answers in a quarter of the run from which on their median says something."""
CANCELLED = "cancelled"


class Outcome(NamedTuple):
    """status: an HTTP status, a gRPC code, or `cancelled` by the client.  wrong: why it should not be so."""

    status: str
    wrong: str = ""


class Sample(NamedTuple):
    n_requests: int
    resident_mb: float
    descriptors: int
    threads: int


class Account:
    def __init__(self, max_requests: int) -> None:
        self._lock = threading.Lock()
        self._left = max_requests
        self.sent: Counter[str] = Counter()
        self.closed: Counter[tuple[str, str]] = Counter()
        self.lost: list[str] = []
        self.latency_s: dict[str, list[tuple[float, float]]] = defaultdict(list)

    @property
    def n_sent(self) -> int:
        return sum(self.sent.values())

    def take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def send(self, kind: str) -> None:
        with self._lock:
            self.sent[kind] += 1

    def close(self, kind: str, outcome: Outcome, started: float, seconds: float) -> None:
        with self._lock:
            self.closed[kind, outcome.status] += 1
            self.latency_s[kind].append((started, seconds))
            if outcome.wrong:
                self.lost.append(f"{kind}: {outcome.status} {outcome.wrong[:200]}")

    def lose(self, kind: str, reason: str) -> None:
        with self._lock:
            self.lost.append(f"{kind}: {reason[:200]}")


def judge(account: Account, samples: list[Sample], seconds: float) -> tuple[dict, list[str]]:
    """The figures of a run, and what is wrong with them."""
    wrong = account.lost[:10]
    statuses: dict[str, dict[str, int]] = defaultdict(dict)
    for (kind, status), count in sorted(account.closed.items()):
        statuses[kind][status] = count
    n_closed = sum(account.closed.values())
    cancelled = sum(count for (_, status), count in account.closed.items() if status == CANCELLED)
    if account.n_sent != n_closed:
        wrong.append(f"{account.n_sent} sent, {n_closed} answered or cancelled")
    memory, more = _memory(samples)
    counts, grown = _counts(samples)
    latency, drifted = _latency(account.latency_s)
    requests = {"sent": account.n_sent, "answered": n_closed - cancelled, "cancelled_by_client": cancelled}
    summary = {
        "seconds": seconds,
        "requests": {**requests, "lost_or_wrong": len(account.lost)},
        "memory_mb": memory,
        **counts,
        "latency_p50_ms": latency,
        "outcomes": dict(statuses),
    }
    return summary, wrong + more + grown + drifted


def _memory(samples: list[Sample]) -> tuple[dict, list[str]]:
    half = samples[len(samples) // 2 :]
    n_requests, resident = np.array([(item.n_requests, item.resident_mb) for item in half]).T
    slope = float(np.polyfit(n_requests, resident, 1)[0]) * 1000
    grown = slope * (n_requests[-1] - n_requests[0]) / 1000
    figures = {
        "start": round(samples[0].resident_mb),
        "half": round(resident[0]),
        "end": round(resident[-1]),
        "slope_per_1000_requests": round(slope, 3),
    }
    if slope > MAX_MB_PER_1000 and grown > MAX_GROWTH_MB:
        return figures, [f"memory grows by {slope:.2f} MB for 1000 requests"]
    return figures, []


def _counts(samples: list[Sample]) -> tuple[dict, list[str]]:
    figures, wrong = {}, []
    for name in ("descriptors", "threads"):
        values = [getattr(item, name) for item in samples[len(samples) // 2 :]]
        thirds = np.array_split(values, 3)
        before, after = (float(np.median(part)) for part in (thirds[0], thirds[-1]))
        figures[name] = {"half": before, "end": after, "most": max(values)}
        if after > before + MAX_MORE:
            wrong.append(f"{name} grow from {before:.0f} to {after:.0f}")
    return figures, wrong


def _latency(latency_s: dict[str, list[tuple[float, float]]]) -> tuple[dict, list[str]]:
    figures, wrong = {}, []
    for kind, measured in sorted(latency_s.items()):
        times = [seconds * 1000 for _, seconds in sorted(measured)]
        quarter = len(times) // 4
        if quarter < 10:
            continue
        before, after = (statistics.median(part) for part in (times[quarter : 2 * quarter], times[-quarter:]))
        figures[kind] = {"second_quarter": round(before, 1), "last_quarter": round(after, 1)}
        if quarter >= MIN_JUDGED and after > 2 * before + 20:
            wrong.append(f"the latency of {kind} drifts from {before:.1f} to {after:.1f} ms")
    return figures, wrong
