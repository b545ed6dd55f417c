"""What the README shows is what the code does."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import setuptools
import yaml

import bert_handler
from bert_handler.cli import app, main
from bert_handler.packaging.settings import BATCH_DELAY_MS, BATCH_SIZE
from bert_handler.server.playground import playground_routes
from bert_handler.server.repository import Repository
from bert_handler.server.routes import Routes
from tests.readme import (
    README,
    block,
    command_line,
    errors_table,
    explanation_table,
    model_of,
    parameters_table,
    run_line,
    settings_table,
    tasks_table,
)

TEXT = README.read_text(encoding="utf-8")
OPTIONAL = ("setup_config.json", "index_to_name.json")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("settings", settings_table),
        ("parameters", parameters_table),
        ("explanation", explanation_table),
        ("errors", errors_table),
    ],
)
def test_tables_that_come_from_the_code(name: str, table: Callable[[], str]) -> None:
    assert block(name, TEXT) == table(), "run: python -m tests.readme"


def test_the_table_of_routes_has_them_all() -> None:
    table = TEXT.partition("| route |")[2].partition("\n\n")[0]
    written = re.findall(r"/[\w/{}:.\[\]]*", " ".join(re.findall(r"`([^`]*)`", table)))
    # [/part] may be there or not.
    shown = {re.sub(r"\[(.*?)\]", kept, path) for path in written for kept in (r"\1", "")}
    served = [*Routes(dict).routes(), *Repository({}, Path(), None).routes(), *playground_routes()]  # type: ignore[arg-type]
    paths = {re.sub(r":\w+}", "}", route.path) for route in served} | {"/metrics"}
    # A browser asks for these itself.
    assert paths - {"/v2/", "/ui/", "/ui/{name}"} == shown


def test_the_table_of_tasks_shows_real_answers(tmp_path: Path) -> None:
    table = tasks_table(lambda example: model_of(example, tmp_path / example.task))
    assert block("tasks", TEXT) == table, "run: python -m tests.readme"


def test_the_table_of_extras_has_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setuptools, "setup", lambda **metadata: None)
    extras = runpy.run_path(str(README.parent / "setup.py"))["EXTRAS"]
    table = TEXT.partition("| extra |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(extras)


def test_the_batches_of_torchserve_are_told() -> None:
    told = " ".join(TEXT.split())
    assert f"at most {BATCH_SIZE} requests together, and waits up to {BATCH_DELAY_MS} ms" in told


def test_every_command_shown_exists() -> None:
    import typer

    commands = typer.main.get_command(app).commands
    shown = re.findall(r"^bert-handler ((?:.*\\\n)*.*)$", TEXT, re.MULTILINE)
    assert len(shown) >= 7
    for line in shown:
        words = shlex.split(line.replace("\\\n", " "), comments=True)
        known = {
            option for parameter in commands[words[0]].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        for word in words[1:]:
            assert not word.startswith("--") or word.partition("=")[0] in known, f"bert-handler {words[0]}: {word}"


def test_the_size_that_is_told_is_what_the_command_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(command_line("bert-handler size"))[1:]) == 0
    said, told = capsys.readouterr().out, " ".join(TEXT.split())
    replicas, rate = re.search(r"(\d+) of 1 core", said), re.search(r"([\d.]+) requests/s, three", said)
    assert replicas
    assert rate
    assert f"says {replicas[1]} replicas of one core at {rate[1]} requests/s each" in told


def test_the_line_for_manifests_writes_one_that_can_be_applied(tmp_path: Path) -> None:
    done = run_line(command_line("bert-handler manifest"), tmp_path / "empty", timeout_s=60)
    assert done.returncode == 0, done.stderr
    (service,) = yaml.safe_load_all(done.stdout)
    assert (service["kind"], service["metadata"]["name"]) == ("InferenceService", "torchserve-bert-v2")
    assert service["spec"]["predictor"]["pytorch"]["storageUri"] == "pvc://task-pv-claim"
    assert list((tmp_path / "empty").iterdir()) == []


def test_the_line_for_the_stock_archiver_takes_the_models_files(tmp_path: Path) -> None:
    for folder in ("model", "tmp"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bert_handler").symlink_to(README.parent / "bert_handler")
    # What `demo-model model/` writes.
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", *OPTIONAL):
        (tmp_path / "model" / name).write_text("{}")
    words = shlex.split(command_line("torch-model-archiver --model-name").replace("\\\n", " "))
    words[0] = shutil.which(words[0], path=Path(sys.executable).parent) or words[0]
    subprocess.run(words, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}, check=True)
    with zipfile.ZipFile(tmp_path / "BERTSeqClassification.mar") as mar:
        assert {"config.json", "tokenizer.json", *OPTIONAL} <= set(mar.namelist())


def test_the_image_that_is_built_is_the_one_to_push_and_of_this_version() -> None:
    build, push = (shlex.split(line) for line in command_line("docker build").split(" && "))
    assert (README.parent / build[build.index("-f") + 1]).is_file()
    assert build[build.index("-t") + 1] == push[-1]
    assert push[-1].endswith(f"/bert-handler:{bert_handler.__version__}")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([\w./-]+)\)", TEXT))))
def test_every_link_leads_somewhere(path: str) -> None:
    assert (Path(README).parent / path).exists()
