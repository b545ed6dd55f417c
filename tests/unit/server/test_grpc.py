"""gRPC of the KServe host and the front, and what its client makes of the answers."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from bert_handler.client.grpc import GrpcClient
from bert_handler.client.messages import request_fields
from bert_handler.client.rest import Retry
from bert_handler.errors import InternalError, InvalidRequestError, NotReadyError, QueueFullError, RequestTooLargeError
from bert_handler.kserve_model import LocalModel
from bert_handler.protocols import error_reply
from bert_handler.schema import Reply
from bert_handler.server.grpc import Servicer, grpc_server, pb, pb_grpc
from bert_handler.server.guard import Guard
from bert_handler.server.repository import Repository

MAX_BODY_BYTES = 10_000


class Away:
    """Stands in for a model whose TorchServe does not answer, or is full."""

    async def metadata(self):
        raise NotReadyError("TorchServe does not describe 'away' yet")

    async def reply(self, body, headers, protocol):
        return error_reply(QueueFullError("64 sequences are waiting already", 7))


class Own:
    """Stands in for a model behind TorchServe whose handler answers in a form of its own, or for a defect."""

    def __init__(self, answer):
        self._answer = answer

    async def metadata(self):
        raise KeyError("secret")

    async def reply(self, body, headers, protocol):
        return Reply(self._answer)


@pytest.fixture
async def client(zoo, load):
    models = {"bert": LocalModel("bert", load(zoo("bert", "sequence_classification"))), "away": Away()}
    models |= {"own": Own(b'[{"labels": ["a"]}]'), "text": Own(b"Accepted")}
    server = grpc_server(Servicer(lambda: models), "127.0.0.1:0", Guard(), MAX_BODY_BYTES, None)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with GrpcClient(f"http://127.0.0.1:{port}", retry=Retry(attempts=2)) as made:
        made.waits = []
        made._sleep = made.waits.append
        yield made
    await server.stop(0)


async def test_a_message_that_is_too_large_is_not_sent_again(client):
    with pytest.raises(RequestTooLargeError, match="larger than max") as refused:
        await asyncio.to_thread(client.infer, "bert", "x" * 2 * MAX_BODY_BYTES)
    assert refused.value.status == 413
    assert client.waits == []


async def test_what_stays_on_this_machine_passes_no_proxy(client, monkeypatch):
    for name in ("http_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with GrpcClient(client.url, retry=Retry(attempts=1)) as direct:
        assert (await asyncio.to_thread(direct.metadata))["name"] == "bert-handler"


async def test_a_full_queue_is_asked_again_when_it_said(client):
    with pytest.raises(QueueFullError, match="waiting already"):
        await asyncio.to_thread(client.infer, "away", "x")
    assert client.waits == [7]


async def test_metadata_of_a_model_that_is_away_is_unavailable(client):
    with pytest.raises(NotReadyError, match="TorchServe does not describe 'away' yet"):
        await asyncio.to_thread(client.metadata, "away")


@pytest.mark.parametrize("model", ["own", "text"])
async def test_an_answer_that_is_not_v2_is_said_to_be_none(client, model):
    with pytest.raises(InternalError, match="did not answer in V2"):
        await asyncio.to_thread(client.infer, model, "x")


async def test_a_defect_says_nothing_of_itself(client):
    with pytest.raises(InternalError, match="internal error; the server's log has the details"):
        await asyncio.to_thread(client.metadata, "own")


async def test_models_are_loaded_and_unloaded_where_that_is_allowed(tmp_path):
    models = {}
    repository = Repository(models, tmp_path, lambda name, path: LocalStandIn())
    (tmp_path / "m.mar").touch()
    for guard, allowed in ((Guard(management=True), True), (Guard(), False)):
        server = grpc_server(Servicer(lambda: models, repository), "127.0.0.1:0", guard, MAX_BODY_BYTES, None)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = pb_grpc.GRPCInferenceServiceStub(channel)
            if allowed:
                loaded = await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="m"))
                assert (loaded.model_name, loaded.isLoaded, list(models)) == ("m", True, ["m"])
                unloaded = await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="m"))
                assert (unloaded.isUnloaded, models) == (True, {})
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="m"))
            assert refused.value.code().name == ("NOT_FOUND" if allowed else "PERMISSION_DENIED")
        await server.stop(0)


class LocalStandIn:
    """Of a model, what retiring it needs."""

    def stop(self):
        pass


async def test_an_unknown_parameter_of_an_output_is_named(client):
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    request = {"inputs": [tensor], "outputs": [{"name": "predict", "parameters": {"classification": 2}}]}
    with pytest.raises(InvalidRequestError, match=r"outputs\[0\]\.parameters: unknown parameter 'classification'"):
        await asyncio.to_thread(client.send, "bert", request)


@pytest.mark.parametrize("wanted", [True, False])
async def test_every_output_is_binary_over_grpc(client, wanted):
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    request = {"inputs": [tensor], "outputs": [{"name": "score", "parameters": {"binary_data": wanted}}]}
    answer = await asyncio.to_thread(client.send, "bert", request)
    assert len(answer["score"]) == 1


@pytest.mark.parametrize(
    ("stated", "data", "shape"),
    [
        (-1, [[2, 5, 3], [2, 6, 3]], [2, 3]),
        (-1, [2, 5, 3], [3]),
        ([2, -1], [[2, 5, 3], [2, 6, 3]], [2, 3]),
    ],
)
def test_tensors_keep_the_shape_of_their_lists(stated, data, shape):
    tensor = {"name": "input_ids", "shape": stated, "datatype": "INT64", "data": data}
    assert list(request_fields({"inputs": [tensor]})["inputs"][0]["shape"]) == shape


def test_a_shape_that_the_lists_contradict_is_not_sent():
    tensor = {"name": "input_ids", "shape": [6], "datatype": "INT64", "data": [[2, 5, 3], [2, 6, 3]]}
    with pytest.raises(
        InvalidRequestError, match=r"inputs\[0\]\.shape \[6\] does not fit its data, nested as \[2, 3\]"
    ):
        request_fields({"inputs": [tensor]})


def test_a_request_is_sent_as_it_is():
    tensor = {"name": "t", "shape": [1], "datatype": "BYTES", "data": ["a"], "parameters": {"top_k": 2}}
    fields = request_fields({"id": None, "inputs": [tensor], "outputs": None, "parameters": None})
    assert fields["id"] == ""
    assert (fields["inputs"][0]["parameters"], fields["parameters"]) == ({"top_k": {"int64_param": 2}}, {})
    assert fields["outputs"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": []}, "unknown key 'output'; did you mean 'outputs'?"),
        ({"id": 7}, "id must be a string, not an integer"),
        ({"parameters": []}, "parameters must be an object, not a list"),
        (
            {"inputs": [{"name": "t", "datatype": "BYTES", "data": [], "shapes": [1]}]},
            r"inputs\[0\]: unknown key 'shapes'",
        ),
        ({"outputs": [{"name": "predict", "parameters": 1}]}, r"outputs\[0\]\.parameters must be an object"),
    ],
)
def test_what_a_message_cannot_say_is_refused(change, message):
    tensor = {"name": "t", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    with pytest.raises(InvalidRequestError, match=message):
        request_fields({"inputs": [tensor], **change})


async def test_nested_tokens_are_as_many_instances_as_lists(client):
    tensor = {"name": "input_ids", "shape": -1, "datatype": "INT64", "data": [[2, 5, 3], [2, 6, 3]]}
    answer = await asyncio.to_thread(client.send, "bert", {"inputs": [tensor]})
    assert len(answer["predict"]) == 2


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
async def test_models_are_not_loaded_without_a_repository(client, method, caplog):
    request = getattr(pb, f"{method}Request")(model_name="bert")
    with pytest.raises(grpc.RpcError) as refused:
        await asyncio.to_thread(getattr(pb_grpc.GRPCInferenceServiceStub(client._channel), method), request)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "--enable-repository" in refused.value.details()
    assert not caplog.records
