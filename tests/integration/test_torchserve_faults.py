"""TorchServe's worker killed under load, and a front whose TorchServe is late, goes and comes back."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from bert_handler.packaging.settings import RegisteredModel, TorchServeSettings
from tests.servers import free_ports, front_server, torchserve_of, torchserve_server, wait_until

BODY = json.dumps({"inputs": [{"name": "t", "shape": [1], "datatype": "BYTES", "data": ["a good film"]}]})


@pytest.mark.torchserve
def test_a_killed_worker_comes_back_under_load(zoo):
    sent, seen = Counter(), Counter()
    with torchserve_server(zoo("bert", "sequence_classification"), name="m") as server:
        stopped = threading.Event()

        def client():
            with httpx.Client(timeout=120) as own:
                while not stopped.is_set():
                    headers = {"content-type": "application/json"}
                    sent["requests"] += 1
                    response = own.post(f"{server.url}/predictions/m", content=BODY, headers=headers)
                    seen[response.status_code] += 1
                    if response.status_code >= 500:
                        assert response.json()["message"], "a reason"
                        time.sleep(0.1)
                    else:
                        assert response.json()["outputs"][0]["data"]

        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(client) for _ in range(4)]
            time.sleep(1)
            worker = server.get("/models/m").json()[0]["workers"][0]
            os.kill(int(worker["pid"]), signal.SIGKILL)
            before = seen[200]
            wait_until(server, lambda: _other_worker(server, worker["pid"]) and seen[200] > before + 20, 120)
            stopped.set()
            for job in jobs:
                job.result(150)
    assert sum(seen.values()) == sent["requests"], "every request has an answer"
    assert {status for status in seen if status != 200} <= {500, 503, 507}, seen


def _other_worker(server, pid):
    workers = server.get("/models/m").json()[0]["workers"]
    return any(worker["status"] == "READY" and worker["pid"] != pid for worker in workers)


@pytest.mark.kserve
@pytest.mark.torchserve
def test_the_front_says_of_a_full_queue_when_to_come_back(zoo, archived, tmp_path):
    archive = archived(zoo("bert", "sequence_classification"), "m")
    ports = free_ports("inference_port", "metrics_port", "grpc_inference_port", "grpc_management_port")
    models = {"m": RegisteredModel(archive.name, batch_size=1)}
    settings = TorchServeSettings(models, model_store=str(archive.parent), host="127.0.0.1", job_queue_size=1, **ports)
    with (
        torchserve_of(settings, ports, tmp_path) as server,
        front_server(f"http://127.0.0.1:{ports['inference_port']}", name="m") as front,
        ThreadPoolExecutor(16) as pool,
    ):
        wait_until(server, lambda: front.get("/v2/models/m/ready").status_code == 200, 60)
        seen = list(pool.map(lambda _: front.infer("m", BODY), range(160)))
    assert {response.status_code for response in seen} == {200, 429}
    assert {response.headers.get("retry-after") for response in seen if response.status_code == 429} == {"1"}


class Standin(BaseHTTPRequestHandler):
    """The two routes of a TorchServe that readiness and inference need."""

    def do_GET(self):
        self.answer(b'[{"workers": [{"status": "READY"}], "models": []}]')

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(b'{"outputs": []}')

    def answer(self, body):
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


def took(front, path, status):
    """Seconds until a path of the front answers with a status."""
    started = time.monotonic()
    wait_until(front, lambda: front.get(path).status_code == status, 10)
    return time.monotonic() - started


def behind(port):
    server = ThreadingHTTPServer(("127.0.0.1", port), Standin)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


@pytest.mark.kserve
def test_the_front_follows_its_torchserve_within_two_seconds():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]

    with front_server(f"http://127.0.0.1:{port}", name="m") as front:
        assert front.get("/v2/health/ready").status_code == 503, "without a TorchServe"
        assert front.infer("m", BODY).status_code == 503
        for _ in range(3):
            server = behind(port)
            assert took(front, "/v2/health/ready", 200) < 2
            assert front.infer("m", BODY).status_code == 200
            server.shutdown()
            server.server_close()
            assert took(front, "/v2/health/ready", 503) < 2
            refused = front.infer("m", BODY)
            assert refused.status_code == 503
            assert set(refused.json()) == {"error"}


@pytest.fixture(scope="module")
def comes_and_goes(zoo, archived, tmp_path_factory):
    """Starts a real TorchServe on a fixed port, as often as it is called."""
    work_dir = tmp_path_factory.mktemp("torchserve")
    archive = archived(zoo("bert", "sequence_classification"), "m")
    ports = free_ports("inference_port", "metrics_port", "grpc_inference_port", "grpc_management_port")
    models = {"m": RegisteredModel(archive.name)}
    settings = TorchServeSettings(models, model_store=str(archive.parent), host="127.0.0.1", **ports)
    return ports["inference_port"], lambda: torchserve_of(settings, ports, work_dir)


@pytest.mark.kserve
@pytest.mark.torchserve
def test_the_front_follows_a_real_torchserve_within_two_seconds(comes_and_goes):
    port, torchserve = comes_and_goes
    path = "/v2/models/m/ready"
    with front_server(f"http://127.0.0.1:{port}", name="m") as front:
        for kill in (signal.SIGKILL, signal.SIGTERM):
            assert front.get(path).status_code == 503, "TorchServe is not there"
            with torchserve() as server:
                assert took(front, path, 200) < 2
                assert front.infer("m", BODY).status_code == 200
                workers = server.get("/models/m").json()[0]["workers"]
                server.process.send_signal(kill)
                gone = took(front, path, 503)
                assert gone < 2 or kill == signal.SIGTERM
                assert set(front.infer("m", BODY).json()) == {"error"}
                server.process.wait(30)
            for worker in workers:
                wait_until(front, lambda pid=worker["pid"]: not Path(f"/proc/{pid}").exists(), 30)
