"""`bert-handler infer` and both clients against a real KServe host."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bert_handler.client.grpc import GrpcClient
from bert_handler.client.rest import Client
from bert_handler.errors import InvalidRequestError, ModelNotFoundError, NotReadyError, UnservableError
from tests.servers import kserve_server

SAMPLE = Path(__file__).parents[2] / "setup_config" / "bert-input-v2.json"
pytestmark = pytest.mark.kserve


@pytest.fixture(scope="module")
def server(zoo):
    with kserve_server(zoo("bert", "sequence_classification"), name="bert") as running:
        yield running


@pytest.fixture(params=["rest", "grpc"])
def client(request, server):
    if request.param == "rest":
        made = Client(server.url)
    else:
        made = GrpcClient(f"http://127.0.0.1:{server.ports['grpc-port']}")
    with made:
        yield made


def run(server, *words, **environ):
    command = [sys.executable, "-m", "bert_handler", "infer", "--url", server.url, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_both_transports_say_how_the_server_is(client):
    assert client.live() is True
    assert client.ready() is True
    assert client.ready("bert") is True
    assert client.ready("gpt") is False
    assert client.metadata()["name"] == "bert-handler"
    assert client.metadata("bert")["outputs"][0]["name"] == "predict"


def test_both_transports_give_the_same_answer(server):
    grpc_client = GrpcClient(f"http://127.0.0.1:{server.ports['grpc-port']}")
    texts = ["good film", {"text": "bad film"}]
    asked = {"outputs": ["predict", "score", "probabilities"], "id": "7"}
    with Client(server.url) as rest, grpc_client:
        over_rest, over_grpc = (client.infer("bert", texts, **asked).document for client in (rest, grpc_client))
        single = [client.send("bert", SAMPLE.read_bytes()).document for client in (rest, grpc_client)]
    for pair in zip(over_rest["outputs"], over_grpc["outputs"]):
        shapes = [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in pair]
        assert shapes[0] == shapes[1]
        flat = [json.dumps(tensor["data"]).replace("[", "").replace("]", "").split(",") for tensor in pair]
        for left, right in zip(*flat):
            assert left == right or float(left) == pytest.approx(float(right), rel=1e-6)
    assert over_rest["id"] == over_grpc["id"] == "7"
    assert single[0] == single[1]
    assert single[0]["outputs"][0]["shape"] == []


def test_both_transports_raise_the_servers_refusal(client):
    with pytest.raises(ModelNotFoundError, match="'gpt' is not served here; served: bert"):
        client.infer("gpt", "good")
    with pytest.raises(InvalidRequestError, match="scroe"):
        client.infer("bert", "good", outputs=["scroe"])


def test_grpc_says_what_it_cannot_do(server):
    with GrpcClient(f"http://127.0.0.1:{server.ports['grpc-port']}") as client:
        with pytest.raises(UnservableError, match="REST only"):
            client.models()
        with pytest.raises(UnservableError, match="REST only"):
            client.explain("bert", "good")
    with pytest.raises(NotReadyError):
        GrpcClient("http://127.0.0.1:9", retry=None).infer("bert", "good")


def test_command_prints_the_answer_and_the_timing_apart(server):
    done = run(server, "--model", "bert", "--text", "good", "--text", "bad", "--output", "score")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [(t["name"], t["shape"]) for t in answer["outputs"]] == [("score", [2])]
    assert done.stderr.startswith("answered in ")


def test_command_sends_a_file_lists_describes_and_checks(server):
    sent = run(server, "--model", "bert", "--file", str(SAMPLE))
    assert json.loads(sent.stdout)["id"] == "d3b15cad-50a2-4eaf-80ce-8b0a428bd298"
    assert json.loads(run(server, "--list").stdout) == {"models": ["bert"]}
    assert json.loads(run(server, "--metadata").stdout)["extensions"] == ["binary_tensor_data"]
    assert json.loads(run(server, "--ready", "--model", "bert").stdout) == {"ready": True}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "gpt", "--text", "x"], "404: model 'gpt' is not served here"),
        (["--model", "bert"], "give --text, or --file"),
        (["--text", "x"], "give --model"),
        (["--model", "bert", "--text", "x", "--parameter", "top_k"], "must be NAME=VALUE"),
    ],
)
def test_command_fails_with_the_reason(server, words, message):
    done = run(server, *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stdout == ""
