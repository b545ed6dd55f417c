"""Real servers for the tests, as `bert-handler` starts them: free ports, own processes, logs on failure."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bert_handler.packaging.settings import TorchServeSettings
from bert_handler.packaging.torchserve import start

START_DEADLINE_S = 180
STOP_DEADLINE_S = 30


@dataclass
class RunningServer:
    """A server process. `ports` by their option's name; `infer_path` takes the model's name."""

    process: subprocess.Popen
    ports: dict[str, int]
    log_path: Path
    infer_path: str
    work_dir: Path | None = None
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=120))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{next(iter(self.ports.values()))}"

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def infer(self, model: str, content: bytes | str, **headers: str) -> httpx.Response:
        """Post a body to the host's inference route of a model."""
        own = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(self.url + self.infer_path.format(model), content=content, headers=own)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(self.url + path)


@contextlib.contextmanager
def kserve_server(target: Path, *options: str, name: str | None = None, **environ: str) -> Iterator[RunningServer]:
    """`bert-handler serve TARGET`, ready."""
    ports = free_ports("http-port", "grpc-port")
    own = ["--name", name] if name else []
    with _server(["serve", str(target), *own, *options], ports, "/v2/models/{}/infer", environ) as server:
        wait_until(server, lambda: server.get("/v2/health/ready").status_code == 200)
        yield server


@contextlib.contextmanager
def front_server(torchserve_url: str, *options: str, name: str | None = None) -> Iterator[RunningServer]:
    """`bert-handler serve --torchserve URL`; not waited for, the TorchServe behind it may be late."""
    ports = free_ports("http-port", "grpc-port")
    own = ["--name", name] if name else []
    with _server(["serve", "--torchserve", torchserve_url, *own, *options], ports, "/v2/models/{}/infer", {}) as server:
        wait_until(server, lambda: server.get("/v2/health/live").status_code == 200)
        yield server


@contextlib.contextmanager
def torchserve_server(target: Path, *options: str, name: str | None = None, **environ: str) -> Iterator[RunningServer]:
    """`bert-handler torchserve TARGET` with its Java frontend and a worker that is ready."""
    names = ("inference-port", "metrics-port", "grpc-inference-port", "grpc-management-port")
    ports = {key: port for key, port in free_ports(*names).items() if f"--{key}" not in options}
    own = ["--name", name] if name else []
    with tempfile.TemporaryDirectory(prefix="torchserve_") as scratch:
        work_dir = [] if "--work-dir" in options else ["--work-dir", scratch]
        with _server(
            ["torchserve", str(target), *own, *work_dir, *options], ports, "/predictions/{}", environ
        ) as server:
            server.work_dir = Path(scratch)
            if "--token-auth" not in options:
                wait_until(server, lambda: _workers_ready(server))
            yield server


@contextlib.contextmanager
def torchserve_of(settings: TorchServeSettings, ports: dict[str, int], work_dir: Path) -> Iterator[RunningServer]:
    """A TorchServe with settings of one's own, every model with a worker that is ready."""
    log = work_dir / "log"
    with log.open("wb") as sink:
        process = start(settings, work_dir, stdout=sink, stderr=subprocess.STDOUT)
    server = RunningServer(process, ports, log, "/predictions/{}", work_dir)
    try:
        for name in settings.models:
            wait_until(server, lambda name=name: server.get(f"/models/{name}").text.count("READY") == 1)
        yield server
    finally:
        server.client.close()
        stop(process)


def free_ports(*names: str) -> dict[str, int]:
    """Ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = {name: stack.enter_context(socket.socket()) for name in names}
        for sock in sockets.values():
            sock.bind(("127.0.0.1", 0))
        return {name: sock.getsockname()[1] for name, sock in sockets.items()}


def wait_until(server: RunningServer, condition, deadline_s: float = START_DEADLINE_S) -> None:
    """Poll a condition; fail with the server's log when it dies or the deadline passes."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise AssertionError(f"the server ended with {server.process.returncode}:\n{server.log[-8000:]}")
        with contextlib.suppress(httpx.TransportError):
            if condition():
                return
        time.sleep(0.1)
    raise AssertionError(f"not within {deadline_s} s:\n{server.log[-8000:]}")


def _workers_ready(server: RunningServer) -> bool:
    listed = server.get("/models").json().get("models", [])
    if not listed:
        return False
    states = [server.get(f"/models/{model['modelName']}").json() for model in listed]
    return all(any(w["status"] == "READY" for w in state[0]["workers"]) for state in states)


@contextlib.contextmanager
def _server(words: list[str], ports: dict[str, int], infer_path: str, environ: dict) -> Iterator[RunningServer]:
    with tempfile.NamedTemporaryFile("wb", prefix="server_", suffix=".log", delete=False) as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bert_handler", *words, *_options(ports)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environ},
        )
    server = RunningServer(process, ports, Path(log.name), infer_path)
    try:
        yield server
    finally:
        server.client.close()
        stop(process)
        server.log_path.unlink()


def stop(process: subprocess.Popen) -> None:
    """SIGTERM, then SIGKILL where that is not enough."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _options(ports: dict[str, int]) -> list[str]:
    return [word for name, port in ports.items() for word in (f"--{name}", str(port))]
