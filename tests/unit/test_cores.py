"""Models of one process share its cores: the longest wait goes next, and none waits for long."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bert_handler import Predictor, batching
from bert_handler.batching import Limits, Scheduler
from bert_handler.cores import PROCESS_CORES, Cores
from bert_handler.cost import Cost
from bert_handler.errors import ConfigError, QueueFullError
from bert_handler.schema import Row

LIMITS = Limits(max_batch_tokens=64, max_batch_rows=8, max_queue_rows=100, cost=Cost(start=64))


def row(length=4):
    return Row({"input_ids": np.zeros(length, dtype=np.int64)}, length)


class Server:
    """Models whose forwards only note who computes how many rows on how many threads, each behind its gate."""

    def __init__(self, n_models: int, n_cores: int) -> None:
        self.calls: list[tuple[int, int, int]] = []
        self.threads = self.most_threads = 0
        self.gates = [threading.Event() for _ in range(n_models)]
        self._lock = threading.Lock()
        cores = Cores()
        self.models = [Scheduler(self._run(i), LIMITS, n_cores, cores) for i in range(n_models)]

    def _run(self, index):
        def run(rows, threads):
            with self._lock:
                self.calls.append((index, len(rows), threads))
                self.threads += threads
                self.most_threads = max(self.most_threads, self.threads)
            assert self.gates[index].wait(10)
            with self._lock:
                self.threads -= threads
            return [{}] * len(rows)

        return run

    def started(self, n_calls: int) -> None:
        end = time.monotonic() + 10
        while len(self.calls) < n_calls:
            assert time.monotonic() < end
            time.sleep(0.001)

    def close(self) -> None:
        for gate, model in zip(self.gates, self.models):
            gate.set()
            model.close()


@pytest.fixture
def server(request):
    made = Server(*request.param)
    yield made
    made.close()


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr(batching, "PATIENCE_S", 60)


@pytest.mark.parametrize("server", [(2, 2)], indirect=True)
def test_a_lone_row_has_the_cores_of_all(server):
    for index in (0, 1, 0):
        server.gates[index].set()
        server.models[index].submit([row()]).result(10)
    assert server.calls == [(0, 1, 2), (1, 1, 2), (0, 1, 2)]


@pytest.mark.parametrize("server", [(3, 1)], indirect=True)
@pytest.mark.usefixtures("patient")
def test_the_longest_wait_goes_next_and_what_came_meanwhile_goes_along(server):
    futures = [server.models[0].submit([row()])]
    server.started(1)
    for index in (2, 1, 0, 1, 2, 1):
        futures.append(server.models[index].submit([row()]))
        time.sleep(0.01)
    for gate in server.gates:
        gate.set()
    for future in futures:
        future.result(10)
    assert server.calls == [(0, 1, 1), (2, 2, 1), (1, 3, 1), (0, 1, 1)]


@pytest.mark.parametrize("server", [(2, 2)], indirect=True)
@pytest.mark.usefixtures("patient")
def test_each_of_two_models_that_wait_has_a_core(server):
    first = server.models[0].submit([row()])
    server.started(1)
    waiting = [server.models[1].submit([row()] * 5), server.models[0].submit([row()] * 4)]
    for gate in server.gates:
        gate.set()
    for future in (first, *waiting):
        future.result(10)
    # All rows of the first, since others wait; of the second, some are left to the forward that ends next.
    assert server.calls[:2] == [(0, 1, 2), (1, 5, 1)]
    assert server.calls[2] == (0, 2, 1)


@pytest.mark.parametrize("server", [(2, 2)], indirect=True)
def test_nobody_waits_long_for_another_models_forward(server):
    long = server.models[0].submit([row()])
    server.started(1)
    server.gates[1].set()
    began = time.monotonic()
    for _ in range(3):
        server.models[1].submit([row()]).result(10)
    assert batching.PATIENCE_S <= time.monotonic() - began < 2
    assert not long.done()
    assert server.calls == [(0, 1, 2), *[(1, 1, 1)] * 3]


@pytest.mark.parametrize("server", [(2, 1)], indirect=True)
@pytest.mark.usefixtures("patient")
def test_rows_that_are_cancelled_pass_their_turn_on(server):
    first = server.models[0].submit([row()])
    server.started(1)
    gone, stays = server.models[0].submit([row()]), server.models[1].submit([row()])
    gone.cancel()
    server.models[0].submit([row()] * 100).cancel()
    for gate in server.gates:
        gate.set()
    first.result(10)
    stays.result(10)


@pytest.mark.parametrize("server", [(2, 1)], indirect=True)
@pytest.mark.usefixtures("patient")
def test_a_model_that_is_unloaded_answers_and_leaves_its_cores(server):
    server.gates[0].set()
    first = server.models[0].submit([row()])
    server.models[0].close()
    first.result(10)
    server.gates[1].set()
    server.models[1].submit([row()]).result(10)


@pytest.mark.parametrize("server", [(4, 2)], indirect=True)
@pytest.mark.usefixtures("patient")
def test_many_callers_of_many_models_are_all_answered_on_the_cores_that_there_are(server):
    for gate in server.gates:
        gate.set()

    def ask(number):
        for i in range(100):
            model = server.models[(number + i) % 4]
            if i % 25 == 0:
                with model.lend() as lease:
                    lease.give_way()
            model.submit([row(1 + i % 9)] * (1 + i % 3)).result(10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert server.most_threads <= 2
    assert sum(n for _, n, _ in server.calls) == 8 * sum(1 + i % 3 for i in range(100))


@pytest.mark.parametrize("server", [(2, 2)], indirect=True)
def test_a_borrower_gives_way_to_the_rows_of_every_model(server):
    server.gates[1].set()
    with server.models[0].lend() as lease:
        future = server.models[1].submit([row()])
        lease.give_way()
        assert future.done()


@pytest.mark.parametrize("server", [(2, 1)], indirect=True)
def test_nobody_waits_long_for_a_forward_that_began_while_the_core_was_lent(server):
    server.gates[1].set()
    with server.models[1].lend():
        long, short = [model.submit([row()]) for model in server.models]
        time.sleep(2 * batching.PATIENCE_S)
        assert not server.calls
    short.result(2)
    assert not long.done()


def test_a_model_that_fails_its_self_test_leaves_its_cores_and_threads(zoo, monkeypatch):
    def fail(self):
        raise ConfigError("the self-test failed")

    monkeypatch.setattr(Predictor, "self_test", fail)
    before, threads = list(PROCESS_CORES._sharers), threading.active_count()
    with pytest.raises(ConfigError, match="the self-test failed"):
        Predictor.load(zoo("bert", "sequence_classification"))
    assert PROCESS_CORES._sharers == before
    assert threading.active_count() == threads


@pytest.mark.parametrize("server", [(2, 1)], indirect=True)
def test_who_finds_a_queue_full_is_told_to_wait_for_the_rows_of_all_models(server):
    for index in (0, 1):
        server.gates[index].set()
        server.models[index].submit([row()]).result(10)
        server.gates[index].clear()
        server.models[index]._rows_per_s = 10.0
    server.models[0].submit([row(64)])
    server.started(3)
    server.models[0].submit([row()] * 100)
    server.models[1].submit([row()] * 60)
    with pytest.raises(QueueFullError) as caught:
        server.models[0].submit([row()])
    assert caught.value.retry_after_s == 16


@pytest.mark.parametrize("server", [(2, 1)], indirect=True)
def test_a_borrower_waits_no_longer_than_its_deadline(server):
    forward = server.models[0].submit([row()])
    while not server.calls:
        time.sleep(0.001)
    with server.models[1].lend(time.monotonic() + 0.05) as lease:
        lease.give_way()
        assert not forward.done()
    server.gates[0].set()
    forward.result(2)
    server.gates[1].set()
    server.models[1].submit([row()]).result(2)
