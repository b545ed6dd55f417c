"""How cost grows on the KServe host: with the text's length, with clients, with models, and with less CPU."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bert_handler import Predictor, jsonio
from bert_handler.cpu import cpu_budget
from scripts.benchmark_suite import load
from scripts.quota import quota
from tests.servers import RunningServer, kserve_server

TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MODELS = (1, 2, 3, 4)
CPUS = (0.5, 1.0, 2.0)
N_CLIENTS = 32


def measure(archive: Path, bodies: Path, work: Path, seconds: float) -> dict[str, dict[str, dict[str, Any]]]:
    """The figures of one client that never pauses by `tokens`, and of many by `clients`, `models` and `cpus`."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    texts = bodies_by_tokens(archive, work)
    with kserve_server(archive, name="bert", BERT_HANDLER_MAX_LENGTH=str(TOKENS[-1])) as server:
        found["tokens"] = {str(n): load.run(_url(server), texts[n], 1, seconds) for n in TOKENS}
    with kserve_server(archive, name="bert") as server:
        found["clients"] = {str(n): load.run(_url(server), bodies, n, seconds) for n in CLIENTS}
    found["models"] = {str(n): _models(archive, bodies, n, seconds) for n in MODELS}
    found["cpus"] = {}
    for cpus in CPUS:
        if cpus <= cpu_budget().cores:
            with quota(cpus) as limit, contextlib.ExitStack() as stack:
                with limit.starting():
                    server = stack.enter_context(kserve_server(archive, name="bert"))
                found["cpus"][f"{cpus:g}"] = load.run(_url(server), bodies, N_CLIENTS, seconds)
    return found


def bodies_by_tokens(archive: Path, work: Path) -> dict[int, Path]:
    """A file with one body a length, in tokens with the special ones; 1 and 2 stand for the empty text."""
    predictor = Predictor.load(archive, device="cpu")
    special = predictor.task.model.tokenizer.backend.num_special_tokens_to_add(False)
    predictor.close()
    files = {}
    for n in TOKENS:
        text = " ".join(["film"] * max(0, n - special))
        files[n] = work / f"tokens_{n}.jsonl"
        body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}
        files[n].write_bytes(jsonio.dumps(body) + b"\n")
    return files


def _url(server: RunningServer, name: str = "bert") -> str:
    return server.url + server.infer_path.format(name)


def _models(archive: Path, bodies: Path, n: int, seconds: float) -> dict[str, Any]:
    """The clients shared out evenly between models of one server, each a copy of the archive."""
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch)
        names = [f"bert{i}" for i in range(n)]
        for name in names:
            shutil.copy(archive, store / f"{name}.mar")
        entries = {name: {"1.0": {"defaultVersion": True, "marName": f"{name}.mar"}} for name in names}
        snapshot = jsonio.dumps({"name": "startup.cfg", "modelCount": n, "models": entries}).decode()
        (store / "config.properties").write_text(f"model_store={store}\nmodel_snapshot={snapshot}\n", encoding="utf-8")
        with kserve_server(store) as server, ThreadPoolExecutor(n) as pool:
            runs = [pool.submit(load.run, _url(server, name), bodies, N_CLIENTS // n, seconds) for name in names]
            found = [run.result() for run in runs]
    # Percentiles of several runs cannot be added; the worst of them is a bound.
    worst = {key: max(item[key] for item in found) for key in ("p50", "p90", "p99")}
    return {**worst, "rate": sum(item["rate"] for item in found), "errors": sum(item["errors"] for item in found)}
