"""Why the deployment times out on a CPU, and that the generated settings end it.

Everything runs under a quota of one CPU and 2 GiB, the limits of KServe's stock TorchServe runtime: a
control group where this machine lets us make one, else one core by affinity. A process that counts the
host's cores there computes with threads that take turns being throttled.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bert_handler.errors import BertHandlerError
from scripts.quota import Quota, quota

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = (ROOT / "setup_config" / "bert-input-v2.json").read_bytes()
HOSTS = ("kserve", "torchserve", "stock")
HOST_CORES = 32
"""Of a usual node; the stock image lets every worker compute with that many threads."""
PADDED = 150
"""`max_length` of the stock setup_config.json, which pads every request to it."""
SHARED_TIMEOUT_S = 60
"""`responseTimeout` of the published v2/bert sample: for loading too, without a startupTimeout."""
STOCK_DELAY_MS, OUR_DELAY_MS = 500, 3
STOCK_SETTINGS = """enable_metrics_api=true
metrics_format=prometheus
number_of_netty_threads=4
job_queue_size=10
enable_envvars_config=true
install_py_dep_per_model=false
disable_token_authorization=true
model_store=/mnt/models/model-store
model_snapshot={"name":"startup.cfg","modelCount":1,"models":{"bert":{"1.0":{"defaultVersion":true,\
"marName":"bert.mar","minWorkers":1,"maxWorkers":5,"batchSize":2,"maxBatchDelay":500,"responseTimeout":60}}}}
"""
"""Of the published v2/bert sample."""

PROBE = """
import json, sys, time
started = time.perf_counter()
directory, threads, padded, n = sys.argv[1], *map(int, sys.argv[2:])
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
torch.set_num_threads(threads)
tokenizer = AutoTokenizer.from_pretrained(directory)
model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
text = "Bloomberg has decided to publish a new report on the global economy."
options = {"padding": "max_length", "max_length": padded, "truncation": True} if padded else {}
inputs = tokenizer(text, return_tensors="pt", **options)
times = []
with torch.inference_mode():
    for _ in range(n):
        begun = time.perf_counter()
        model(**inputs)
        times.append(time.perf_counter() - begun)
        if not len(times) % 10:
            time.sleep(0.1)
print(json.dumps({"start_s": begun - started - sum(times[:-1]), "times": times[1:]}))
"""

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(stderr=True)


class OneCore:
    """Stands in for the quota where no control group can be made."""

    kind = "affinity to one core"

    def enter(self) -> None:
        """Put this process on one core."""
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@contextmanager
def stock_limits() -> Iterator[Quota | OneCore]:
    """One CPU and 2 GiB, or what comes nearest here."""
    with ExitStack() as stack:
        try:
            limit: Quota | OneCore = stack.enter_context(quota(1, 2 * 2**30))
        except OSError:
            limit = OneCore()
        yield limit


def _popen(limit: Quota | OneCore, command: list[str], **options: Any) -> subprocess.Popen[Any]:
    return subprocess.Popen(command, preexec_fn=limit.enter, **options)  # noqa: PLW1509


def probe(limit: Quota | OneCore, model: Path, threads: int, padded: int, n: int = 40) -> dict[str, Any]:
    """Seconds to start and milliseconds a forward, of transformers itself under the quota."""
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", PROBE, str(model), str(threads), str(padded), str(n)]
    process = _popen(limit, command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    output = process.communicate()[0]
    if process.returncode:
        raise BertHandlerError("the measurement under the quota failed; is torch installed?")
    found = json.loads(output.splitlines()[-1])
    times = sorted(1000 * seconds for seconds in found["times"])
    return {
        "start_s": found["start_s"],
        "p50_ms": statistics.median(times),
        "p95_ms": times[int(0.95 * (len(times) - 1))],
    }


@app.command()
def causes(
    as_json: bool = typer.Option(False, "--json", help="Print the figures as JSON."),
    n: int = typer.Option(40, min=5, help="Forwards of each measurement."),
    workers: int = typer.Option(3, min=1, help="Workers that start together; 2 GiB have no room for many."),
    base: bool = typer.Option(False, "--base", help="A model of BERT-base's size, untrained, instead of the demo's."),
) -> None:
    """Measure each cause's share of a lone request: threads, padding, batch delay; and the cold start."""
    with tempfile.TemporaryDirectory(prefix="cpu_timeout_") as scratch, stock_limits() as limit:
        model = demo_model(Path(scratch))
        if base:
            enlarge(model)
        steps = [
            (f"{HOST_CORES} threads, padded to {PADDED}", probe(limit, model, HOST_CORES, PADDED, n), STOCK_DELAY_MS),
            (f"1 thread, padded to {PADDED}", probe(limit, model, 1, PADDED, n), STOCK_DELAY_MS),
            ("1 thread, own length", probe(limit, model, 1, 0, n), STOCK_DELAY_MS),
        ]
        steps.append(("the same, batch delay 3 ms", steps[-1][1], OUR_DELAY_MS))
        kind = limit.kind
        with ThreadPoolExecutor(workers) as pool:
            starts = list(pool.map(lambda _: probe(limit, model, HOST_CORES, PADDED, 5)["start_s"], range(workers)))
    rows = [{"settings": name, "delay_ms": delay, **found} for name, found, delay in steps]
    for row in rows:
        row["request_ms"] = row["p50_ms"] + row["delay_ms"]
    total = rows[0]["request_ms"]
    names = ("", "threads", "padding", "batch delay")
    for index, row in enumerate(rows):
        row["cause"] = names[index]
        row["share"] = (rows[index - 1]["request_ms"] - row["request_ms"]) / total if index else 0.0
    if as_json:
        typer.echo(json.dumps({"quota": kind, "rows": rows, "workers": workers, "together_s": max(starts)}))
        return
    _show_causes(rows, kind, workers, max(starts))


@app.command()
def service(
    host: str = typer.Option("kserve", help="kserve or torchserve, or stock: the published settings, padded rows."),
    base: bool = typer.Option(False, "--base", help="A model of BERT-base's size, untrained, instead of the demo's."),
    timeout: float = typer.Option(60.0, min=0.1, help="Seconds that a client waits for an answer."),
    requests: int = typer.Option(200, min=1, help="Requests in all."),
    clients: int = typer.Option(8, min=1, help="Clients that send them."),
    as_json: bool = typer.Option(False, "--json", help="Print the figures as JSON."),
) -> None:
    """Serve the sample under the quota with the generated settings: seconds to ready, then the requests."""
    if host not in HOSTS:
        raise typer.BadParameter(f"{host!r} is not one of {', '.join(HOSTS)}", param_hint="--host")
    with serving(host, base) as (url, path, kind, ready_s):
        loaded = load_test(url + path, requests, clients, timeout)
    figures = {"host": host, "quota": kind, "ready_s": ready_s, **loaded}
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        table = Table("figure", "value", title=f"{host} host, one CPU and 2 GiB ({figures['quota']})")
        for name, value in figures.items():
            table.add_row(name, f"{value:.1f}" if isinstance(value, float) else str(value))
        Console().print(table)
    if figures["succeeded"] != requests and host != "stock":
        raise typer.Exit(1)


@app.command()
def figures(
    output: str = typer.Option("setup_config/figures.json", help="File that `bert-handler size` reads."),
    requests: int = typer.Option(400, min=20, help="Requests at each number of clients."),
) -> None:
    """Measure one CPU of the KServe host at growing load, and write it for the sizing calculator."""
    with serving("kserve", base=False) as (url, path, _, _):
        loads = [load_test(url + path, requests, clients) for clients in (1, 2, 4, 8, 16, 32)]
        tokens = tokens_of_a_request(url)
    rows = [
        {name: round(load[name], 1) for name in ("clients", "requests_per_s", "p50_ms", "p95_ms")} for load in loads
    ]
    measured = {"host": "kserve", "engine": "torch", "model": "demo model (22 M parameters)"}
    content = {**measured, "cores": 1, "tokens": tokens, "loads": rows}
    Path(output).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    typer.echo(json.dumps(content, indent=2))


def tokens_of_a_request(url: str) -> float:
    """Mean tokens of the requests so far, from the server's own metrics."""
    import httpx

    values = {}
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        for name in ("tokens_total", "instances_total"):
            if line.startswith(f"bert_handler_{name}"):
                values[name] = float(line.rpartition(" ")[2])
    return round(values["tokens_total"] / values["instances_total"], 1)


@contextmanager
def serving(host: str, base: bool) -> Iterator[tuple[str, str, str, float]]:
    """A model under the quota with its host's settings: address, path, kind of quota, seconds to ready."""
    from tests.servers import free_ports

    with tempfile.TemporaryDirectory(prefix="cpu_timeout_") as scratch, stock_limits() as limit:
        model, threads = demo_model(Path(scratch)), 1
        if base:
            enlarge(model)
        if host == "kserve":
            ports = free_ports("http-port", "grpc-port")
            command, path = ["serve", str(archived(model)), "--name", "bert"], "/v2/models/bert/infer"
        else:
            ports = free_ports("inference-port", "metrics-port", "grpc-inference-port", "grpc-management-port")
            command, path = ["torchserve", str(archived(model)), "--name", "bert"], "/predictions/bert"
        if host == "stock":
            command, threads = ["torchserve", str(stock_tree(model))], HOST_CORES
        words = [word for name, port in ports.items() for word in (f"--{name}", str(port))]
        environ = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
        environ["BERT_HANDLER_THREADS"] = str(threads)
        url = f"http://127.0.0.1:{next(iter(ports.values()))}"
        started = time.monotonic()
        with (Path(scratch) / "log").open("wb") as log:
            command = [sys.executable, "-m", "bert_handler", *command, *words]
            process = _popen(limit, command, env=environ, stdout=log, stderr=log)
        try:
            yield url, path, limit.kind, await_answer(url + path, process, started)
        finally:
            process.terminate()
            process.wait(60)


def await_answer(url: str, process: subprocess.Popen[Any], started: float, deadline_s: float = 300) -> float:
    """Seconds from `started` until the sample is answered."""
    import httpx

    while time.monotonic() - started < deadline_s:
        if process.poll() is not None:
            raise BertHandlerError(f"the server ended with {process.returncode}")
        try:
            if httpx.post(url, content=SAMPLE, headers=JSON, timeout=30).status_code == 200:
                return time.monotonic() - started
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise BertHandlerError(f"the server did not answer within {deadline_s:g} s")


JSON = {"Content-Type": "application/json"}
TIMED_OUT = 408


def load_test(url: str, n_requests: int, n_clients: int, timeout_s: float = 60) -> dict[str, Any]:
    """Send the sample from several clients; requests a second, latencies, and what became of them."""
    import httpx

    left, lock, times, failed = list(range(n_requests)), threading.Lock(), [], []

    def client() -> None:
        with httpx.Client(timeout=timeout_s) as http:
            while True:
                with lock:
                    if not left:
                        return
                    left.pop()
                begun = time.perf_counter()
                try:
                    status = http.post(url, content=SAMPLE, headers=JSON).status_code
                except httpx.TimeoutException:
                    status = TIMED_OUT
                except httpx.HTTPError:
                    status = 0
                if status == 200:
                    times.append(1000 * (time.perf_counter() - begun))
                else:
                    failed.append(status)

    threads = [threading.Thread(target=client) for _ in range(n_clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    ordered = sorted(times) or [0.0]
    return {
        "requests": n_requests,
        "clients": n_clients,
        "timeout_s": timeout_s,
        "succeeded": len(times),
        "timed_out": failed.count(TIMED_OUT),
        "refused": len(failed) - failed.count(TIMED_OUT),
        "requests_per_s": len(times) / seconds,
        "p50_ms": statistics.median(ordered),
        "p95_ms": ordered[int(0.95 * (len(ordered) - 1))],
        "max_ms": ordered[-1],
    }


def demo_model(directory: Path) -> Path:
    """The demo classifier's directory."""
    from bert_handler.packaging.demo_model import assemble

    return assemble(directory / "BERTSeqClassification")


def enlarge(model: Path) -> None:
    """Replace the demo's weights by untrained ones of BERT-base's size: 110 million parameters."""
    from transformers import AutoConfig, AutoModelForSequenceClassification
    from transformers.utils.logging import disable_progress_bar

    sizes = {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
    disable_progress_bar()
    config = AutoConfig.from_pretrained(model, **sizes)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(model)


def archived(model: Path) -> Path:
    """The model's archive."""
    from bert_handler.packaging.mar import build

    return build(model, "BERTSeqClassification", "1.0", model.parent / "store").path


def stock_tree(model: Path) -> Path:
    """A pod's tree with the published settings, and an archive that pads every row."""
    from scripts.benchmark_suite.contenders import padded_archive

    tree = model.parent / "stock"
    (tree / "config").mkdir(parents=True)
    (tree / "model-store").mkdir()
    (tree / "config" / "config.properties").write_text(STOCK_SETTINGS, encoding="utf-8")
    padded_archive(model, tree / "model-store" / "bert.mar")
    return tree


def _show_causes(rows: list[dict[str, Any]], kind: str, workers: int, together_s: float) -> None:
    table = Table(
        *("settings", "forward p50", "p95", "batch delay", "request", "cause removed", "its share"),
        title=f"a lone request under a quota of one CPU ({kind})",
    )
    for row in rows:
        table.add_row(
            row["settings"],
            *(f"{row[name]:.0f} ms" for name in ("p50_ms", "p95_ms", "delay_ms", "request_ms")),
            row["cause"],
            f"{row['share']:.0%}" if row["cause"] else "",
        )
    Console().print(table)
    Console().print(
        f"cold start: {rows[0]['start_s']:.0f} s with {HOST_CORES} threads, {rows[-1]['start_s']:.0f} s with one, "
        f"{together_s:.0f} s of {workers} workers that start together, which is {together_s / SHARED_TIMEOUT_S:.0%} of "
        f"the {SHARED_TIMEOUT_S} s that loading shares with answering there; startupTimeout is apart in our settings"
    )


if __name__ == "__main__":
    try:
        app(prog_name="scripts/cpu_timeout")
    except BertHandlerError as error:
        console.print(f"[red]error:[/red] {escape(str(error))}")
        sys.exit(1)
