"""A planted text and a planted token are searched in whatever TorchServe and its front write and say."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import time

import httpx
import pytest

from bert_handler.packaging.archive_file import write_checksums, write_zip
from bert_handler.packaging.settings import RegisteredModel, TorchServeSettings
from bert_handler.unpacking import CHECKSUMS, unpack
from tests.servers import RunningServer, free_ports, front_server, torchserve_of

pytestmark = [pytest.mark.torchserve, pytest.mark.kserve]

PLANTED = "zq7planted7secret"
TOKEN = "a-planted-token-of-the-front-4711"
BROKEN = '''"""A handler of somebody's own, with a defect."""

from bert_handler import TransformerHandler


class Broken(TransformerHandler):
    def inference(self, data):
        raise KeyError("a defect")
'''
LIMIT = 100_000


@pytest.fixture(scope="module")
def work_dir(zoo, archived, tmp_path_factory):
    """A model store with a sound archive and one whose handler fails."""
    directory = tmp_path_factory.mktemp("torchserve")
    store, files = directory / "store", directory / "files"
    sound = archived(zoo("bert", "sequence_classification"), "m")
    store.mkdir()
    shutil.copy(sound, store)
    unpack(sound, files)
    (files / "handler.py").write_text(BROKEN)
    (files / CHECKSUMS).unlink()
    write_checksums(files)
    write_zip(files, store / "broken.mar")
    shutil.rmtree(files)
    return directory


@pytest.fixture(scope="module")
def behind(work_dir):
    ports = free_ports("inference_port", "metrics_port", "grpc_inference_port", "grpc_management_port")
    models = {"m": RegisteredModel("m.mar"), "broken": RegisteredModel("broken.mar")}
    settings = TorchServeSettings(
        models, model_store=str(work_dir / "store"), host="127.0.0.1", max_request_bytes=LIMIT, **ports
    )
    with torchserve_of(settings, ports, work_dir) as server:
        yield server


@pytest.fixture(scope="module")
def front(behind, tmp_path_factory):
    token_file = tmp_path_factory.mktemp("tokens") / "tokens"
    token_file.write_text(TOKEN)
    options = ("--token-file", str(token_file), "--log-level", "DEBUG", "--access-log")
    with front_server(behind.url, *options, name="m") as server:
        yield server


def v2(*texts, **more):
    return {"inputs": [{"name": "t", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}], **more}


BODIES = {
    "good": (v2(PLANTED), 200),
    "one wrong": (v2(PLANTED, f'{{"text": "{PLANTED}", "nope": 1}}'), 200),
    "a wrong type": ({"instances": [{"text": PLANTED, "text_pair": 5}]}, 400),
    "broken JSON": (v2(f'{{"text": {PLANTED}}}'), 400),
    "an unknown parameter": (v2(PLANTED, parameters={"nope": PLANTED}), 400),
    "too long": ({"instances": [" ".join([PLANTED] * 3000)], "parameters": {"truncation": "error"}}, 413),
    "too late": (v2(*[PLANTED] * 500, parameters={"timeout_ms": 1}), 504),
    "larger than a body may be": (v2(PLANTED * LIMIT), 413),
}


def ask(server: RunningServer, path: str, body, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body)
    own = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}", **headers}
    return server.client.post(server.url + path, content=content, headers=own)


def sound(server: RunningServer, routes: dict[str, str]) -> list[str]:
    """What is answered to good, refused and failing requests."""
    said = []
    for body, status in BODIES.values():
        response = ask(server, routes["infer"], body)
        assert response.status_code == status, response.text
        said.append(response.text)
    said.append(ask(server, routes["infer"], f"{PLANTED} \xff".encode("latin-1")).text)
    for body in (v2(PLANTED, parameters={"n_steps": 2}), v2(PLANTED, parameters={"target": "nobody"})):
        response = ask(server, routes["explain"], body)
        # The words of a good explanation are its content.
        said += [response.text] if response.status_code != 200 else []
    said.append(ask(server, routes["missing"], v2(PLANTED)).text)
    return [*said, malformed(server, routes["infer"])]


def malformed(server: RunningServer, path: str) -> str:
    """What is answered to a body that is longer than its stated length: the rest of it is no request."""
    lines = (f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", "Content-Length: 5", "", PLANTED)
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall("\r\n".join((*lines, "", "")).encode())
        sock.settimeout(1)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while piece := sock.recv(4096):
                answer += piece
    return answer.decode()


TORCHSERVE = {"infer": "/predictions/m", "explain": "/explanations/m", "missing": "/predictions/nobody"}
FRONT = {"infer": "/v1/models/m:predict", "explain": "/v2/models/m/explain", "missing": "/v2/models/nobody/infer"}


def test_texts_and_tokens_are_in_nothing_that_torchserve_writes(behind, front, work_dir):
    said = [*sound(behind, TORCHSERVE), *sound(front, FRONT)]
    failed = ask(behind, "/predictions/broken", v2(PLANTED))
    assert failed.status_code >= 500
    said.append(failed.text)
    said.append(ask(front, FRONT["infer"], v2(PLANTED), authorization=f"Bearer {PLANTED}-of-nobody").text)
    metrics = [f"http://127.0.0.1:{behind.ports['metrics_port']}/metrics", f"{front.url}/metrics"]
    said += [front.client.get(url, headers={"authorization": f"Bearer {TOKEN}"}).text for url in metrics]
    time.sleep(1)
    logs = {path.name: path.read_text(errors="replace") for path in sorted((work_dir / "logs").rglob("*.log"))}
    assert {"access_log.log", "model_log.log", "model_metrics.log", "ts_log.log", "ts_metrics.log"} <= set(logs)
    assert "a defect" in logs["model_log.log"], "what failed is logged"
    assert "/predictions/m" in logs["access_log.log"]
    logs.update({"the output of TorchServe": behind.log, "the log of the front": front.log})
    assert [name for name, text in logs.items() if PLANTED in text or TOKEN in text] == []
    assert [text for text in said if PLANTED in text or TOKEN in text] == []
    assert "Traceback" not in front.log
