"""Closed-loop load from a process of its own: wrk where it is installed, else this file."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LUA = Path(__file__).with_name("load.lua")


def run(url: str, bodies: Path, clients: int, seconds: float) -> dict[str, Any]:
    """Requests and errors, and latency percentiles in milliseconds, of `clients` that never pause."""
    if shutil.which("wrk"):
        command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "60s", "-s", str(LUA)]
        command += [url, "--", str(bodies)]
    else:
        command = [sys.executable, __file__, url, str(bodies), str(clients), str(seconds)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    result: dict[str, Any] = json.loads(line[len("RESULT ") :])
    return {**result, "rate": (result["requests"] - result["errors"]) / result["seconds"]}


async def _client(url: str, bodies: Any, until: float, latencies: list[float], errors: list[int]) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    while (started := time.perf_counter()) < until:
        body = next(bodies)
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        latencies.append(1000 * (time.perf_counter() - started))
        errors[0] += answer.split(b" ", 2)[1] != b"200"
    writer.close()


async def _main(url: str, path: str, clients: int, seconds: float) -> None:
    bodies = cycle(Path(path).read_bytes().splitlines())
    latencies: list[float] = []
    errors = [0]
    started = time.perf_counter()
    await asyncio.gather(*(_client(url, bodies, started + seconds, latencies, errors) for _ in range(clients)))
    latencies.sort()
    p50, p90, p99 = (latencies[min(len(latencies) - 1, int(len(latencies) * q))] for q in (0.5, 0.9, 0.99))
    result = {"requests": len(latencies), "seconds": time.perf_counter() - started, "errors": errors[0]}
    print("RESULT", json.dumps({**result, "p50": p50, "p90": p90, "p99": p99}))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
