"""Which Python the scripts set up, and what doctor says of it and of GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bert_handler.cli import app

ROOT = Path(__file__).parents[2]
FAST = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
SLOW = f"""#!/bin/sh
[ "$1" = -c ] && case $2 in *perf_counter*) echo 9.0 "$0"; exit ;; esac
exec {sys.executable} "$@"
"""
OLD = '#!/bin/sh\nexec echo "this Python is too old" >&2\n'


def find_python(directories, **environ):
    path = ":".join([*map(str, directories), "/usr/bin", "/bin"])
    words = ["bash", "-c", f"set -euo pipefail; source {ROOT}/scripts/environment.sh; find_python"]
    environ = {**os.environ, "PATH": path, **environ}
    return subprocess.run(words, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def python(tmp_path):
    def make(directory, text, name="python3.11"):
        (tmp_path / directory).mkdir(exist_ok=True)
        file = tmp_path / directory / name
        file.write_text(text)
        file.chmod(0o755)
        return file

    return make


def test_the_fastest_of_several_is_taken(python):
    slow, fast, old = python("a", SLOW), python("b", FAST), python("c", OLD)
    found = find_python([slow.parent, old.parent, fast.parent])
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() != str(slow)
    assert Path(found.stdout.strip()).exists()


def test_one_that_is_named_is_taken_though_others_are_faster(python):
    slow, fast = python("a", SLOW), python("b", FAST)
    assert find_python([fast.parent], PYTHON=str(slow)).stdout.strip() == str(slow)


def test_directories_may_have_spaces_in_their_names(python):
    slow = python("a name of words", SLOW)
    assert find_python([], PYTHON=str(slow)).stdout.strip() == str(slow)
    only = python("on the path", SLOW.replace("9.0", "0.0001"))
    assert find_python([only.parent]).stdout.strip() == str(only)


@pytest.mark.parametrize("named", ["/no/such/python", "old"])
def test_one_that_is_named_and_cannot_be_used_is_refused(python, named):
    named = str(python("a", OLD)) if named == "old" else named
    found = find_python([], PYTHON=named)
    assert found.returncode == 1
    assert f"no Python of 3.11 or newer that makes virtual environments at PYTHON={named}" in found.stderr


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
    ("script", "profile"),
    [
        ("demo", "demo"),
        ("cpu_timeout", "test"),
        ("screenshots", "test"),
        ("soak", "test"),
        ("train_demo", "test"),
    ],
)
def test_a_script_sets_up_what_it_runs_in(tmp_path, script, profile):
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / script, tmp_path / "scripts")
    (tmp_path / "scripts" / "environment.sh").write_text('environment() { echo "$1"; exit; }\n')
    found = subprocess.run([tmp_path / "scripts" / script], capture_output=True, text=True, check=False)
    assert found.stdout == f"{profile}\n", found.stderr


def test_what_the_demo_shows_is_set_up(tmp_path):
    code = (
        f"source {ROOT}/scripts/environment.sh; ROOT={tmp_path}; cd $ROOT; pip_install() {{ echo $*; }}\n"
        'make_venv() { mkdir -p "$1/bin"; }; environment demo'
    )
    found = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert f"-e {tmp_path}[torch,kserve,torchserve,demo,explain]" in found.stdout


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
