"""An engine without a server: its limit on sorted batches, the scheduler's own, a lone text's latency.  Prints JSON."""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

from bert_handler import Predictor
from bert_handler.engines.base import Batch, collate
from bert_handler.schema import Row
from bert_handler.tickets import Ticket

BUDGETS = (256, 512, 1024)
QUEUE = 32


def limit(archive: str, engine: str, texts: list[str], seconds: float) -> dict[str, float]:
    """Sequences a second, the best of all budgets and of one forward on all cores and one a core.

    The best is measured again: of several that vary, the highest is higher than any of them on average.
    """
    predictor = Predictor.load(archive, engine=engine, device="cpu")
    base = predictor.config.parameters
    encoded = predictor.task.encode([predictor.task.parse(text, base) for text in texts])
    rows = [row for item in encoded for row in item.rows]  # type: ignore[union-attr]
    ordered = sorted(rows, key=lambda row: row.length)
    cores = predictor.cpu.cores
    batches = [_batches(ordered, budget) for budget in BUDGETS]
    ways = [(index, *way) for index in range(len(BUDGETS)) for way in {(1, cores), (cores, 1)}]

    def rate(way: tuple[int, int, int], seconds: float) -> float:
        index, workers, threads = way
        return _rate(predictor, batches[index], len(rows), workers, threads, seconds)

    best = max(ways, key=lambda way: rate(way, seconds / len(ways)))
    measured, queued = rate(best, seconds), _queued(predictor, rows, seconds)
    latencies = []
    for text in texts[:100]:
        started = time.perf_counter()
        row = predictor.task.encode([predictor.task.parse(text, base)])[0].rows[0]  # type: ignore[union-attr]
        predictor.engine.forward(collate([row], {}), cores)
        latencies.append(1000 * (time.perf_counter() - started))
    return {"rate": measured, "queued": queued, "p50": statistics.median(latencies)}


def _queued(predictor: Predictor, rows: list[Row], seconds: float) -> float:
    """Sequences a second of the scheduler, where each of `QUEUE` clients has its next text at once."""
    texts, done, idle = cycle(rows), list[int](), threading.Semaphore(0)
    end = time.perf_counter() + seconds

    def ask(n: int) -> None:
        tickets = [Ticket([next(texts)], None, Future(), answered) for _ in range(n)]
        predictor.scheduler.enqueue(tickets)

    def answered(tickets: Sequence[Ticket]) -> None:
        done.append(len(tickets))
        if time.perf_counter() < end:
            ask(len(tickets))
        else:
            idle.release(len(tickets))

    started = time.perf_counter()
    ask(QUEUE)
    for _ in range(QUEUE):
        idle.acquire()
    return sum(done) / (time.perf_counter() - started)


def _batches(rows: list[Row], budget: int) -> list[Batch]:
    """Sorted rows in batches of up to so many tokens, padding included."""
    groups: list[list[Row]] = [[]]
    for row in rows:
        if (len(groups[-1]) + 1) * row.length > budget and groups[-1]:
            groups.append([])
        groups[-1].append(row)
    return [collate(group, {}) for group in groups]


def _rate(predictor: Predictor, batches: list[Batch], n_rows: int, workers: int, threads: int, seconds: float) -> float:
    with ThreadPoolExecutor(workers) as pool:
        started, passes = time.perf_counter(), 0
        while passes == 0 or time.perf_counter() - started < seconds:
            list(pool.map(lambda batch: predictor.engine.forward(batch, threads), batches))
            passes += 1
        return n_rows * passes / (time.perf_counter() - started)


if __name__ == "__main__":
    lines = Path(sys.argv[3]).read_text(encoding="utf-8").splitlines()
    print("RESULT", json.dumps(limit(sys.argv[1], sys.argv[2], lines, float(sys.argv[4]))))
