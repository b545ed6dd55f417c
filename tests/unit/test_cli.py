"""The command line: what it says, and with which exit code, when it is called wrong or cannot go on."""

from __future__ import annotations

import json
import zipfile

import pytest

from bert_handler.cli import main


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


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory: a file, a text that is not UTF-8, an archive without a manifest, one with no more."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").touch()
    (tmp_path / "latin").write_bytes("très".encode("latin-1"))
    manifest = {"model": {"modelName": "m", "modelVersion": "1.0", "handler": "handler.py"}}
    for name, file, content in (("bare", "config.json", {}), ("m", "MAR-INF/MANIFEST.json", manifest)):
        with zipfile.ZipFile(f"{name}.mar", "w") as archive:
            archive.writestr(file, json.dumps(content))
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
        ("deploy m.mar --name m -n n --pod p --claim c --config nofile", "nofile: No such file or directory"),
        ("serve model --tls-cert nofile --tls-key afile", "nofile: No such file or directory"),
        ("serve model --tls-cert afile --tls-key afile", "afile and afile are no certificate chain and its key in PEM"),
        ("serve model --log-level loud", "log level 'loud' is unknown; choose from DEBUG, INFO"),
        ("torchserve bare.mar", "bare.mar has no MAR-INF/MANIFEST.json, which TorchServe needs"),
    ],
)
def test_files_that_cannot_be_used_are_named_before_the_work(capsys, here, words, said):
    assert main(words.split()) == 1
    assert f"error: {said}" in capsys.readouterr().err


def test_an_output_that_can_be_written_is_not_made_before_the_work(capsys, here):
    assert main(["explain", "model", "--text", "a", "--html", "new/why.html"]) == 1
    assert "model does not exist" in capsys.readouterr().err
    assert list((here / "new").iterdir()) == []
