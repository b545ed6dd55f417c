"""`scripts/benchmark`: start everything, measure in alternating rounds, report."""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bert_handler.artifact import Artifact
from scripts.benchmark_suite import growth, load, report
from scripts.benchmark_suite.contenders import ENGINES, Contender, corpus, prepare, running

BULK_ROWS = 20_000
ALLOWED_MB = {"torch": 450}
STARTS_A_ROUND = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of few contenders")
    parser.add_argument("--output", type=Path, default=Path(".benchmark"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--clients", default="1,8,32,128")
    parser.add_argument("--contenders", help="only these: 'kserve onnx,torchserve padded,bulk onnx'")
    parser.add_argument("--growth", action="store_true", help="how cost grows with tokens, clients, models, quota")
    args = parser.parse_args()
    chosen = [name.strip() for name in (args.contenders or "").split(",") if name.strip()]
    if args.quick:
        args.rounds, args.seconds, args.clients = 1, 1, "1,32"
    args.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "machine": report.machine(),
        "command": sys.argv[1:],
        "load": {},
        "offline": {},
        "servers": {},
    }
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        # No library that a server has in memory is to be shared with this process.
        archives = apart.submit(prepare, args.output, _archived(chosen, args)).result()
    texts, bodies = corpus(args.output, 128 if args.quick else 512)
    if args.growth:
        results["growth"] = growth.measure(archives["onnx"], bodies, args.output, args.seconds)
        report.write_growth(results, args.output)
        return 0
    names = chosen or _contenders([name for name in ENGINES if name in archives], quick=args.quick)
    bulk = [_engine(name) for name in names if name.startswith("bulk ")]
    names = [name for name in names if not name.startswith("bulk ")]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(name, archives, args.output)) for name in names]
        for server in servers:
            load.run(server.url, bodies, 8, 1 if args.quick else 3)
        for _ in range(args.rounds):
            _round(results, servers, archives, (texts, bodies), args)
    results["servers"] = {
        name: _alone(name, archives, bodies, args)
        for name in names
        if name.startswith("kserve ") and _engine(name) in archives
    }
    results["bulk"] = {name: _bulk_rounds(archives[name], name, texts, args) for name in bulk}
    report.write(results, args.output)
    return 0


def _archived(chosen: Sequence[str], args: argparse.Namespace) -> list[str]:
    """The engines that need an archive."""
    if args.growth or (args.quick and not chosen):
        return ["onnx"]
    many = not chosen or any("int8" in name or "openvino" in name for name in chosen)
    return list(ENGINES) if many and not args.quick else ["torch", "onnx"]


def _contenders(engines: Sequence[str], *, quick: bool) -> list[str]:
    """What is measured where nothing is chosen."""
    if quick:
        return ["kserve onnx", "kserve pipeline"]
    own = [f"{host} {name}" for host in ("kserve", "torchserve") for name in engines]
    return [*own, "torchserve padded", "kserve pipeline", *(f"bulk {name}" for name in engines if name != "torch")]


def _engine(server: str) -> str:
    """What a server's name says behind its host."""
    return server.partition(" ")[2]


def _round(
    results: dict[str, Any],
    servers: Sequence[Contender],
    archives: Mapping[str, Path],
    corpus: tuple[Path, Path],
    args: argparse.Namespace,
) -> None:
    """Measure all once: the limit of an engine, the servers that are held against it, and the limit again."""
    texts, bodies = corpus
    for engine in dict.fromkeys(_engine(server.name) for server in servers):
        limits = [_offline(archives[engine], engine, texts, args.seconds)] if engine in ENGINES else []
        for clients in args.clients.split(","):
            for server in servers:
                if _engine(server.name) == engine:
                    found = _measured(server, bodies, int(clients), args.seconds)
                    results["load"].setdefault(server.name, {}).setdefault(clients, []).append(found)
        if limits:
            # The machine drifts; the mean of both is what it could do between them.
            limits.append(_offline(archives[engine], engine, texts, args.seconds))
            results["offline"].setdefault(engine, []).append(_mean(limits))


def _mean(limits: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.mean(limit[name] for limit in limits) for name in limits[0]}


def _measured(server: Contender, bodies: Path, clients: int, seconds: float) -> dict[str, Any]:
    """The figures of one load, and some of the server.

    padding: its share of the batches' tokens; unpadded graphs skip most of it.
    main_thread_ms: CPU a request; of a KServe host that is the event loop.
    """
    before, began_s = server.tokens(), server.main_thread_s()
    found = load.run(server.url, bodies, clients, seconds)
    after = server.tokens()
    found["main_thread_ms"] = 1000 * (server.main_thread_s() - began_s) / max(1, found["requests"])
    if before is not None and after is not None and after[0] > before[0]:
        tokens, padding = after[0] - before[0], after[1] - before[1]
        found["padding"] = padding / (tokens + padding)
    return found


def _alone(name: str, archives: dict[str, Path], bodies: Path, args: argparse.Namespace) -> dict[str, float]:
    """What a server takes with no other beside it, that it could share libraries with: seconds and MB."""
    engine, memory = _engine(name), []
    for _ in range(args.rounds):
        with running(name, archives, args.output) as server:
            for clients in (1, 32):
                load.run(server.url, bodies, clients, args.seconds)
            memory.append(server.memory_mb())
    return {
        **_starts(name, archives, args),
        "memory_mb": statistics.median(memory),
        "allowed_mb": _weights_mb(archives[engine], engine) + ALLOWED_MB.get(engine, 250),
    }


def _starts(name: str, archives: dict[str, Path], args: argparse.Namespace) -> dict[str, float]:
    """Seconds from start to ready, and their ratio to a bare start's, of which each has one on either side."""
    engine = _engine(name)
    ready, bare = [], [_bare_start(archives[engine], ENGINES[engine])]
    for _ in range(1 if args.quick else STARTS_A_ROUND * args.rounds):
        with running(name, archives, args.output) as server:
            ready.append(server.ready_s)
        bare.append(_bare_start(archives[engine], ENGINES[engine]))
    ratios = [own / statistics.mean(bare[i : i + 2]) for i, own in enumerate(ready)]
    return {"ready_s": statistics.median(ready), "ready_over_bare": statistics.median(ratios)}


def _bare_start(archive: Path, engine: str) -> float:
    artifact = Artifact.open(archive)
    command = [sys.executable, "-m", "scripts.benchmark_suite.bare_start", engine, str(artifact.directory)]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - started


def _weights_mb(archive: Path, engine: str) -> float:
    import zipfile

    suffix = ".safetensors" if engine == "torch" else ".onnx.data"
    with zipfile.ZipFile(archive) as mar:
        return sum(entry.file_size for entry in mar.infolist() if entry.filename.endswith(suffix)) / 2**20


def _offline(archive: Path, name: str, texts: Path, seconds: float) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "scripts.benchmark_suite.offline",
        str(archive),
        ENGINES[name],
        str(texts),
        str(seconds),
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    figures: dict[str, float] = json.loads(line[len("RESULT ") :])
    return figures


def _bulk_rounds(archive: Path, name: str, texts: Path, args: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Rates of bulk scoring, each with the mean of the engine's limits right before and right behind it."""
    limits, rates = [_offline(archive, name, texts, args.seconds)], []
    for _ in range(args.rounds):
        rates.append({"rate": _bulk(archive, name, texts, args.output)})
        limits.append(_offline(archive, name, texts, args.seconds))
    return {"rates": rates, "limits": [_mean(limits[i : i + 2]) for i in range(args.rounds)]}


def _bulk(archive: Path, name: str, texts: Path, work: Path) -> float:
    """Rows a second of `bert-handler predict --input`, without loading the model."""
    from bert_handler import Predictor, bulk

    lines = texts.read_text(encoding="utf-8").splitlines()
    source = work / "bulk.txt"
    source.write_text("\n".join((lines * (BULK_ROWS // len(lines) + 1))[:BULK_ROWS]) + "\n", encoding="utf-8")
    predictor = Predictor.load(archive, engine=ENGINES[name], device="cpu")
    started = time.perf_counter()
    rows = bulk.score(predictor, source, work / "bulk.jsonl")
    seconds = time.perf_counter() - started
    predictor.close()
    return rows / seconds


if __name__ == "__main__":
    sys.exit(main())
