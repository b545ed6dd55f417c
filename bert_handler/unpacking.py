"""From a .mar archive to checked files: nothing outside of its directory, nothing that was changed."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from bert_handler.errors import ArchiveError

CHECKSUMS = "MAR-INF/SHA256SUMS"
SIGNATURE = "MAR-INF/SIGNATURE"
BYTECODE = "__pycache__"
DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
)
"""What Python's zip reader raises on bytes that are no archive, or not a whole one."""
MAX_ENTRIES = 10_000
MAX_UNPACKED_BYTES = 64 * 2**30
MAX_RATIO = 200
"""Deflate reaches 1000:1 on zeros; weights and vocabularies stay below 10:1."""
SMALL_ENTRY, SMALL_ARCHIVE = 2**20, 2**24
"""Bytes unpacked, up to which an entry, and all together, may have any ratio."""


def unpack(archive: Path, directory: Path) -> Mapping[str, str]:
    """Unpack a .mar into an empty directory, then compare every file with the archive's checksums.

    Returns the digests of the files by name, as `verify` does.
    Raises ArchiveError on anything that is not a plain file below `directory`, on an implausible
    size, and on a file that is missing, surplus or changed.
    """
    try:
        with zipfile.ZipFile(archive) as mar:
            entries = _safe_entries(mar, archive.stat().st_size)
            for entry, relative in entries:
                target = directory.joinpath(*relative.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with mar.open(entry) as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except DAMAGE as exc:
        refuse_tar(archive)
        raise ArchiveError(f"{archive.name} is cut short or damaged: {exc}") from exc
    except OSError as exc:
        raise ArchiveError(f"{archive.name} cannot be unpacked: {exc.strerror or exc}") from exc
    return verify(directory)


def refuse_tar(archive: Path) -> None:
    """Raise ArchiveError where a .mar is a tar, as `torch-model-archiver --archive-format tgz` makes it."""
    import tarfile

    try:
        with tarfile.open(archive) as tar:
            first = tar.next()
    except (tarfile.TarError, OSError, *DAMAGE):
        return
    if first is not None:
        raise ArchiveError(
            f"{archive.name} is a tar archive; build it with --archive-format default, or with bert-handler archive"
        )


def verify(directory: Path, *, compiled: bool = False) -> Mapping[str, str]:
    """Compare the files of an unpacked archive with its checksums; archives without any are accepted.

    Returns the SHA-256 of every file by its name.
    compiled: whether Python may have written bytecode beside its modules since the archive was unpacked.
    Raises ArchiveError on what differs, and on a link: what it leads to is not of the archive.
    """
    path = directory / CHECKSUMS
    if not path.is_file():
        return {}
    stated: dict[str, str] = {}
    for line in _text(path).splitlines():
        digest, _, name = line.partition("  ")
        stated[name] = digest
    entries = list(directory.rglob("*"))
    for entry in entries:
        # `rglob` does not enter linked directories, but whoever imports or opens by name does.
        if entry.is_symlink():
            raise ArchiveError(f"the archive has a link, which no archive has: {entry.relative_to(directory)}")
    files = [file.relative_to(directory) for file in entries if file.is_file()]
    present = {file.as_posix() for file in files if not (compiled and BYTECODE in file.parts)} - {CHECKSUMS, SIGNATURE}
    for name in sorted(set(stated) | present):
        if name not in present:
            raise ArchiveError(f"the archive's file {name} is missing")
        if name not in stated:
            raise ArchiveError(f"the archive has a file that its checksums do not list: {name}")
        if sha256(directory / name) != stated[name]:
            raise ArchiveError(f"the archive's file {name} is not the one that was archived (sha256 differs)")
    return stated


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except ValueError as exc:
        raise ArchiveError(f"the archive's file {path.name} is not text") from exc


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _safe_entries(mar: zipfile.ZipFile, archive_bytes: int) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    entries = [entry for entry in mar.infolist() if not entry.filename.endswith("/")]
    if len(entries) > MAX_ENTRIES:
        raise ArchiveError(f"the archive has {len(entries)} files; at most {MAX_ENTRIES} are unpacked")
    unpacked_bytes = sum(entry.file_size for entry in entries)
    if unpacked_bytes > MAX_UNPACKED_BYTES:
        raise ArchiveError(f"the archive unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    if sum(entry.compress_size for entry in entries) > archive_bytes:
        raise ArchiveError("the archive's entries overlap: they are larger together than the archive")
    if unpacked_bytes > max(MAX_RATIO * archive_bytes, SMALL_ARCHIVE):
        raise ArchiveError(f"the archive of {archive_bytes} bytes unpacks to an implausible size: {unpacked_bytes}")
    seen: set[PurePosixPath] = set()
    safe = []
    for entry in entries:
        relative = PurePosixPath(entry.filename)
        outside = not relative.parts or relative.is_absolute() or ".." in relative.parts
        if outside or "\\" in entry.filename or ":" in relative.parts[0]:
            raise ArchiveError(f"the archive's entry {entry.filename!r} points outside of it")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ArchiveError(f"the archive's entry {entry.filename!r} is not a plain file")
        if entry.file_size > MAX_RATIO * max(entry.compress_size, 1) and entry.file_size > SMALL_ENTRY:
            raise ArchiveError(f"the archive's entry {entry.filename!r} unpacks to an implausible size")
        if relative in seen:
            raise ArchiveError(f"the archive has two entries named {entry.filename!r}")
        seen.add(relative)
        safe.append((entry, relative))
    return safe
