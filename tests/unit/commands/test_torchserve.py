"""`torchserve`: what it registers, and under which settings it runs."""

from __future__ import annotations

import shutil
import zipfile

import pytest

from bert_handler.cli import main
from bert_handler.packaging import mar
from bert_handler.packaging import torchserve as packaging_torchserve
from bert_handler.packaging.mar import Built
from bert_handler.predictor import Predictor
from tests.servers import free_ports


@pytest.fixture
def ports():
    names = ("inference-port", "metrics-port", "grpc-inference-port", "grpc-management-port")
    return [word for name, port in free_ports(*names).items() for word in (f"--{name}", str(port))]


def test_an_archive_without_a_manifest_is_refused(capsys, tmp_path, ports):
    with zipfile.ZipFile(tmp_path / "bare.mar", "w") as archive:
        archive.writestr("config.json", "{}")
    assert main(["torchserve", str(tmp_path / "bare.mar"), *ports]) == 1
    assert "bare.mar has no MAR-INF/MANIFEST.json, which TorchServe needs" in capsys.readouterr().err


@pytest.fixture
def registered(monkeypatch, ports, tmp_path):
    """`registered(target, *options)`: name in the archive, name in the routes and snapshot entry; nothing is run."""

    def run(target, *options):
        said = {}

        def build(model_dir, name, version, export_path, **rest):
            said.update(name=name)
            return Built(export_path / f"{name}.mar", 0, "")

        monkeypatch.setattr(mar, "build", build)
        monkeypatch.setattr(packaging_torchserve, "run", lambda settings, work_dir: said.update(settings=settings) or 0)
        assert main(["torchserve", str(target), *ports, *options]) == 0
        ((route, model),) = said["settings"].models.items()
        return said["name"], route, model.snapshot()

    return run


@pytest.fixture(params=["", '{"model_name": "Stated"}'])
def directory(request, tmp_path, zoo):
    """A model directory with a name that no archive may have."""
    path = shutil.copytree(zoo("bert", "sequence_classification"), tmp_path / "my model")
    if request.param:
        (path / "setup_config.json").write_text(request.param)
    return path


def test_a_directory_has_the_same_name_on_both_hosts(registered, directory):
    with Predictor.load(directory, device="cpu") as predictor:
        own = predictor.identity.name
    assert own == ("Stated" if (directory / "setup_config.json").is_file() else "my-model")
    assert registered(directory)[:2] == (own, own)
    assert registered(directory, "--name", "bert")[:2] == (own, "bert")


def test_a_hubs_name_is_made_one_part_of_a_path(registered, directory):
    (directory / "setup_config.json").write_text('{"model_name": "owner/model"}')
    assert registered(directory)[:2] == ("owner-model", "owner-model")


def test_options_reach_the_registration(registered, directory):
    snapshot = registered(directory, "--workers", "2", "--batch-size", "4", "--max-batch-delay", "0")[2]
    assert (snapshot["maxWorkers"], snapshot["batchSize"], snapshot["maxBatchDelay"]) == (2, 4, 0)
    snapshot = registered(directory)[2]
    assert (snapshot["maxWorkers"], snapshot["batchSize"], snapshot["maxBatchDelay"]) == (1, 32, 3)


@pytest.mark.parametrize(
    "options", ["--name other", "--workers 1", "--batch-size 32", "--max-batch-delay 3", "--token-auth"]
)
def test_options_that_a_pod_has_settled_are_refused(capsys, tmp_path, ports, options):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.properties").touch()
    assert main(["torchserve", str(tmp_path), *ports, *options.split()]) == 1
    said = f"{options.split()[0]}: {tmp_path}/config/config.properties settles it for this pod"
    assert said in capsys.readouterr().err
