"""Which Python the scripts set up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[2]
SLOW = f"""#!/bin/sh
[ "$1" = -c ] && case $2 in *perf_counter*) echo 9.0 "$0"; exit ;; esac
exec {sys.executable} "$@"
"""
FASTEST = SLOW.replace("9.0", "0.0001")
OPTION = re.compile(r"--[a-z][a-z-]*")
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
    slow, fastest, old = python("a", SLOW), python("b", FASTEST), python("c", OLD)
    found = find_python([slow.parent, old.parent, fastest.parent])
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == str(fastest)


def test_one_that_is_named_is_taken_though_others_are_faster(python):
    slow, faster = python("a", SLOW), python("b", FASTEST)
    assert find_python([faster.parent], PYTHON=str(slow)).stdout.strip() == str(slow)


def test_directories_may_have_spaces_in_their_names(python):
    slow = python("a name of words", SLOW)
    assert find_python([], PYTHON=str(slow)).stdout.strip() == str(slow)
    only = python("on the path", FASTEST)
    assert find_python([only.parent]).stdout.strip() == str(only)


@pytest.mark.parametrize("named", ["/no/such/python", "old"])
def test_one_that_is_named_and_cannot_be_used_is_refused(python, named):
    named = str(python("a", OLD)) if named == "old" else named
    found = find_python([], PYTHON=named)
    assert found.returncode == 1
    assert f"no Python of 3.11 or newer that makes virtual environments at PYTHON={named}" in found.stderr


def copied(script, directory):
    """A copy of a script which says what it would set up, and ends there."""
    scripts = directory / "scripts"
    scripts.mkdir()
    setup = (ROOT / "scripts" / "environment.sh").read_text()
    (scripts / "environment.sh").write_text(setup + 'environment() { echo "$1"; exit; }\n')
    return shutil.copy(ROOT / "scripts" / script, scripts)


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
    found = subprocess.run([copied(script, tmp_path)], capture_output=True, text=True, check=False)
    assert found.stdout == f"{profile}\n", found.stderr


def run_alone(directory, script, *words, **environ):
    """Run a copy of a script that sets nothing up: it says what it would set up, or `ran` where it goes on at once."""
    copy = copied(script, directory)
    (directory / "bin").mkdir()
    (directory / "bin" / "python").write_text("#!/bin/sh\necho ran\n")
    (directory / "bin" / "python").chmod(0o755)
    own = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    path = f"{directory}/bin:{os.environ['PATH']}"
    done = subprocess.run(
        [copy, *words], env={**own, "PATH": path, **environ}, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(("active", "said"), [(".venv", "test\n"), ("other", "ran\n")])
def test_the_clones_own_environment_is_completed_for_the_benchmark(tmp_path, active, said):
    assert run_alone(tmp_path, "benchmark", VIRTUAL_ENV=str(tmp_path / active)) == said


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("benchmark", ["--quick"]),
        ("benchmark", ["--help"]),
        ("cpu_timeout", ["-h"]),
        ("cpu_timeout", ["service", "--help"]),
        ("soak", ["--help"]),
        ("train_demo", ["evaluate", "--help"]),
    ],
)
def test_help_waits_for_no_environment(tmp_path, script, words):
    first = (ROOT / "scripts" / script).read_text().splitlines()[1].removeprefix("# ")
    asked = words[-1] in {"-h", "--help"}
    assert run_alone(tmp_path, script, *words).splitlines()[0] == (first if asked else "test")


@pytest.mark.parametrize("module", ["cpu_timeout", "train_demo"])
def test_help_names_every_option(module):
    commands = typer.main.get_command(import_module(f"scripts.{module}").app).commands
    header = (ROOT / "scripts" / module).read_text()
    parts = dict(re.findall(r"^#   (\w+) (.*\n(?:#    .*\n)*)", header, flags=re.MULTILINE))
    assert {name: set(OPTION.findall(part)) for name, part in parts.items()} == {
        name: {option.opts[0] for option in command.params if option.param_type_name == "option"}
        for name, command in commands.items()
    }


@pytest.mark.parametrize(
    ("script", "source"), [("benchmark", "scripts/benchmark_suite/__main__.py"), ("soak", "tests/soak/__main__.py")]
)
def test_help_of_a_script_without_commands_does_too(script, source):
    header = (ROOT / "scripts" / script).read_text().partition("\nset ")[0]
    added = re.findall(r'add_argument\("(.+?)"', (ROOT / source).read_text())
    assert set(OPTION.findall(header)) == set(added)


def test_the_local_pods_archive_is_found_from_where_it_is_called(tmp_path):
    copy = copied("local_pod", tmp_path)
    programs, here = tmp_path / "bin", tmp_path / "my models"
    for directory in (programs, here):
        directory.mkdir()
    for name in ("java", "nginx"):
        (programs / name).symlink_to("/bin/true")
    # The first that is asked for: what is in the store, and no more.
    (programs / "bert-handler").write_text('#!/bin/sh\ncat "${2#bert=}"\nexit 3\n')
    (programs / "bert-handler").chmod(0o755)
    (here / "own.mar").write_text("own")
    environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "LC_ALL": "C"}
    for given, status, said in (("own.mar", 3, "own"), (here / "own.mar", 3, "own"), ("no.mar", 1, "")):
        words = [copy, "--archive", given]
        found = subprocess.run(words, cwd=here, env=environ, capture_output=True, text=True, check=False)
        assert (found.returncode, found.stdout) == (status, said), found.stderr
    assert "no.mar: No such file or directory" in found.stderr


def test_what_the_demo_shows_is_set_up(tmp_path):
    code = (
        f"source {ROOT}/scripts/environment.sh; ROOT={tmp_path}; cd $ROOT; pip_install() {{ echo $*; }}\n"
        'make_venv() { mkdir -p "$1/bin"; }; environment demo'
    )
    found = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert f"-e {tmp_path}[torch,kserve,torchserve,demo,explain]" in found.stdout
