"""Forwards share the cores: with each other, and with whoever borrows some."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, Future
from dataclasses import replace

import numpy as np
import pytest

from bert_handler import batching, cores
from bert_handler.batching import Limits, Scheduler
from bert_handler.cost import Cost
from bert_handler.errors import DeviceLostError, InternalError, NotReadyError, QueueFullError
from bert_handler.schema import Row
from bert_handler.tickets import Ticket, resolve_futures

LIMITS = Limits(max_batch_tokens=64, max_batch_rows=8, max_queue_rows=100, cost=Cost(start=5))


def row(length=8):
    return Row({"input_ids": np.zeros(length, dtype=np.int64)}, length)


class Forwards:
    """Stands in for an engine: notes each forward's rows and threads, and how many ran at once."""

    def __init__(self):
        self.calls = []
        self.running = self.most_threads = 0
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, rows, threads):
        with self.lock:
            self.calls.append((len(rows), threads))
            self.running += threads
            self.most_threads = max(self.most_threads, self.running)
        assert self.gate.wait(10)
        time.sleep(0.002)
        with self.lock:
            self.running -= threads
        return [{"length": np.array(item.length)} for item in rows]


@pytest.fixture
def forwards():
    return Forwards()


@pytest.fixture
def scheduler(forwards):
    made = Scheduler(forwards, LIMITS, n_cores=4)
    yield made
    forwards.gate.set()
    made.close()


def lengths(future):
    return [int(outcome["length"]) for outcome in future.result(10)]


def test_a_lone_row_has_all_cores(scheduler, forwards):
    assert lengths(scheduler.submit([row(3)])) == [3]
    assert forwards.calls == [(1, 4)]


def test_a_deep_queue_has_one_core_a_forward(scheduler, forwards):
    wanted = [length for length in range(4, 24) for _ in range(4)]
    assert lengths(scheduler.submit([row(length) for length in wanted])) == wanted
    assert forwards.most_threads <= 4
    assert [threads for _, threads in forwards.calls[:4]] == [1] * 4
    assert max(n for n, _ in forwards.calls) <= 8


@pytest.mark.parametrize(
    ("widths", "calls"),
    [((), [(1, 4)]), ((1,), [(1, 1)] * 4), ((1, 4), [(1, 4)]), ((1, 2), [(1, 2)] * 2), ((1, 3), [(1, 3), (1, 1)])],
)
def test_a_forward_books_no_core_that_it_cannot_use(forwards, widths, calls):
    scheduler = Scheduler(forwards, replace(LIMITS, widths=widths), n_cores=4)
    forwards.gate.clear()
    futures = []
    for n in range(1, 6):
        futures.append(scheduler.submit([row()]))
        time.sleep(0.02)
        assert forwards.calls == calls[:n], "what came last begins at once where a core is free"
    forwards.gate.set()
    assert [lengths(future) for future in futures] == [[8]] * 5
    scheduler.close()


def test_rows_that_come_meanwhile_wait_for_a_core_and_no_longer(scheduler, forwards):
    forwards.gate.clear()
    first = scheduler.submit([row()])
    while not forwards.calls:
        time.sleep(0.001)
    second = scheduler.submit([row(), row()])
    time.sleep(0.05)
    assert len(forwards.calls) == 1
    forwards.gate.set()
    assert lengths(first) == [8]
    assert lengths(second) == [8, 8]


def test_the_next_serial_forward_is_made_ready_when_it_is_full(forwards):
    scheduler = Scheduler(forwards, replace(LIMITS, serial=True), n_cores=2)
    forwards.gate.clear()
    futures = [scheduler.submit([row()])]
    while not forwards.calls:
        time.sleep(0.001)
    futures.append(scheduler.submit([row()] * 7))
    time.sleep(0.05)
    assert forwards.calls == [(1, 1)], "seven rows are not a forward of eight"
    futures.append(scheduler.submit([row()] * 13))
    while len(forwards.calls) < 2:
        time.sleep(0.001)
    time.sleep(0.05)
    assert forwards.calls == [(1, 1), (8, 1)], "two lanes"
    forwards.gate.set()
    assert [len(future.result(10)) for future in futures] == [1, 7, 13]
    assert forwards.calls[2] == (8, 1)
    scheduler.close()


def test_a_forward_that_fails_is_halved_until_the_guilty_row_is_alone():
    def run(rows, threads):
        if any(item.length == 13 for item in rows):
            raise MemoryError
        return [{"length": np.array(item.length)} for item in rows]

    scheduler = Scheduler(run, LIMITS)
    outcomes = scheduler.submit([row(11), row(12), row(13), row(12)]).result(10)
    scheduler.close()
    assert [isinstance(outcome, InternalError) for outcome in outcomes] == [False, False, True, False]


def test_rows_are_not_halved_where_the_device_has_failed():
    sizes = []

    def run(rows, threads):
        sizes.append(len(rows))
        raise DeviceLostError

    scheduler = Scheduler(run, LIMITS)
    outcomes = scheduler.submit([row()] * 4).result(10)
    scheduler.close()
    assert sizes == [4]
    assert [type(outcome) for outcome in outcomes] == [DeviceLostError] * 4


def test_halves_run_when_the_failed_forward_has_let_go_of_its_memory():
    held, alive = [], []

    def run(rows, threads):
        alive.append([kept() is not None for kept in held])
        activations = np.zeros(1000)
        held.append(weakref.ref(activations))
        if len(rows) > 1:
            raise MemoryError
        return [{}]

    scheduler = Scheduler(run, LIMITS)
    scheduler.submit([row()] * 4).result(10)
    scheduler.close()
    assert len(alive) == 7
    assert not any(map(any, alive))


def test_a_forward_on_all_cores_counts_once():
    scheduler = Scheduler(lambda rows, threads: time.sleep(0.05) or [{}] * len(rows), LIMITS, n_cores=4)
    scheduler.submit([row()]).result(10)
    scheduler.close()
    assert 10 < scheduler._rows_per_s <= 20


def test_a_caller_that_is_gone_makes_room_in_a_full_queue(scheduler, forwards):
    forwards.gate.clear()
    scheduler.submit([row()])
    while not forwards.calls:
        time.sleep(0.001)
    waiting = scheduler.submit([row()] * 100)
    with pytest.raises(QueueFullError):
        scheduler.submit([row()])
    waiting.cancel()
    time.sleep(batching.SEARCH_EVERY_S)
    late = scheduler.submit([row(5)])
    forwards.gate.set()
    assert lengths(late) == [5]
    with pytest.raises(CancelledError):
        waiting.result()


def test_a_full_queue_is_not_searched_for_each_row_that_it_refuses(scheduler, forwards, monkeypatch):
    forwards.gate.clear()
    scheduler.submit([row()])
    while not forwards.calls:
        time.sleep(0.001)
    scheduler.submit([row()] * 100)
    monkeypatch.setattr(batching, "SEARCH_EVERY_S", 60.0)
    searches = []
    monkeypatch.setattr(scheduler._queue, "drop_cancelled", lambda: searches.append(1))
    for _ in range(20):
        with pytest.raises(QueueFullError):
            scheduler.submit([row()])
    assert searches == [1]


@pytest.mark.timeout(20)
def test_the_rows_of_a_patient_ticket_wait_for_room(scheduler, forwards):
    ticket = patient([row(length) for length in range(1, 51)] * 10)
    scheduler.enqueue([ticket])
    assert len(scheduler) <= LIMITS.max_queue_rows
    assert lengths(ticket.waiter) == list(range(1, 51)) * 10
    assert sum(n for n, _ in forwards.calls) == 500


@pytest.mark.timeout(20)
def test_a_patient_ticket_does_not_outwait_its_model(forwards):
    scheduler = Scheduler(forwards, LIMITS)
    forwards.gate.clear()
    closing = threading.Timer(0.1, scheduler.close)
    closing.start()
    with pytest.raises(NotReadyError, match="unloaded"):
        scheduler.enqueue([patient([row()] * 500)])
    forwards.gate.set()
    closing.join()


def patient(rows):
    ticket = Ticket(rows, None, Future(), resolve_futures)
    ticket.patient = True
    return ticket


def test_closing_answers_what_waits(forwards):
    scheduler = Scheduler(forwards, LIMITS)
    futures = [scheduler.submit([row(length)]) for length in (3, 30, 60)]
    scheduler.close()
    assert [lengths(future) for future in futures] == [[3], [30], [60]]
    with pytest.raises(NotReadyError, match="unloaded"):
        scheduler.submit([row()])


def test_half_of_the_cores_are_lent(scheduler, forwards):
    with scheduler.lend() as lease:
        assert lease.threads == 2
        assert lengths(scheduler.submit([row(3)])) == [3]
    assert lengths(scheduler.submit([row(3)])) == [3]
    assert forwards.calls == [(1, 2), (1, 4)]


def test_a_borrower_gives_way_to_rows(scheduler, forwards):
    with scheduler.lend() as lease:
        future = scheduler.submit([row(3)])
        lease.give_way()
        # Only a quiet moment ends the pause.
        assert lengths(future) == [3]
        assert scheduler.cores.quiet


def test_a_steady_load_does_not_stop_a_borrower_for_ever(scheduler, monkeypatch):
    monkeypatch.setattr(cores, "MAX_PAUSE_S", 0.1)
    stop = threading.Event()

    def load():
        while not stop.is_set():
            scheduler.submit([row()] * 16).result(10)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with scheduler.lend() as lease:
            for _ in range(3):
                started = time.monotonic()
                lease.give_way()
                assert time.monotonic() - started < 5
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_the_only_core_can_be_lent(forwards):
    scheduler = Scheduler(forwards, LIMITS)
    with scheduler.lend() as lease:
        future = scheduler.submit([row(3)])
        time.sleep(0.05)
        assert not future.done()
        lease.give_way()
        assert lengths(future) == [3]
    scheduler.close()


ENDS = """
import sys, time
from bert_handler.batching import Scheduler
from tests.unit.test_batching import LIMITS, row

def run(rows, threads):
    print("begun", flush=True)
    time.sleep(0.3)
    print("computed", flush=True)
    return [{} for _ in rows]

scheduler = Scheduler(run, LIMITS)
for count in map(int, sys.argv[1:]):
    scheduler.submit([row()] * count)
    time.sleep(0.1)
"""


@pytest.mark.parametrize(("counts", "printed"), [([], []), ([1, 90], ["begun", "computed"])])
def test_a_process_ends_when_the_forwards_that_run_have_ended(counts, printed):
    command = [sys.executable, "-c", ENDS, *map(str, counts)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.split() == printed


def test_a_closed_scheduler_is_kept_by_nobody(forwards):
    scheduler = Scheduler(forwards, LIMITS)
    known = weakref.ref(scheduler)
    scheduler.close()
    del scheduler
    gc.collect()
    assert known() is None


@pytest.mark.parametrize(("n_cores", "n_rows"), [(3, 1), (4, 2), (8, 3)])
def test_closing_wakes_every_thread(forwards, n_cores, n_rows):
    scheduler = Scheduler(forwards, LIMITS, n_cores=n_cores)
    forwards.gate.clear()
    wide = scheduler.submit([row()])
    while not forwards.calls:
        time.sleep(0.001)
    waiting = scheduler.submit([row()] * n_rows)
    closer = threading.Thread(target=scheduler.close, daemon=True)
    closer.start()
    time.sleep(0.05)
    forwards.gate.set()
    closer.join(5)
    assert not closer.is_alive()
    assert len(wide.result(0)) + len(waiting.result(0)) == 1 + n_rows
