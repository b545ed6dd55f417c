"""What is unpacked is gone with its process, and with the next one where it was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from bert_handler import scratch
from bert_handler.artifact import Artifact
from bert_handler.packaging.mar import build
from bert_handler.scratch import LOCK, PREFIX, Scratch
from tests.servers import free_ports

LOADING = """
import sys, time
from bert_handler.cli import main
from bert_handler.predictor import Predictor
def load(artifact, **options):
    print(artifact.directory, flush=True)
    time.sleep(60)
Predictor.load = load
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The temporary directory of this test alone."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture(scope="module")
def mar(zoo, tmp_path_factory):
    return build(zoo("bert", "sequence_classification"), "tiny", "1.0", tmp_path_factory.mktemp("store")).path


@pytest.fixture
def serving(mar, temporary):
    """`bert-handler serve` of an archive that is unpacked, and does not come to an end with loading."""
    ports = [f"--{name}={port}" for name, port in free_ports("http-port", "grpc-port").items()]
    environ = {**os.environ, "TMPDIR": str(temporary)}
    words = [sys.executable, "-c", LOADING, "serve", str(mar), *ports]
    process = subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert str(temporary) in process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_sigterm_while_loading_removes_what_is_unpacked(serving, temporary):
    assert len(list(temporary.iterdir())) == 1
    serving.send_signal(signal.SIGTERM)
    out, err = serving.communicate(timeout=20)
    assert (serving.returncode, out) == (143, "")
    assert "Traceback" not in err
    assert not list(temporary.iterdir())


def test_the_next_one_removes_what_a_killed_one_has_left(serving, temporary, mar):
    (left,) = temporary.iterdir()
    other = Artifact.open(mar)
    assert left.is_dir(), "its process lives"
    serving.kill()
    serving.wait()
    again = Artifact.open(mar)
    assert {path.parent for path in (other.directory, again.directory)} == set(temporary.iterdir())
    del other, again
    assert not list(temporary.iterdir())


def abandoned(temporary, name="x", kernel=None):
    home = temporary / f"{PREFIX}{name}"
    home.mkdir()
    (home / LOCK).write_bytes(scratch._kernel() if kernel is None else kernel)
    return home


def test_what_is_abandoned_is_removed(temporary):
    homes = [abandoned(temporary, name) for name in "ab"]
    own = Scratch()
    assert not [home for home in homes if home.exists()]
    assert own.path.is_dir()


@pytest.mark.parametrize(
    "kind", ["held", "no lock", "new", "other kernel", "other user", "linked", "linked lock", "file", "fifo", "name"]
)
def test_what_may_be_anothers_stays(temporary, monkeypatch, kind):
    home = abandoned(temporary, kernel={"new": b"", "other kernel": b"another"}.get(kind))
    lock = home / LOCK
    with lock.open("rb") as held:
        if kind == "held":
            fcntl.flock(held, fcntl.LOCK_EX)
        elif kind == "other user":
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        elif kind == "linked":
            home = home.rename(temporary / "elsewhere")
            (temporary / f"{PREFIX}x").symlink_to(home)
        elif kind == "linked lock":
            lock.rename(temporary / "elsewhere")
            lock.symlink_to(temporary / "elsewhere")
        elif kind == "name":
            home = home.rename(temporary / "bert_handler_archive_x")
        elif kind != "new" and kind != "other kernel":
            lock.unlink()
        if kind == "fifo":
            os.mkfifo(lock)
        elif kind == "file":
            home.rmdir()
            home.write_bytes(b"")
        started = time.monotonic()
        Scratch()
        assert time.monotonic() - started < 2
        assert home.exists()


def test_one_that_another_removes_in_this_moment_is_no_error(temporary, monkeypatch):
    home = abandoned(temporary)
    flock = fcntl.flock

    def late(*given):
        shutil.rmtree(home, ignore_errors=True)
        return flock(*given)

    monkeypatch.setattr(fcntl, "flock", late)
    assert Scratch().path.is_dir()
    assert not home.exists()
