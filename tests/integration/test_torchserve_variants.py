"""What people do with TorchServe besides our own archive: the stock archiver, subclasses, envelopes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import bert_handler
from bert_handler.packaging.settings import RegisteredModel, TorchServeSettings
from tests.contract.bodies import BAD, GOOD, SEED, tensor, v2
from tests.servers import RunningServer, free_ports, torchserve_of

pytestmark = pytest.mark.torchserve

SUBCLASS = """
from bert_handler import TransformerHandler


class LowerCased(TransformerHandler):
    def postprocess(self, data):
        return [{"labels": [p["predict"].lower() for p in answer.response.predictions]} for answer in data]
"""


def stock_archive(model_dir: Path, name: str, handler: Path, store: Path) -> None:
    """The seed's own command, with the package installed beside TorchServe."""
    extra = ["config.json", "setup_config.json", "index_to_name.json", "tokenizer.json", "tokenizer_config.json"]
    archiver = shutil.which("torch-model-archiver", path=Path(sys.executable).parent) or "torch-model-archiver"
    subprocess.run(
        [
            *(archiver, "--model-name", name, "--version", "1.0", "--handler", handler),
            *("--serialized-file", model_dir / "model.safetensors", "--export-path", store),
            *("--extra-files", ",".join(str(model_dir / file) for file in extra)),
        ],
        check=True,
    )


@pytest.fixture(scope="module")
def server(demo_dir: Path, demo_mar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Three archives on one TorchServe whose service envelope is kservev2, as in KServe's v2 pods."""
    work_dir = tmp_path_factory.mktemp("torchserve")
    store = work_dir / "store"
    store.mkdir()
    shutil.copy(demo_mar, store)
    stock_archive(demo_dir, "stock", Path(bert_handler.__file__).parent / "handler.py", store)
    (work_dir / "lower_cased.py").write_text(SUBCLASS)
    stock_archive(demo_dir, "subclass", work_dir / "lower_cased.py", store)
    models = {"bert": "BERTSeqClassification.mar", "stock": "stock.mar", "subclass": "subclass.mar"}
    ports = free_ports("inference_port", "metrics_port", "grpc_inference_port", "grpc_management_port")
    settings = TorchServeSettings(
        {name: RegisteredModel(archive, max_batch_delay_ms=50) for name, archive in models.items()},
        model_store=str(store),
        host="127.0.0.1",
        extra={"service_envelope": "kservev2"},
        **ports,
    )
    with torchserve_of(settings, ports, work_dir) as running:
        yield running


def test_a_single_request_through_the_kservev2_envelope(server: RunningServer) -> None:
    answer = server.infer("bert", json.dumps(SEED), content_type="application/json").json()
    assert answer["id"] == SEED["id"]
    assert answer["outputs"] == [{"name": "predict", "shape": [], "datatype": "BYTES", "data": ["Not Accepted"]}]


def test_a_batch_through_the_kservev2_envelope_keeps_every_caller(server: RunningServer) -> None:
    from concurrent.futures import ThreadPoolExecutor

    bodies = [json.dumps({**v2(tensor([text], [1])), "id": str(i)}) for i, text in enumerate([GOOD, BAD] * 4)]
    with ThreadPoolExecutor(8) as pool:
        answers = [answer.json() for answer in pool.map(lambda body: server.infer("bert", body), bodies)]
    assert [answer["id"] for answer in answers] == list("01234567")
    assert [answer["outputs"][0]["data"] for answer in answers] == [["Accepted"], ["Not Accepted"]] * 4


def test_an_archive_of_the_stock_archiver_answers_alike(server: RunningServer) -> None:
    stock = server.infer("stock", json.dumps(SEED), content_type="application/json").json()
    ours = server.infer("bert", json.dumps(SEED), content_type="application/json").json()
    assert stock["model_name"] == "stock"
    assert stock["outputs"] == ours["outputs"]


def test_a_subclass_overrides_postprocess(server: RunningServer) -> None:
    response: httpx.Response = server.infer("subclass", json.dumps(v2(tensor([GOOD, BAD], [2]))))
    assert response.json() == {"labels": ["accepted", "not accepted"]}
