"""Mixed traffic on a real KServe host for a stated time, and an account of every request at its end.

python -m tests.soak --seconds 600: tiny models of several tasks, bad requests, explanations, connections
that are cut and clients that dawdle. Fails when a request is lost, a status is unexpected, memory,
descriptors or threads grow, or latency drifts.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import httpx
import numpy as np

from tests.servers import kserve_server
from tests.zoo import CORPUS, build

CLIENTS = 6
HEADS = {"classify": "sequence_classification", "entities": "token_classification", "answer": "question_answering"}
MAX_MB_PER_1000 = 2.0
"""Growth of the resident memory for each thousand requests, over the second half."""


def v2(*texts: str, **own: object) -> dict:
    return {"inputs": [{"name": "t", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}], **own}


def draw(rng: random.Random) -> tuple[str, str, dict, set[int]]:
    """Kind, route, body and the statuses that answer it rightly."""
    texts = rng.choices(CORPUS, k=rng.choice((1, 1, 1, 4, 32)))
    kind = rng.choice(("classify", "classify", "entities", "answer", "bad", "mixed", "long", "explain", "late"))
    if kind == "entities":
        return kind, "/v2/models/entities/infer", v2(*texts), {200}
    if kind == "answer":
        pair = {"question": "Where do I live?", "context": " ".join(texts)}
        return kind, "/v1/models/answer:predict", {"instances": [pair]}, {200}
    if kind == "bad":
        body = rng.choice(({"inputs": 5}, v2("{"), v2("a", parameters={"nope": 1}), {}, {"instances": [5]}))
        return kind, "/v2/models/classify/infer", body, {400}
    if kind == "mixed":
        return kind, "/v1/models/classify:predict", {"instances": [*texts, 5]}, {200}
    if kind == "long":
        return kind, "/v2/models/classify/infer", v2(" ".join(texts) * 20, parameters={"truncation": "stride"}), {200}
    if kind == "explain":
        return kind, "/v2/models/classify/explain", v2(texts[0], parameters={"n_steps": 4}), {200, 429}
    if kind == "late":
        return kind, "/v2/models/classify/infer", v2(*texts, parameters={"timeout_ms": 1}), {200, 504}
    return kind, "/v2/models/classify/infer", v2(*texts), {200}


class Account:
    """What became of every request."""

    def __init__(self, limit: int) -> None:
        self.lock = threading.Lock()
        self.sent: Counter[str] = Counter()
        self.answered: Counter[tuple[str, int]] = Counter()
        self.cut: Counter[str] = Counter()
        self.lost: list[str] = []
        self.latency_s: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.left = limit

    def take(self) -> bool:
        with self.lock:
            self.left -= 1
            return self.left >= 0


def client(url: str, seed: int, end: float, account: Account) -> None:
    rng = random.Random(seed)
    with httpx.Client(base_url=url, timeout=60) as http:
        while time.monotonic() < end and account.take():
            if rng.random() < 0.05:
                dawdle(url, rng, account)
                continue
            kind, path, body, right = draw(rng)
            account.sent[kind] += 1
            started = time.monotonic()
            try:
                response = http.post(path, json=body)
            except httpx.HTTPError as exc:
                account.lost.append(f"{kind}: {type(exc).__name__}")
                continue
            account.latency_s[kind].append((started, time.monotonic() - started))
            account.answered[kind, response.status_code] += 1
            if response.status_code not in right or (response.status_code != 200 and "error" not in response.json()):
                account.lost.append(f"{kind}: {response.status_code} {response.text[:100]}")


def dawdle(url: str, rng: random.Random, account: Account) -> None:
    """A client that is slow, or one that goes before its answer is there."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps(v2(*rng.choices(CORPUS, k=32))).encode()
    lines = ("POST /v2/models/classify/infer HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}")
    head = "\r\n".join((*lines, "", ""))
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sock.sendall(head.encode() + body[:50])
        if rng.random() < 0.5:
            account.sent["slow"] += 1
            time.sleep(0.3)
            sock.sendall(body[50:])
            answer = sock.recv(64)
            if not answer.startswith(b"HTTP/1.1 200"):
                account.lost.append(f"slow: {answer!r}")
            account.answered["slow", 200] += 1
            return
        account.sent["cut"] += 1
        account.cut["cut"] += 1
        if rng.random() < 0.5:
            sock.sendall(body[50:])


def watch(pid: int, end: float, samples: list[tuple[float, float, int, int]], account: Account) -> None:
    process = Path(f"/proc/{pid}")
    while time.monotonic() < end:
        pages = int((process / "statm").read_text().split()[1])
        threads = len(list((process / "task").iterdir()))
        descriptors = len(list((process / "fd").iterdir()))
        samples.append((sum(account.sent.values()), pages * 4096 / 2**20, descriptors, threads))
        time.sleep(0.5)


def judge(account: Account, samples: list[tuple[float, float, int, int]]) -> list[str]:
    """Print the account; what is wrong with it."""
    wrong = list(account.lost[:10])
    sent, answered = sum(account.sent.values()), sum(account.answered.values())
    if sent != answered + sum(account.cut.values()):
        wrong.append(f"{sent} sent, {answered} answered, {sum(account.cut.values())} cut by their clients")
    half = np.array(samples[len(samples) // 2 :])
    slope = np.polyfit(half[:, 0], half[:, 1], 1)[0] * 1000
    print(f"requests    {sent} sent, {answered} answered, {sum(account.cut.values())} cut, {len(account.lost)} lost")
    for (kind, status), count in sorted(account.answered.items()):
        print(f"  {kind:10} {status} {count}")
    print(f"memory      {half[0, 1]:.0f} to {half[-1, 1]:.0f} MB, {slope:+.2f} MB for 1000 requests")
    for index, name in ((2, "descriptors"), (3, "threads")):
        print(f"{name:11} {half[:, index].min():.0f} to {half[:, index].max():.0f}")
    if slope > MAX_MB_PER_1000 and half[-1, 1] - half[0, 1] > 20:
        wrong.append(f"memory grows by {slope:.1f} MB for 1000 requests")
    for index, name in ((2, "descriptors"), (3, "threads")):
        thirds = np.array_split(half[:, index], 3)
        if np.median(thirds[-1]) > np.median(thirds[0]) + 5:
            wrong.append(f"{name} grow from {np.median(thirds[0]):.0f} to {np.median(thirds[-1]):.0f}")
    times = sorted(account.latency_s["classify"])
    early, late = times[len(times) // 4 : len(times) // 2], times[3 * len(times) // 4 :]
    if len(late) > 20:
        before, after = (statistics.median(seconds for _, seconds in part) * 1000 for part in (early, late))
        print(f"latency     p50 {before:.1f} ms in the second quarter, {after:.1f} ms in the last")
        if after > 2 * before + 20:
            wrong.append(f"latency drifts from {before:.1f} to {after:.1f} ms")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--max-requests", type=int, default=200_000)
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="soak_"))
    try:
        for name, head in HEADS.items():
            build("bert", head, scratch / name)
        with kserve_server(scratch / "classify", "--enable-repository", str(scratch), name="classify") as server:
            for name in ("entities", "answer"):
                server.client.post(f"{server.url}/v2/repository/models/{name}/load").raise_for_status()
            account, samples = Account(options.max_requests), []
            end = time.monotonic() + options.seconds
            threads = [threading.Thread(target=client, args=(server.url, i, end, account)) for i in range(CLIENTS)]
            watcher = threading.Thread(target=watch, args=(server.process.pid, end, samples, account))
            for thread in (*threads, watcher):
                thread.start()
            for thread in (*threads, watcher):
                thread.join()
            wrong = judge(account, samples)
            if "Traceback" in server.log:
                wrong.append("the log has a traceback:\n" + server.log[-3000:])
    finally:
        shutil.rmtree(scratch)
    for line in wrong:
        print("wrong:", line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
