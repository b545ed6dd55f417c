"""Mixed traffic on a real KServe host for a stated time, and an account of every request at its end.

python -m tests.soak --seconds 600: tiny models of all tasks over REST, event streams and gRPC, with explanations,
bad requests, deadlines, connections that are cut, calls that are cancelled and clients that dawdle. Fails when an
answer is lost or wrong, memory, descriptors or threads grow, or latency drifts.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
import httpx
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.contract.task_examples import EXAMPLES
from tests.servers import RunningServer, kserve_server
from tests.soak.account import Account, Sample, judge
from tests.soak.traffic import Session, expected_answers, next_request
from tests.zoo import build

CLIENTS = 8
FIRST = EXAMPLES[0].task


def client(server: RunningServer, seed: int, end: float, account: Account, expected: dict) -> None:
    rng = random.Random(seed)
    with (
        httpx.Client(base_url=server.url, timeout=60) as http,
        grpc.insecure_channel(f"127.0.0.1:{server.ports['grpc-port']}") as channel,
    ):
        session = Session(http, GRPCInferenceServiceStub(channel), rng, expected)
        while time.monotonic() < end and account.take():
            kind, ask = next_request(rng)
            account.send(kind)
            started = time.monotonic()
            try:
                outcome = ask(session)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the request is lost
                account.lose(kind, f"{type(exc).__name__}: {exc}")
            else:
                account.close(kind, outcome, started, time.monotonic() - started)


def watch(server: RunningServer, end: float, samples: list[Sample], account: Account) -> None:
    process = Path(f"/proc/{server.process.pid}")
    while time.monotonic() < end:
        resident = int((process / "statm").read_text().split()[1]) * 4096 / 2**20
        counted = [len(list((process / name).iterdir())) for name in ("fd", "task")]
        samples.append(Sample(account.n_sent, resident, *counted))
        time.sleep(0.5)


def run(server: RunningServer, seconds: float, max_requests: int) -> tuple[dict, list[str]]:
    """The summary of a run, and what is wrong with it."""
    expected = expected_answers(server.client, server.url)
    account, samples = Account(max_requests), []
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=client, args=(server, i, end, account, expected)) for i in range(CLIENTS)]
    threads.append(threading.Thread(target=watch, args=(server, end, samples, account)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    summary, wrong = judge(account, samples, seconds)
    _, found, traceback = server.log.partition("Traceback")
    if found:
        wrong.append(f"the log has a traceback: {traceback[:3000]}")
    if not _idle(server):
        wrong.append("rows wait in a queue although nobody asks any more")
    return summary, wrong


def _idle(server: RunningServer) -> bool:
    for _ in range(50):
        waiting = [line for line in server.get("/metrics").text.splitlines() if "handler_queue_rows{" in line]
        if waiting and all(float(line.rpartition(" ")[2]) == 0 for line in waiting):
            return True
        time.sleep(0.1)
    return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--max-requests", type=int, default=500_000)
    parser.add_argument("--summary", type=Path, help="write the figures to this file, as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak_") as scratch:
        for example in EXAMPLES:
            directory = build(*example.model, Path(scratch) / example.task, **example.config)
            (directory / "setup_config.json").write_text(json.dumps({"mode": example.task}))
        with kserve_server(Path(scratch) / FIRST, "--enable-repository", scratch, name=FIRST) as server:
            for example in EXAMPLES[1:]:
                server.client.post(f"{server.url}/v2/repository/models/{example.task}/load").raise_for_status()
            summary, wrong = run(server, options.seconds, options.max_requests)
    print(json.dumps(summary, indent=2))
    if options.summary:
        options.summary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    for line in wrong:
        print("wrong:", line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
