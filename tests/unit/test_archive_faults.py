"""Every fault of an archive is found and said plainly; no half archive ever has the final name."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import pickle
import random
import resource
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_handler import unpacking
from bert_handler.artifact import Artifact
from bert_handler.config import read_settings
from bert_handler.errors import ArchiveError, BertHandlerError, ConfigError
from bert_handler.loading import load_task
from bert_handler.packaging.mar import build
from bert_handler.packaging.sizing import ModelFacts
from bert_handler.predictor import Predictor
from bert_handler.signing import check_signature, generate_keys, read_private_key, read_public_key, sign
from bert_handler.unpacking import CHECKSUMS, SIGNATURE, unpack, verify


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return generate_keys(tmp_path_factory.mktemp("keys") / "release")


@pytest.fixture(scope="module")
def mar(zoo, keys, archived):
    return archived(zoo("bert", "sequence_classification"), "tiny", signing_key=keys[0])


@pytest.fixture(scope="module")
def entries(mar):
    with zipfile.ZipFile(mar) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.fixture
def write(tmp_path):
    def make(entries, change=None):
        path = tmp_path / "changed.mar"
        with zipfile.ZipFile(path, "w") as file:
            for name, content in entries.items():
                file.writestr(name, content)
            if change is not None:
                change(file)
        return path

    return make


def names(directory):
    return {path.name for path in directory.iterdir()}


def refused(path, message):
    before = names(path.parent)
    with pytest.raises(ArchiveError, match=message):
        Artifact.open(path)
    assert names(path.parent) == before


def test_the_archive_itself_is_sound(mar):
    assert Artifact.open(mar).identity.name == "tiny"


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_a_tar_is_called_one(tmp_path, mode):
    path = tmp_path / "m.mar"
    with tarfile.open(path, mode) as tar:
        tar.add(__file__, "handler.py")
    message = "^m.mar is a tar archive; build it with --archive-format default, or with bert-handler archive$"
    refused(path, message)
    with pytest.raises(ArchiveError, match=message):
        ModelFacts.of_archive(path)


@pytest.mark.parametrize("content", [bytes(1024), b"\x1f\x8b\x08", gzip.compress(b"a text")])
def test_what_is_neither_zip_nor_tar_is_damaged(tmp_path, content):
    path = tmp_path / "m.mar"
    path.write_bytes(content)
    refused(path, "m.mar is cut short or damaged")


def test_a_model_is_known_by_its_files_also_when_they_are_gone(mar, entries, write):
    opened = Artifact.open(mar).unowned()
    assert not opened.directory.exists()
    model = Artifact.open(mar)
    unpacked = Artifact.of_directory(model.directory)
    assert opened.fingerprint() == model.fingerprint() == unpacked.fingerprint()
    (model.directory / "index_to_name.json").write_text('{"0": "no", "1": "yes"}')
    assert unpacked.fingerprint() != opened.fingerprint()
    stock = Artifact.open(write({name: entries[name] for name in entries if "MAR-INF/S" not in name})).unowned()
    assert len(stock.fingerprint()) == len(opened.fingerprint())


@pytest.mark.parametrize("kept", [0, 1, 21, 100, 1000, 0.5, 0.99, -1, -22])
def test_cut_short(mar, tmp_path, kept):
    content = mar.read_bytes()
    end = int(len(content) * kept) if isinstance(kept, float) else kept
    path = tmp_path / "cut.mar"
    path.write_bytes(content[:end])
    refused(path, "cut.mar is cut short or damaged")


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_bit_anywhere(mar, tmp_path, seed):
    content = bytearray(mar.read_bytes())
    draw = random.Random(seed)
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path = tmp_path / "flipped.mar"
    path.write_bytes(content)
    try:
        opened = Artifact.open(path)
    except ArchiveError:
        return
    # A bit of the zip's own bookkeeping (a date, an attribute) may flip; a file's content may not.
    with zipfile.ZipFile(mar) as file:
        for name in file.namelist():
            assert (opened.directory / name).read_bytes() == file.read(name)


def test_a_changed_file(entries, write):
    changed = {**entries, "config.json": entries["config.json"] + b" "}
    refused(write(changed), "config.json is not the one that was archived")


def test_a_missing_file(entries, write):
    kept = {name: content for name, content in entries.items() if name != "model.safetensors"}
    refused(write(kept), "the archive's file model.safetensors is missing")


def test_a_surplus_file(entries, write):
    refused(write({**entries, "extra.py": b""}), "a file that its checksums do not list: extra.py")


def test_checksums_that_are_not_text(entries, write):
    refused(write({**entries, CHECKSUMS: b"\xff\xfe"}), "SHA256SUMS is not text")


def test_a_handler_of_its_own_is_told(write, entries, mar, caplog):
    Artifact.open(mar)
    assert not caplog.messages
    others = {name: content for name, content in entries.items() if name != CHECKSUMS}
    Artifact.open(write({**others, "handler.py": b"class MyHandler(TransformerHandler): ..."}))
    (told,) = caplog.messages
    assert told.startswith("handler.py is run by TorchServe alone")


def test_damaged_weights_are_told_where_a_pod_is_planned(entries, tmp_path):
    path, name = tmp_path / "damaged.mar", "model.safetensors"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for entry, content in entries.items():
            file.writestr(entry, content)
    content = bytearray(path.read_bytes())
    start = file.getinfo(name).header_offset + 30 + len(name)
    content[start : start + 4] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"damaged\.mar is no \.mar archive, or damaged: "):
        ModelFacts.of_archive(path)


def test_a_manifest_without_a_name(write):
    refused(write({"MAR-INF/MANIFEST.json": b"{}", "config.json": b"{}"}), "does not name the model and its version")


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:/evil", "a/..", "./../evil", "//evil"]
)
def test_a_path_that_leads_outside(entries, write, name):
    refused(write({**entries, name: b"x"}), "points outside of it|has two entries")


@pytest.mark.parametrize("name", ["", "."])
def test_a_file_without_a_name(write, tmp_path, name):
    path = write({"config.json": b"{}"}, lambda file: file.writestr(zipfile.ZipInfo(name or "x"), b"x"))
    if not name:
        path.write_bytes(path.read_bytes().replace(b"\x01\x00\x00\x00x", b"\x00\x00\x00\x00x"))
    with pytest.raises(BertHandlerError):
        Artifact.open(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK], ids=hex)
def test_links_and_devices(entries, write, kind):
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (kind | 0o777) << 16
    refused(write(entries, lambda file: file.writestr(entry, "/etc/passwd")), "'link' is not a plain file")


def test_a_bomb(entries, write):
    def bomb(file):
        file.writestr("zeros", b"\0" * (8 << 20), zipfile.ZIP_DEFLATED)

    refused(write(entries, bomb), "'zeros' unpacks to an implausible size")


def test_a_bomb_of_small_entries(write, monkeypatch):
    """None of which is one, so nothing of it is unpacked."""

    def bomb(file):
        for number in range(20):
            file.writestr(f"zeros{number}", b"\0" * (1 << 20), zipfile.ZIP_DEFLATED)

    path = write({"config.json": b"{}"}, bomb)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    refused(path, f"the archive of {path.stat().st_size} bytes unpacks to an implausible size: 20971522$")


def test_a_small_archive_may_be_packed_tightly(write, tmp_path):
    path = write({}, lambda file: [file.writestr(f"{i}", b"\0" * (1 << 20), zipfile.ZIP_DEFLATED) for i in range(16)])
    (tmp_path / "to").mkdir()
    unpack(path, tmp_path / "to")


def test_too_many_files(write, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_ENTRIES", 3)
    refused(write({str(i): b"" for i in range(4)}), "4 files; at most 3")


def test_too_many_bytes(write, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_UNPACKED_BYTES", 3)
    refused(write({"a": b"1234"}), "unpacks to more than 3 bytes")


def test_overlapping_entries(tmp_path):
    """Many directory entries that share one local file: each plausible, together far more than the archive."""
    packed = zlib.compress(os.urandom(1 << 16) + b"\0" * (1 << 20), wbits=-15)
    path = tmp_path / "overlap.mar"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", zlib.decompress(packed, wbits=-15))
        first = file.infolist()[0]
        for number in range(20):
            twin = zipfile.ZipInfo(f"b{number}")
            for name in ("header_offset", "compress_size", "file_size", "CRC", "compress_type", "external_attr"):
                setattr(twin, name, getattr(first, name))
            file.filelist.append(twin)
            file.NameToInfo[twin.filename] = twin
    path.write_bytes(buffer.getvalue())
    refused(path, "overlap")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name(entries, write):
    refused(write(entries, lambda file: file.writestr("config.json", b"{}")), "two entries named 'config.json'")


def test_a_file_where_a_directory_is(write):
    refused(write({"a": b"", "a/b": b""}), "cannot be unpacked")


def test_encrypted_and_unknown_methods(write):
    path = write({"config.json": b"{}"})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    refused(path, "cut short or damaged")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200), at=st.integers(0, 400), patch=st.binary(min_size=1, max_size=8))
def test_any_bytes_are_no_defect(tmp_path, content, at, patch):
    path = tmp_path / "any.mar"
    for attempt in (content, small_archive()[:at] + patch + small_archive()[at + len(patch) :]):
        path.write_bytes(attempt)
        directory = tmp_path / os.urandom(8).hex()
        directory.mkdir()
        try:
            unpack(path, directory)
        except ArchiveError as exc:
            assert str(exc)  # noqa: PT017
        assert names(tmp_path) == {path.name, directory.name}
        shutil.rmtree(directory)


def small_archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo("config.json"), b'{"a": 1}')
        file.writestr(zipfile.ZipInfo("d/b.txt"), b"text" * 5, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].glob("fuzz/corpus/archives/*")), ids=lambda p: p.name)
def test_what_fuzzing_has_found_is_no_defect(path, tmp_path):
    """Refused, or unpacked where it should be: the corpus has sound archives as well."""
    directory = tmp_path / "out"
    directory.mkdir()
    with contextlib.suppress(ArchiveError):
        unpack(path, directory)
    assert names(tmp_path) == {"out"}


# ---- disk full ------------------------------------------------------------------------------

DISK_FULL = """
import resource, signal, sys
from pathlib import Path
from bert_handler.errors import ArchiveError
from bert_handler.packaging.archive_file import write_zip
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
stage, target, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    write_zip(stage, target)
except ArchiveError as exc:
    print(exc)
"""


@pytest.mark.parametrize("limit", [0, 100, 5000, 100_000])
def test_a_disk_that_is_full_leaves_no_archive(zoo, tmp_path, limit):
    target = tmp_path / "out" / "tiny.mar"
    target.parent.mkdir()
    target.write_bytes(b"the old one")
    model = zoo("bert", "sequence_classification")
    words = [sys.executable, "-c", DISK_FULL, str(model), str(target), str(limit)]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    assert result.stdout == f"{target} cannot be written: File too large\n"
    assert names(target.parent) == {"tiny.mar"}
    assert target.read_bytes() == b"the old one"


def test_a_disk_that_is_full_while_unpacking(mar, tmp_path):
    code = (
        "import resource, signal, sys, tempfile\n"
        "from bert_handler.artifact import Artifact\n"
        "from bert_handler.errors import ArchiveError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "tempfile.tempdir = sys.argv[2]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n    Artifact.open(sys.argv[1])\n"
        "except ArchiveError as exc:\n    print(exc)\n"
    )
    words = [sys.executable, "-c", code, str(mar), str(tmp_path)]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    assert result.stdout == "tiny.mar cannot be unpacked: File too large\n"
    assert names(tmp_path) == set()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 5000


# ---- signatures -----------------------------------------------------------------------------


def signed_by(public):
    key = read_public_key(public)
    return lambda directory: check_signature(directory, key)


def test_a_signed_archive_is_opened(mar, keys):
    assert Artifact.open(mar, signed_by(keys[1])).identity.name == "tiny"


def test_a_signature_of_another_key_is_refused(mar, tmp_path):
    _, other = generate_keys(tmp_path / "other")
    with pytest.raises(ArchiveError, match="not of the required key"):
        Artifact.open(mar, signed_by(other))


@pytest.mark.parametrize("signature", [b"", b"00", b"zz", b"\xff", b"00" * 64])
def test_a_forged_signature_is_refused(entries, write, keys, signature):
    with pytest.raises(ArchiveError, match="not of the required key"):
        Artifact.open(write({**entries, SIGNATURE: signature}), signed_by(keys[1]))


@pytest.mark.parametrize("missing", [SIGNATURE, CHECKSUMS])
def test_an_unsigned_archive_is_refused(entries, write, keys, missing):
    kept = {name: content for name, content in entries.items() if name != missing}
    with pytest.raises(ArchiveError, match="not signed"):
        Artifact.open(write(kept), signed_by(keys[1]))


def test_a_model_directory_is_refused_where_a_signature_is_required(zoo, keys):
    with pytest.raises(ArchiveError, match="not signed"):
        Artifact.open(zoo("bert", "sequence_classification"), signed_by(keys[1]))


def test_signed_checksums_do_not_cover_for_a_changed_file(entries, write, keys):
    path = write({**entries, "config.json": entries["config.json"] + b" "})
    with pytest.raises(ArchiveError, match="not the one that was archived"):
        Artifact.open(path, signed_by(keys[1]))


def test_an_unpacked_directory_is_checked_as_well(mar, keys, tmp_path):
    unpack(mar, tmp_path)
    assert Artifact.open(tmp_path, signed_by(keys[1])).identity.name == "tiny"
    (tmp_path / "config.json").write_bytes(b"{}")
    with pytest.raises(ArchiveError, match="not the one that was archived"):
        Artifact.open(tmp_path, signed_by(keys[1]))


@pytest.mark.parametrize("link", ["folder", "nested", "listed", "broken", "bytecode"])
def test_no_link_within_a_checked_directory(mar, keys, tmp_path, link):
    """What is behind it would be read, and is neither listed nor signed."""
    model, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    for directory in (model, elsewhere):
        directory.mkdir()
    unpack(mar, model)
    (elsewhere / "config.json").write_bytes((model / "config.json").read_bytes())
    names = {"folder": "1_Pooling", "nested": "bert_handler/vendored", "listed": "config.json"}
    path, target = model / names.get(link, "other"), elsewhere
    if link == "listed":
        path.unlink()
        target = elsewhere / "config.json"
    elif link == "broken":
        target = tmp_path / "nowhere"
    elif link == "bytecode":
        path = model / "bert_handler" / "__pycache__"
    path.symlink_to(target)
    with pytest.raises(ArchiveError, match=rf"has a link, which no archive has: {path.relative_to(model)}$"):
        Artifact.open(model, signed_by(keys[1]))
    with pytest.raises(ArchiveError, match="has a link"):
        verify(model, compiled=True)


def test_the_checked_directory_itself_may_be_a_link(mar, keys, tmp_path):
    (tmp_path / "model").mkdir()
    unpack(mar, tmp_path / "model")
    (tmp_path / "link").symlink_to(tmp_path / "model")
    assert Artifact.open(tmp_path / "link", signed_by(keys[1])).identity.name == "tiny"


def test_links_of_a_model_directory_are_followed(zoo, tmp_path):
    """As in a cache of Hugging Face's, whose files are links."""
    for path in zoo("bert", "sequence_classification").iterdir():
        (tmp_path / path.name).symlink_to(path)
    assert Artifact.open(tmp_path).fingerprint() == Artifact.open(zoo("bert", "sequence_classification")).fingerprint()


def test_signing_keeps_archives_reproducible(entries, keys, mar, tmp_path):
    unpack(mar, tmp_path)
    sign(tmp_path, read_private_key(keys[0]))
    assert (tmp_path / SIGNATURE).read_bytes() == entries[SIGNATURE]


def test_keys_are_private_and_never_overwritten(keys, tmp_path):
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600
    (tmp_path / "a.pub").write_bytes(b"")
    with pytest.raises(ConfigError, match="exists already"):
        generate_keys(tmp_path / "a")
    assert not (tmp_path / "a.key").exists()


@pytest.mark.parametrize("swapped", [True, False])
def test_a_file_that_is_no_key_is_named(keys, mar, tmp_path, zoo, swapped):
    wrong = keys[0] if swapped else mar
    with pytest.raises(ConfigError, match="is not a public key"):
        read_public_key(wrong)
    with pytest.raises(ConfigError, match="is not an unencrypted private key"):
        build(zoo("bert", "sequence_classification"), "x", "1", tmp_path, signing_key=keys[1] if swapped else mar)


def test_a_key_that_is_not_there_is_said_before_the_model_is_read(tmp_path):
    missing = rf"^{tmp_path}/nokey does not exist; make one with: bert-handler keygen PREFIX$"
    with pytest.raises(ConfigError, match=missing):
        build(tmp_path / "nomodel", "x", "1", tmp_path, signing_key=tmp_path / "nokey")
    with pytest.raises(ConfigError, match=missing):
        read_public_key(tmp_path / "nokey")


# ---- code that a model brings ---------------------------------------------------------------


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin", "optimizer.pt"])
def test_no_pickle_is_executed(zoo, tmp_path, name):
    model = tmp_path / "model"
    shutil.copytree(zoo("bert", "sequence_classification"), model)
    if name == "pytorch_model.bin":
        (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    try:
        Predictor.load(model, model_yaml={"handler": {"device": "cpu"}}, environ={}).close()
    except ConfigError as exc:
        assert name == "pytorch_model.bin"
        assert "pickled code, which is never run" in str(exc)  # noqa: PT017
    else:
        assert name != "pytorch_model.bin"
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("asked", "consent", "runs"),
    [(True, "1", True), (True, None, False), (True, "0", False), (False, "1", None), (False, None, None)],
)
def test_remote_code_needs_the_model_and_the_server(zoo, asked, consent, runs):
    environ = {} if consent is None else {"BERT_HANDLER_TRUST_REMOTE_CODE": consent}
    opened = Artifact.open(zoo("bert", "sequence_classification"))
    stated = read_settings(opened.directory, {"handler": {"trust_remote_code": asked}}, environ)
    if runs is False:
        with pytest.raises(ConfigError, match="--trust-remote-code"):
            load_task(opened, stated, environ)
    else:
        assert load_task(opened, stated, environ).model.config.trust_remote_code is bool(runs)
