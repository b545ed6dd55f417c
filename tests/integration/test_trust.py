"""Tokens, TLS, draining, secrecy and hot replacement on a real KServe host."""

from __future__ import annotations

import datetime
import ipaddress
import json
import shutil
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from bert_handler.client.grpc import GrpcClient
from bert_handler.signing import generate_keys
from tests.servers import kserve_server, wait_until

grpc = pytest.importorskip("grpc")
pb = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2")
pb_grpc = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2_grpc")

pytestmark = pytest.mark.kserve

TOKEN = "a-long-and-secret-token-4711"
PLANTED = "zq7planted7secret"


@pytest.fixture(scope="module")
def model(zoo):
    return zoo("bert", "sequence_classification")


@pytest.fixture(scope="module")
def token_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"# of the team\n{TOKEN}\n\nanother-secret-token-0815\n")
    return path


def v2(*texts):
    return {"inputs": [{"name": "t", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}]}


def message(text="a"):
    return pb.ModelInferRequest(
        model_name="m",
        inputs=[{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [text.encode()]}}],
    )


@pytest.fixture(scope="module")
def guarded(model, token_file):
    options = ("--token-file", str(token_file), "--log-level", "DEBUG", "--access-log")
    with kserve_server(model, *options, name="m") as server:
        yield server


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer é",
    ],
)
def test_without_a_valid_token_nothing_is_answered(guarded, authorization):
    headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
    for path in ("/v2/models/m/infer", "/v1/models/m:predict", "/predictions/m"):
        response = guarded.client.post(guarded.url + path, json=v2("a"), headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json() == {"error": "send a valid token: Authorization: Bearer TOKEN"}
    for path in ("/v2", "/v2/models", "/v2/models/m", "/metrics", "/nowhere"):
        assert guarded.client.get(guarded.url + path, headers=headers).status_code == 401


@pytest.mark.parametrize("token", [TOKEN, "another-secret-token-0815"])
def test_each_token_of_the_file_is_valid(guarded, token):
    response = guarded.infer("m", json.dumps(v2("a")), authorization=f"Bearer {token}")
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/m/ready", "/v1/models/m"])
def test_probes_need_no_token(guarded, path):
    assert guarded.get(path).status_code == 200


def test_grpc_needs_the_token_as_well(guarded):
    with grpc.insecure_channel(f"127.0.0.1:{guarded.ports['grpc-port']}") as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(pb.ServerReadyRequest(), timeout=20).ready
        for metadata in (None, (("authorization", "Bearer wrong"),)):
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(message(), timeout=20, metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        answered = stub.ModelInfer(message(), timeout=20, metadata=(("authorization", f"Bearer {TOKEN}"),))
        assert answered.outputs[0].name == "predict"


def test_answers_carry_safe_headers(guarded):
    for response in (guarded.get("/v2/health/live"), guarded.infer("m", "a")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert "server" not in response.headers


@pytest.mark.parametrize("action", ["load", "unload"])
def test_models_are_not_managed_by_default(guarded, action):
    path = f"{guarded.url}/v2/repository/models/m/{action}"
    assert guarded.client.post(path).status_code == 401
    response = guarded.client.post(path, headers={"authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 403
    assert "--enable-repository" in response.json()["error"]
    assert guarded.get("/v2/models/m/ready").status_code == 200


def test_texts_and_tokens_are_never_logged(guarded):
    good, wrong = f"Bearer {TOKEN}", f"Bearer {PLANTED}-token-of-nobody"
    bodies = [
        v2(PLANTED),
        v2(PLANTED, 5),
        v2(f'{{"text": "{PLANTED}", "nope": 1}}'),
        v2(f'{{"text": {PLANTED}}}'),
        {"instances": [PLANTED, {"text": PLANTED, "text_pair": 5}]},
        {"instances": [{"text": PLANTED * 3000}], "parameters": {"truncation": "error"}},
    ]
    texts = []
    for body in bodies:
        for authorization in (good, wrong):
            path = "/v1/models/m:predict" if "instances" in body else "/v2/models/m/infer"
            response = guarded.client.post(guarded.url + path, json=body, headers={"authorization": authorization})
            texts.append(response.text)
    texts.append(guarded.infer("m", f"{PLANTED} \xff".encode("latin-1"), authorization=good).text)
    texts.append(guarded.client.get(guarded.url + "/metrics", headers={"authorization": good}).text)
    time.sleep(0.3)
    assert PLANTED not in guarded.log
    assert TOKEN not in guarded.log
    assert not [text for text in texts if PLANTED in text or TOKEN in text]
    assert "Traceback" not in guarded.log


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory


def test_tls_on_rest_and_grpc(model, certificate):
    from tests import servers

    context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    words = ["--tls-cert", str(certificate / "cert.pem"), "--tls-key", str(certificate / "key.pem"), "--name", "m"]
    ports = servers.free_ports("http-port", "grpc-port")
    with servers._server(["serve", str(model), *words], ports, "/v2/models/{}/infer", {}) as server:
        with httpx.Client(base_url=f"https://127.0.0.1:{ports['http-port']}", verify=context) as client:
            wait_until(server, lambda: client.get("/v2/health/ready").status_code == 200)
            assert client.post("/v2/models/m/infer", json=v2("a")).status_code == 200
        with pytest.raises(httpx.HTTPError):
            server.get("/v2/health/live")
        credentials = grpc.ssl_channel_credentials((certificate / "cert.pem").read_bytes())
        with grpc.secure_channel(f"localhost:{ports['grpc-port']}", credentials) as channel:
            stub = pb_grpc.GRPCInferenceServiceStub(channel)
            assert stub.ModelInfer(message(), timeout=20).outputs[0].name == "predict"


def test_sigterm_under_load_loses_nothing(model):
    """A request sent before the signal is answered; a later one is answered, refused, or finds the door closed."""
    seen, grpc_seen = Counter(), Counter()
    with kserve_server(model, "--grace-period-s", "10", name="m") as server:
        stopped = threading.Event()
        signalled: list[float] = []

        def http_client():
            with httpx.Client(timeout=30) as client:
                while not stopped.is_set():
                    begun = time.monotonic()
                    try:
                        response = client.post(f"{server.url}/v2/models/m/infer", json=v2(*["a text of words"] * 40))
                        seen[response.status_code] += 1
                        if response.status_code == 503:
                            assert response.headers["retry-after"] == "1"
                    except httpx.ConnectError:
                        seen["not connected"] += 1
                        time.sleep(0.05)
                    except httpx.TransportError as exc:
                        # A kept-alive connection may close just as the next request is sent on it.
                        late = signalled and begun > signalled[0]
                        seen["not connected" if late else type(exc).__name__] += 1

        def grpc_client():
            with grpc.insecure_channel(f"127.0.0.1:{server.ports['grpc-port']}") as channel:
                stub = pb_grpc.GRPCInferenceServiceStub(channel)
                while not stopped.is_set():
                    begun = time.monotonic()
                    try:
                        stub.ModelInfer(message(), timeout=30)
                        grpc_seen["OK"] += 1
                    except grpc.RpcError as exc:
                        # gRPC itself cancels a call that comes just as the server closes, before anybody has read it.
                        late = signalled and begun > signalled[0] and exc.code() == grpc.StatusCode.CANCELLED
                        grpc_seen["UNAVAILABLE" if late else exc.code().name] += 1
                        time.sleep(0.05)

        with ThreadPoolExecutor(12) as pool:
            jobs = [pool.submit(http_client) for _ in range(10)] + [pool.submit(grpc_client) for _ in range(2)]
            time.sleep(1.5)
            started = time.monotonic()
            signalled.append(started)
            server.process.send_signal(signal.SIGTERM)
            code = server.process.wait(12)
            took = time.monotonic() - started
            stopped.set()
            for job in jobs:
                job.result(60)
        assert code == 0
        assert took < 10
        assert "Traceback" not in server.log
    assert set(seen) <= {200, 503, "not connected"}, seen
    assert seen[200] > 20
    assert seen[503] > 0
    assert set(grpc_seen) <= {"OK", "UNAVAILABLE"}, grpc_seen


def test_a_body_that_never_ends_does_not_hold_a_server_that_stops(model):
    with kserve_server(model, "--grace-period-s", "3", name="m") as server:
        with socket.create_connection(("127.0.0.1", server.ports["http-port"])) as half:
            half.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            half.settimeout(20)
            time.sleep(1)
            started = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            answer = half.recv(4096)
            assert 1.5 <= time.monotonic() - started < 3.5
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in answer
            assert answer.endswith(b'{"error":"the server is stopping; try again"}')
            assert server.process.wait(20) == 0
        assert "Traceback" not in server.log, server.log


def test_a_signature_is_required(model, archived, tmp_path):
    private, public = generate_keys(tmp_path / "release")
    signed = archived(model, "signed", signing_key=private)
    with kserve_server(signed, "--require-signature", str(public), name="m") as server:
        assert server.infer("m", json.dumps(v2("a"))).status_code == 200
    unsigned = archived(model)
    with (
        pytest.raises(AssertionError, match="the archive is not signed, and this server takes signed ones only"),
        kserve_server(unsigned, "--require-signature", str(public), name="m"),
    ):
        pass


def test_versions_are_replaced_under_load_without_a_lost_request(model, archived, tmp_path):
    store = tmp_path / "store"
    versions = {n: archived(model, "m", f"{n}.0") for n in (1, 2)}
    store.mkdir()
    shutil.copy(versions[1], store / "m.mar")
    seen = Counter()
    with kserve_server(store / "m.mar", "--enable-repository", str(store), name="m") as server:
        stopped = threading.Event()

        def client():
            with httpx.Client(timeout=30) as own:
                while not stopped.is_set():
                    response = own.post(f"{server.url}/v2/models/m/infer", json=v2("a", "b"))
                    seen[response.status_code, response.json().get("model_version")] += 1

        def manage(action):
            return server.client.post(f"{server.url}/v2/repository/models/m/{action}")

        with ThreadPoolExecutor(6) as pool:
            jobs = [pool.submit(client) for _ in range(6)]
            for turn in range(4):
                time.sleep(0.5)
                shutil.copy(versions[2 - turn % 2], store / "m.mar.new")
                (store / "m.mar.new").replace(store / "m.mar")
                assert manage("load").json() == {"name": "m", "load": True}
                assert server.infer("m", json.dumps(v2("a"))).json()["model_version"] == f"{2 - turn % 2}.0"
            content = versions[2].read_bytes()
            (store / "m.mar").write_bytes(content[: len(content) // 2])
            failed = manage("load")
            time.sleep(0.5)
            stopped.set()
            for job in jobs:
                job.result(60)
        assert failed.status_code == 422
        assert "m.mar is cut short or damaged" in failed.json()["error"]
        assert set(seen) == {(200, "1.0"), (200, "2.0")}, seen
        index = f"{server.url}/v2/repository/index"
        ready = {"name": "m", "version": "1.0", "state": "READY", "reason": ""}
        assert server.client.post(index).json() == [ready]
        with GrpcClient(f"http://127.0.0.1:{server.ports['grpc-port']}") as rpc:
            assert rpc.metadata()["extensions"] == ["binary_tensor_data", "model_repository"]
        assert manage("unload").json() == {"name": "m", "unload": True}
        assert server.client.post(index, json={"ready": True}).json() == []
        assert server.client.get(index).json() == [
            {"name": "m", "version": "", "state": "UNAVAILABLE", "reason": "not loaded"}
        ]
        refused = server.client.post(index, json={"ready": 1})
        assert (refused.status_code, refused.json()["error"]) == (400, "ready must be true or false, not an integer")
        assert server.infer("m", "a").status_code == 404
        (store / "m.mar").unlink()
        assert manage("load").status_code == 404
        assert server.client.post(f"{server.url}/v2/repository/models/..%2Fx/load").status_code == 404
        assert "Traceback" not in server.log
