"""The command line: what it says, and with which exit code, when it is called wrong or cannot go on."""

from __future__ import annotations

import json
import socket
import zipfile

import pytest

from bert_handler.cli import main
from tests.servers import free_ports

TORCHSERVE_PORTS = ("inference-port", "metrics-port", "grpc-inference-port", "grpc-management-port")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Missing command"),
        (["serv"], "No such command 'serv'"),
        (["doctor", "--nope"], "--nope"),
        (["size"], "Missing option '--rps'"),
        (["size", "--rps", "many"], "Invalid value for '--rps'"),
        (["infer", "--url", "http://127.0.0.1:1", "--attempts", "0"], "Invalid value for '--attempts'"),
        (["infer", "--url", "http://127.0.0.1:1", "--timeout", "-1"], "Invalid value for '--timeout'"),
    ],
)
def test_a_wrong_call_is_said_in_short_with_exit_2(capsys, words, said):
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert len(shown.err.splitlines()) < 6


@pytest.mark.parametrize(
    "words",
    [
        "serve model --http-port 99999",
        "serve model --http-port 0",
        "serve model --grpc-port -1",
        "serve model --max-body-bytes 0",
        "serve model --grace-period-s -1",
        "torchserve model --inference-port 99999",
        "torchserve model --metrics-port 0",
        "torchserve model --workers 0",
        "torchserve model --batch-size 0",
        "torchserve model --max-batch-delay -1",
    ],
)
def test_ports_and_counts_have_bounds(capsys, words):
    assert main(words.split()) == 2
    assert f"Invalid value for '{words.split()[2]}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("serve model", "--http-port"),
        ("serve model", "--grpc-port"),
        ("serve --torchserve http://127.0.0.1:1", "--http-port"),
        ("torchserve model", "--inference-port"),
        ("torchserve model", "--metrics-port"),
        ("torchserve model", "--grpc-inference-port"),
        ("torchserve model", "--grpc-management-port"),
    ],
)
def test_a_port_in_use_is_found_before_the_model_is_looked_at(capsys, command, option):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ports = free_ports("http-port", "grpc-port") if command.startswith("serve") else free_ports(*TORCHSERVE_PORTS)
        words = [word for name, free in ports.items() for word in (f"--{name}", str(free))]
        assert main([*command.split(), *words, option, str(port)]) == 1
    assert capsys.readouterr().err == f"error: 127.0.0.1:{port} is in use; choose another {option}\n"


def test_two_servers_on_one_port_are_refused(capsys):
    port = str(free_ports("http-port")["http-port"])
    assert main(["serve", "model", "--http-port", port, "--grpc-port", port]) == 1
    assert capsys.readouterr().err == f"error: 127.0.0.1:{port} is in use; choose another --grpc-port\n"


def test_an_address_of_another_machine_is_named(capsys):
    assert main(["serve", "model", "--host", "192.0.2.1", "--http-port", "8123"]) == 1
    assert "192.0.2.1:8123 cannot be listened on: " in capsys.readouterr().err


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, with an empty input, and an archive that is nothing but a manifest."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").touch()
    (tmp_path / "in.txt").touch()
    (tmp_path / "latin").write_bytes("très".encode("latin-1"))
    manifest = {"model": {"modelName": "m", "modelVersion": "1.0", "handler": "handler.py"}}
    with zipfile.ZipFile("m.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("archive model --name m --export-path afile/store", "afile is no directory that can be written to"),
        ("archive model --name m --calibration latin", "latin is not UTF-8 text"),
        ("explain model --text a --html afile/why.html", "afile: File exists"),
        ("explain model --text a --html .", ".: Is a directory"),
        ("predict model --input in.txt --output afile/out.csv", "afile: File exists"),
        ("config m.mar -o .", ".: Is a directory"),
        ("demo-model afile", "afile: File exists"),
        ("keygen nodir/k", "nodir/k.key: No such file or directory"),
        ("deploy m.mar --name m -n n --pod p --claim c --config nofile", "nofile does not exist"),
        ("serve model --tls-cert nofile --tls-key afile", "nofile: No such file or directory"),
        ("serve model --tls-cert afile --tls-key afile", "afile and afile are no certificate chain and its key in PEM"),
        ("serve model --log-level loud", "log level 'loud' is unknown; choose from DEBUG, INFO"),
    ],
)
def test_files_that_cannot_be_used_are_named_before_the_work(capsys, here, words, said):
    assert main(words.split()) == 1
    assert f"error: {said}" in capsys.readouterr().err


def test_the_working_directory_is_called_by_its_name(capsys, here):
    assert main(["predict", ".", "--text", "a"]) == 1
    assert f"error: {here.name}/config.json is missing" in capsys.readouterr().err


def test_an_output_that_can_be_written_is_not_made_before_the_work(capsys, here):
    assert main(["explain", "model", "--text", "a", "--html", "new/why.html"]) == 1
    assert "model does not exist" in capsys.readouterr().err
    assert list((here / "new").iterdir()) == []
