"""The servers that are compared, each started as its users start it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from bert_handler import jsonio
from bert_handler.packaging.demo_data import bucket, held_out_reviews, reviews
from bert_handler.packaging.demo_model import assemble
from bert_handler.packaging.mar import build
from tests.servers import RunningServer, free_ports, kserve_server, stop, torchserve_server, wait_until

ENGINES = {
    "torch": "torch",
    "onnx": "onnx",
    "onnx int8": "onnx",
    "openvino": "openvino",
    "openvino int8": "openvino",
}
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Contender:
    """A running server: where to post, how long it took to be ready, its resident memory in MB, and its padding.

    metrics_url: None where the server counts no tokens.
    """

    name: str
    url: str
    ready_s: float
    process: int
    metrics_url: str | None = None

    def tokens(self) -> tuple[float, float] | None:
        """Tokens of the batches so far without padding, and padding; None where nobody counts them."""
        if self.metrics_url is None:
            return None
        families = text_string_to_metric_families(httpx.get(self.metrics_url).text)
        samples = {sample.name: sample.value for family in families for sample in family.samples}
        # TorchServe names a metric as it is reported, and knows none before the first.
        return tuple(samples.get(f"bert_handler_{name}_total", 0.0) for name in ("tokens", "padding_tokens"))

    def main_thread_s(self) -> float:
        """CPU seconds of the process's first thread."""
        threads = psutil.Process(self.process).threads()
        return next(part.user_time + part.system_time for part in threads if part.id == self.process)

    def memory_mb(self) -> float:
        """Proportional set size of the process and its children: a shared page counts once."""
        root = psutil.Process(self.process)
        return sum(part.memory_full_info().pss for part in (root, *root.children(recursive=True))) / 2**20


def prepare(work: Path, engines: Sequence[str]) -> dict[str, Path]:
    """The demo model, and its archives by engine, and `padded`."""
    model = assemble(work / "model")
    calibration = [review.text for review in reviews() if bucket(review.film)][::25][:400]
    archives: dict[str, Path] = {}
    for name in engines:
        options = {"quantization": "int8", "calibration": calibration} if name.endswith("int8") else {}
        archives[name] = build(
            model, "bert", "1.0", work / name.replace(" ", "_"), force=True, engine=ENGINES[name], **options
        ).path
    archives["padded"] = padded_archive(model, work / "padded.mar")
    return archives


def corpus(work: Path, n_texts: int) -> tuple[Path, Path]:
    """Held-out reviews in their natural lengths: one a line, and as V2 bodies."""
    every = [" ".join(text.split()) for text in held_out_reviews()[0]]
    texts = every[:: max(1, len(every) // n_texts)][:n_texts]
    (work / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    bodies = [{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]} for text in texts]
    (work / "bodies.jsonl").write_bytes(b"".join(jsonio.dumps(body) + b"\n" for body in bodies))
    return work / "texts.txt", work / "bodies.jsonl"


@contextlib.contextmanager
def running(name: str, archives: dict[str, Path], work: Path) -> Iterator[Contender]:
    """Start a contender: `kserve ENGINE`, `torchserve ENGINE`, `torchserve padded`, `kserve pipeline`."""
    host, _, what = name.partition(" ")
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        if what == "pipeline":
            server = stack.enter_context(_pipeline(work / "model"))
        elif host == "kserve":
            server = stack.enter_context(kserve_server(archives[what], "--engine", ENGINES[what], name="bert"))
        else:
            server = stack.enter_context(torchserve_server(archives[what], name="bert"))
        url = server.url + server.infer_path.format("bert")
        port = server.ports.get("metrics-port", server.ports.get("http-port"))
        metrics = None if what in ("pipeline", "padded") else f"http://127.0.0.1:{port}/metrics"
        yield Contender(name, url, time.monotonic() - started, server.process.pid, metrics)


def padded_archive(model: Path, path: Path) -> Path:
    """A plain archive whose handler answers row by row, each padded to 150 tokens."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as mar:
        for file in sorted(model.iterdir()):
            mar.write(file, file.name)
        mar.write(HERE / "padded_handler.py", "handler.py")
        manifest = {"runtime": "python", "model": {"modelName": "bert", "handler": "handler.py", "modelVersion": "1.0"}}
        mar.writestr("MAR-INF/MANIFEST.json", jsonio.dumps(manifest))
    return path


@contextlib.contextmanager
def _pipeline(model: Path) -> Iterator[RunningServer]:
    ports = free_ports("http-port")
    with tempfile.NamedTemporaryFile("wb", suffix=".log", delete=False) as log:
        command = [sys.executable, str(HERE / "pipeline_server.py"), str(model), str(ports["http-port"])]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    server = RunningServer(process, ports, Path(log.name), "/v2/models/{}/infer")
    try:
        wait_until(server, lambda: server.get("/v2/models/bert/ready").status_code == httpx.codes.OK)
        yield server
    finally:
        server.client.close()
        stop(process)
        server.log_path.unlink()
