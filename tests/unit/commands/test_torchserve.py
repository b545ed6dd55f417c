"""`torchserve`: what it registers, and under which settings it runs."""

from __future__ import annotations

import zipfile

import pytest

from bert_handler.cli import main
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
