"""`serve`: what it refuses before a model is loaded."""

from __future__ import annotations

import sys

import pytest

from bert_handler.cli import main


@pytest.mark.parametrize(
    "options",
    [
        "--engine onnx",
        "--device cpu",
        "--require-signature release.pub",
        "--trust-remote-code",
        "--enable-repository store",
    ],
)
def test_options_of_a_model_are_refused_where_torchserve_has_it(capsys, options):
    assert main(["serve", "--torchserve", "http://127.0.0.1:1", *options.split()]) == 1
    said = f"error: {options.split()[0]}: the models are TorchServe's, and so are their settings\n"
    assert capsys.readouterr().err == said


def test_options_of_torchserve_go_with_it(capsys):
    assert main(["serve", "model", "--torchserve-key-file", "key_file.json"]) == 1
    assert capsys.readouterr().err == "error: --torchserve-key-file: goes with --torchserve\n"


@pytest.mark.parametrize("url", ["127.0.0.1:8085", "localhost", "http://", "ftp://a", "http://a:port", "http:///x"])
def test_an_address_of_torchserve_has_scheme_and_host(capsys, url):
    assert main(["serve", "--torchserve", url]) == 1
    assert f"--torchserve {url!r} is no address; give one like http://127.0.0.1:8085" in capsys.readouterr().err


def test_a_repository_that_is_not_there_is_named(capsys):
    assert main(["serve", "model", "--enable-repository", "nodir"]) == 1
    assert capsys.readouterr().err == "error: --enable-repository nodir is no directory\n"


def test_without_kserve_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "kserve", None)
    assert main(["serve", "model"]) == 1
    assert "kserve is not installed" in capsys.readouterr().err
