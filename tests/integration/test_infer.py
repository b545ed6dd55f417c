"""`bert-handler infer` and both clients against a real KServe host."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bert_handler.cli import main
from bert_handler.client.base import Retry
from bert_handler.client.grpc import GrpcClient
from bert_handler.client.rest import Client
from bert_handler.errors import InvalidRequestError, ModelNotFoundError, NotReadyError, UnservableError

SAMPLE = Path(__file__).parents[2] / "setup_config" / "bert-input-v2.json"
pytestmark = pytest.mark.kserve


@pytest.fixture(params=["rest", "grpc"])
def client(request, kserve_host):
    if request.param == "rest":
        made = Client(kserve_host.url)
    else:
        made = GrpcClient(f"http://127.0.0.1:{kserve_host.ports['grpc-port']}")
    with made:
        yield made


def test_both_transports_say_how_the_server_is(client):
    assert client.live() is True
    assert client.ready() is True
    assert client.ready("bert") is True
    assert client.ready("gpt") is False
    assert client.metadata()["name"] == "bert-handler"
    assert client.metadata("bert")["outputs"][0]["name"] == "predict"


def test_both_transports_give_the_same_answer(kserve_host):
    grpc_client = GrpcClient(f"http://127.0.0.1:{kserve_host.ports['grpc-port']}")
    texts = ["good film", {"text": "bad film"}]
    asked = {"outputs": ["predict", "score", "probabilities"], "id": "7"}
    with Client(kserve_host.url) as rest, grpc_client:
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


def test_grpc_says_what_it_cannot_do(kserve_host):
    with GrpcClient(f"http://127.0.0.1:{kserve_host.ports['grpc-port']}") as client:
        with pytest.raises(UnservableError, match="REST only"):
            client.models()
        with pytest.raises(UnservableError, match="REST only"):
            client.explain("bert", "good")
    with pytest.raises(NotReadyError):
        GrpcClient("http://127.0.0.1:9", retry=Retry(attempts=1)).infer("bert", "good")


def test_command_prints_the_answer_and_the_timing_apart(kserve_host):
    command = [sys.executable, "-m", "bert_handler", "infer", "--url", kserve_host.url, "--model", "bert"]
    words = ["--text", "good", "--text", "bad", "--output", "score"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [(t["name"], t["shape"]) for t in answer["outputs"]] == [("score", [2])]
    assert done.stderr.startswith("answered in ")


def test_command_sends_a_file_lists_describes_and_checks(kserve_host, capsys):
    def printed(*words):
        assert main(["infer", "--url", kserve_host.url, *words]) == 0
        return json.loads(capsys.readouterr().out)

    assert printed("--model", "bert", "--file", str(SAMPLE))["id"] == "d3b15cad-50a2-4eaf-80ce-8b0a428bd298"
    assert printed("--list") == {"models": ["bert"]}
    assert printed("--metadata")["extensions"] == ["binary_tensor_data"]
    assert printed("--ready", "--model", "bert") == {"ready": True}


def refused(capsys, url, words):
    assert main(["infer", "--url", url, *words]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_command_fails_with_the_servers_reason(kserve_host, capsys):
    said = refused(capsys, kserve_host.url, ["--model", "gpt", "--text", "x"])
    assert "404: model 'gpt' is not served here" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "bert"], "give --text, or --file"),
        (["--text", "x"], "give --model"),
        (["--model", "bert", "--text", "x", "--parameter", "top_k"], "must be NAME=VALUE"),
    ],
)
def test_command_refuses_before_it_asks_a_server(capsys, words, message):
    assert message in refused(capsys, "http://127.0.0.1:9", words)
