"""`doctor`: what is installed, what is missing and how to get it, and what would be used."""

from __future__ import annotations

import json
import runpy
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
import setuptools
from typer.testing import CliRunner

import bert_handler
from bert_handler import memory
from bert_handler.cli import app, main
from bert_handler.commands.doctor import EXTRAS


@pytest.fixture
def found(capsys):
    def get():
        assert main(["doctor", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return get


def test_it_knows_every_extra_and_its_packages(monkeypatch):
    monkeypatch.setattr(setuptools, "setup", lambda **metadata: None)
    stated = runpy.run_path(str(Path(bert_handler.__file__).parents[1] / "setup.py"))["EXTRAS"]
    names = {
        extra: tuple(item.partition("<")[0].partition(">")[0].partition("=")[0] for item in items)
        for extra, items in stated.items()
        if extra != "dev"
    }
    assert {**EXTRAS, "torchserve": (*EXTRAS["torchserve"], "setuptools")} == names


def test_own_version_and_limits_are_said(found, monkeypatch):
    monkeypatch.setattr(memory, "memory_limit", lambda: 3 * 2**30)
    rows = found()
    assert rows["bert-handler"] == bert_handler.__version__
    assert rows["memory"] == "3072Mi by cgroup limit"
    monkeypatch.setattr(memory, "memory_limit", lambda: None)
    assert found()["memory"].endswith("Mi of the machine, no cgroup limit")


def test_a_missing_extra_says_what_to_install(found, monkeypatch):
    def version(package):
        if package in {"onnx", "captum", "ray"}:
            raise metadata.PackageNotFoundError
        return "1.2"

    monkeypatch.setattr(metadata, "version", version)
    rows = found()
    assert rows["torch"] == "torch 1.2, transformers 1.2"
    assert rows["explain"] == "missing: pip install captum"
    assert rows["onnx"] == "missing: pip install onnx"
    assert rows["ray"] == "missing: pip install 'ray[data]'"


def test_what_would_be_used_has_its_reason(found, monkeypatch):
    for name in ("ENGINE", "DEVICE", "THREADS"):
        monkeypatch.delenv(f"BERT_HANDLER_{name}", raising=False)
    rows = found()
    assert rows["engine"] == "torch, where an archive carries no other"
    monkeypatch.setenv("BERT_HANDLER_ENGINE", "onnx")
    monkeypatch.setenv("BERT_HANDLER_DEVICE", "cpu")
    monkeypatch.setenv("BERT_HANDLER_THREADS", "7")
    rows = found()
    assert rows["engine"] == "onnx by BERT_HANDLER_ENGINE"
    assert rows["device"] == "cpu by BERT_HANDLER_DEVICE"
    assert rows["cores to compute on"] == "7: threads=7 is configured"


@pytest.mark.parametrize(
    ("built", "names", "said"),
    [
        (True, ["A10G", "A10G"], ["cuda:0: A10G", "cuda:1: A10G"]),
        (True, [], ["cpu; torch sees no GPU"]),
        (False, [], ["this torch is built without CUDA"]),
    ],
)
def test_doctor_lists_all_gpus_or_says_why_there_is_none(monkeypatch, built, names, said):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", names.__getitem__)
    result = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert all(words in result.output for words in said)


@pytest.mark.parametrize(
    ("options", "prefix", "said"),
    [
        ("'--prefix=/opt/python'", "/opt/python", True),
        ("'--prefix=/opt/python' '--enable-optimizations'", "/opt/python", False),
        ("'--prefix=/usr'", "/usr", False),
        (None, "C:\\Python", False),
    ],
)
def test_doctor_says_where_python_was_built_without_optimisation(monkeypatch, options, prefix, said):
    monkeypatch.setattr(sysconfig, "get_config_var", {"CONFIG_ARGS": options}.get)
    monkeypatch.setattr(sys, "base_prefix", prefix)
    result = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert ("built without --enable-optimizations" in result.output) == said


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo Picked up JAVA_TOOL_OPTIONS: -Xmx1g\necho 'own version \"17\"'", 'own version "17"'),
        ("echo 'Error: could not find libjava.so'\nexit 1", "Error: could not find libjava.so"),
        ("exit 1", "unknown"),
    ],
)
def test_java_is_the_one_that_runs_torchserve(found, monkeypatch, tmp_path, script, said):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\nexec >&2\n{script}\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert found()["java (TorchServe)"] == said
