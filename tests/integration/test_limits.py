"""Every limit on both hosts: the contract's status, and a message that names the limit."""

from __future__ import annotations

import json
import re
import threading
import time

import httpx
import pytest

from tests.servers import kserve_server, torchserve_server

grpc = pytest.importorskip("grpc")
pb = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2")
pb_grpc = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2_grpc")

LIMITS = {
    "BERT_HANDLER_MAX_INSTANCES": "3",
    "BERT_HANDLER_MAX_INPUT_TOKENS": "60",
    "BERT_HANDLER_MAX_INPUT_CHARS": "2000",
    "BERT_HANDLER_MAX_REQUEST_TOKENS": "70",
    "BERT_HANDLER_MAX_NEW_TOKENS_LIMIT": "9",
}
REFUSED = [
    ({"instances": ["a"] * 4}, 413, "the request has 4 instances; max_instances is 3"),
    ({"instances": ["a " * 100]}, 413, "tokens; max_input_tokens is 60"),
    ({"instances": ["a" * 2001]}, 413, "text has 2001 characters; max_input_chars is 2000"),
    ({"instances": ["a " * 20] * 3}, 413, "more tokens than max_request_tokens, which is 70"),
    ({"instances": ["a"], "parameters": {"max_new_tokens": 10}}, 400, "max_new_tokens_limit"),
    ({"instances": ["a"], "parameters": {"max_new_tokens_limit": 10}}, 400, "a request cannot change it"),
]


@pytest.fixture(scope="module", params=["kserve", "torchserve"])
def limited(request, zoo):
    serve = kserve_server if request.param == "kserve" else torchserve_server
    with serve(zoo("gpt2", "generation"), name="m", **LIMITS) as server:
        yield server


def ask(server, document, **headers):
    own = {"content-type": "application/json", **headers}
    return server.client.post(f"{server.url}/predictions/m", content=json.dumps(document), headers=own)


@pytest.mark.kserve
@pytest.mark.torchserve
@pytest.mark.parametrize(("document", "status", "message"), REFUSED)
def test_limits_are_named_on_both_hosts(limited, document, status, message):
    response = ask(limited, document)
    assert response.status_code == status, response.text
    assert message in response.json()["error"]


@pytest.mark.kserve
@pytest.mark.torchserve
def test_deadlines_are_kept_on_both_hosts(limited):
    wanted = {"instances": ["a fox"], "parameters": {"max_new_tokens": 9}}
    assert ask(limited, wanted, **{"x-request-timeout-ms": "60000"}).status_code == 200
    response = ask(limited, {"instances": ["a fox"] * 3}, **{"x-request-timeout-ms": "1"})
    assert response.status_code == 504
    assert "the deadline passed" in response.json()["error"]


@pytest.fixture(scope="module")
def narrow(zoo):
    """A host with room for two rows, and for small bodies."""
    limits = {"BERT_HANDLER_MAX_QUEUE_ROWS": "2", "BERT_HANDLER_THREADS": "1"}
    with kserve_server(zoo("gpt2", "generation"), "--max-body-bytes", "5000", name="m", **limits) as server:
        yield server


@pytest.mark.kserve
def test_larger_bodies_are_refused(narrow):
    response = ask(narrow, {"instances": ["a" * 5000]})
    assert (response.status_code, "max_body_bytes is 5000" in response.json()["error"]) == (413, True)


def message(**own):
    # Its answer has all 40 tokens, where others end with the first.
    contents = {"bytes_contents": [b"Paris"] * 2}
    tensor = {"name": "t", "datatype": "BYTES", "shape": [2], "contents": contents}
    return pb.ModelInferRequest(model_name="m", inputs=[tensor], parameters={"max_new_tokens": {"int64_param": 40}})


@pytest.mark.kserve
def test_a_full_queue_refuses_and_says_when_to_come_back(narrow):
    seen, stopped = {}, threading.Event()

    def rest():
        with httpx.Client(timeout=60) as client:
            while not stopped.is_set():
                body = {"instances": ["a fox"] * 2, "parameters": {"max_new_tokens": 40}}
                response = client.post(f"{narrow.url}/v1/models/m:predict", json=body)
                seen[response.status_code] = response

    def rpc():
        with grpc.insecure_channel(f"127.0.0.1:{narrow.ports['grpc-port']}") as channel:
            stub = pb_grpc.GRPCInferenceServiceStub(channel)
            while not stopped.is_set():
                try:
                    stub.ModelInfer(message(), timeout=60)
                except grpc.RpcError as exc:
                    seen[exc.code().name] = exc

    threads = [threading.Thread(target=target) for target in (rest, rpc) for _ in range(3)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 20
    while not {200, 429, "RESOURCE_EXHAUSTED"} <= set(seen) and time.monotonic() < end:
        time.sleep(0.05)
    stopped.set()
    for thread in threads:
        thread.join()
    assert set(seen) == {200, 429, "RESOURCE_EXHAUSTED"}, seen
    assert 1 <= int(seen[429].headers["retry-after"]) <= 60
    assert re.fullmatch(r"\d+ sequences are waiting already; max_queue_rows is 2", seen[429].json()["error"])
    assert int(dict(seen["RESOURCE_EXHAUSTED"].trailing_metadata())["retry-after"]) >= 1


@pytest.mark.kserve
def test_a_grpc_deadline_reaches_the_model(narrow):
    with grpc.insecure_channel(f"127.0.0.1:{narrow.ports['grpc-port']}") as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(message(), timeout=0.003)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert stub.ModelInfer(message(), timeout=60).outputs
