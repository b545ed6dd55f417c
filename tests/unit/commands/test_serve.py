"""`serve`: what it refuses before a model is loaded, and what it finds in a folder."""

from __future__ import annotations

import sys

import pytest

from bert_handler.cli import main
from bert_handler.errors import ConfigError
from bert_handler.packaging.model_store import models_of


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


def test_the_only_archive_of_a_folder_is_served(tmp_path):
    (tmp_path / "a.mar").touch()
    assert models_of(tmp_path) == {None: tmp_path / "a.mar"}
    assert models_of(tmp_path, "bert") == {"bert": tmp_path / "a.mar"}


def test_one_of_several_archives_has_to_be_named(tmp_path):
    for name in ("b.mar", "a.mar"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError) as caught:
        models_of(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds a.mar, b.mar: name one, or write the settings with: bert-handler config"
    )
