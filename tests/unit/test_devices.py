"""Which device a model is loaded on: configured, offered by the host, or found; and how it computes there."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from bert_handler import Predictor
from bert_handler.engines import engine_class
from bert_handler.errors import ConfigError, DeadlineError
from bert_handler.loading import choose_device
from bert_handler.unpacking import unpack

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    ("engine", "configured", "offered", "chosen"),
    [
        ("torch", None, "cuda:1", "cuda:1"),
        ("torch", "cuda", "cuda:1", "cuda:1"),
        ("torch", "cuda:0", "cuda:1", "cuda:0"),
        ("torch", "cpu", "cuda:1", "cpu"),
        ("onnx", None, "cuda:1", "cpu"),
        ("onnx", None, None, "cpu"),
        ("openvino", None, "cuda:0", "cpu"),
        ("openvino", "cuda:0", None, "cuda:0"),
    ],
)
def test_an_offered_gpu_is_taken_by_engines_that_can_use_it(engine, configured, offered, chosen):
    assert choose_device(configured, offered, engine_class(engine)) == chosen


@pytest.mark.parametrize(
    ("architecture", "head", "device", "lanes"),
    [
        ("bert", "sequence_classification", "cpu", 3),
        ("bert", "sequence_classification", "cuda:0", 2),
        ("gpt2", "generation", "cuda:0", 1),
    ],
)
def test_a_gpu_computes_one_forward_and_makes_the_next_ready(zoo, load, architecture, head, device, lanes):
    torch = pytest.importorskip("torch")
    from bert_handler.engines.torch_engine import TorchEngine

    loaded = load(zoo(architecture, head), threads=3)
    engine = TorchEngine(loaded.engine.graph, torch.device(device))
    predictor = Predictor(loaded.task, engine, loaded.identity)
    predictor.close()
    assert predictor.scheduler.n_cores == lanes
    assert predictor.scheduler.limits.serial == (device != "cpu")


@pytest.fixture
def onnx_model(zoo, archived):
    return archived(zoo("bert", "sequence_classification"), engine="onnx")


def test_torchserve_on_a_gpu_host_runs_onnx_on_its_cpu(onnx_model, tmp_path):
    handler = pytest.importorskip("bert_handler.handler").TransformerHandler()
    unpack(onnx_model, tmp_path)
    properties = {"model_dir": str(tmp_path), "gpu_id": 0}
    handler.initialize(SimpleNamespace(system_properties=properties, manifest=None, model_yaml_config=None))
    assert handler.predictor.engine.device == "cpu"
    handler.predictor.close()


@pytest.mark.parametrize(
    ("engine", "device", "message"),
    [
        ("onnx", "cuda:0", "the onnx engine runs on the CPU; use engine: torch on a GPU"),
        ("torch", "cuda:99", "torch sees [0-9]+ GPU"),
        ("torch", "gpu", "device='gpu' is unknown; choose cpu, cuda or cuda:N"),
        ("torch", "meta", "device='meta' is unknown; choose cpu, cuda or cuda:N"),
        ("torch", "mps", "device='mps' is unknown; choose cpu, cuda or cuda:N"),
    ],
)
def test_a_configured_device_that_cannot_be_used_is_refused(onnx_model, engine, device, message):
    with pytest.raises(ConfigError, match=message):
        Predictor.load(onnx_model, engine=engine, device=device, environ={})


def test_a_token_without_an_embedding_is_found_before_a_gpu_meets_it(zoo, monkeypatch):
    torch = pytest.importorskip("torch")
    directory = zoo("bert", "sequence_classification", vocab_size=700)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"the tokenizer has ids up to [0-9]+, but the model has 700 embeddings"):
        Predictor.load(directory, device="cuda:0", environ={})


async def test_a_host_whose_device_has_failed_asks_to_be_started_again(load, zoo, monkeypatch):
    kserve_model = pytest.importorskip("bert_handler.kserve_model")
    from starlette.testclient import TestClient

    from bert_handler.server.asgi import Application
    from bert_handler.server.grpc import Servicer
    from bert_handler.server.guard import Guard
    from bert_handler.server.routes import Routes

    predictor = load(zoo("bert", "sequence_classification"))
    models = {"bert": kserve_model.LocalModel("bert", predictor)}
    client, servicer = TestClient(Application(Routes(lambda: models).routes(), Guard())), Servicer(lambda: models)
    paths = ["/v2/health/live", "/v2/health/ready", "/v2/models/bert/ready"]
    for lost, status in ((False, 200), (True, 503)):
        monkeypatch.setattr(predictor.engine, "lost", lost)
        assert [client.get(path).status_code for path in paths] == [status] * 3
        assert (await servicer.ServerLive(None, None)).live != lost
        assert (await servicer.ServerReady(None, None)).ready != lost


def test_explanations_of_a_batch_share_the_time_of_its_predictions(zoo, load, monkeypatch):
    """One begins when the one before it ends, and the answers leave together."""
    handler = pytest.importorskip("bert_handler.handler").TransformerHandler()
    handler.predictor = load(zoo("bert", "sequence_classification"))
    slow = handler.predictor.explainer._explain
    monkeypatch.setattr(handler.predictor.explainer, "_explain", lambda *given: (time.sleep(1), slow(*given))[1])
    explained = {"explain": "True"}
    headers = [{"x-request-timeout-ms": "500"}, explained, explained, {}]
    handler._identified = headers.__getitem__
    answers = handler.inference(handler.preprocess([{"body": b'{"text": "a fox", "deadline_ms": 1750}'}] * 4))
    refused = [answer.call.error for answer in answers]
    assert [type(error) for error in (refused[0], refused[3])] == [DeadlineError, type(None)]
    first, second = (answer.response.predictions[0] for answer in answers[1:3])
    assert first["explanation"]["words"]
    assert isinstance(second.error, DeadlineError)


def test_a_torchserve_worker_whose_device_has_failed_ends(onnx_model, tmp_path):
    handler = pytest.importorskip("bert_handler.handler").TransformerHandler()
    unpack(onnx_model, tmp_path)
    context = SimpleNamespace(system_properties={"model_dir": str(tmp_path)}, manifest=None, model_yaml_config=None)
    handler.initialize(context)
    assert handler.handle([], context) == []
    handler.predictor.engine.lost = True
    with pytest.raises(SystemExit):
        handler.handle([], context)
    handler.predictor.close()
