"""An archive's file: its checksums, and a zip of which the same files give the same bytes.

Without compression (weights do not shrink, and deflate's output depends on the zlib at hand), with sorted
entries and one fixed date. TorchServe unpacks it as it is; so does the KServe host, which also compares every
file with MAR-INF/SHA256SUMS.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from bert_handler.errors import ArchiveError
from bert_handler.unpacking import CHECKSUMS, sha256

EPOCH = (1980, 1, 1, 0, 0, 0)


def write_checksums(stage: Path) -> None:
    """Write the SHA-256 of every staged file, in the form of sha256sum."""
    lines = [f"{sha256(path)}  {path.relative_to(stage).as_posix()}\n" for path in _files(stage)]
    (stage / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def write_zip(stage: Path, target: Path) -> None:
    """Pack the staged files; what was at `target` stays whole until all is written.

    Raises ArchiveError where it cannot be written.
    """
    handle, partial = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as mar:
                for path in _files(stage):
                    entry = zipfile.ZipInfo(path.relative_to(stage).as_posix(), EPOCH)
                    entry.external_attr = 0o100644 << 16
                    entry.create_system = 3
                    entry.file_size = path.stat().st_size
                    with path.open("rb") as source, mar.open(entry, "w") as sink:
                        shutil.copyfileobj(source, sink, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(0o644)
        Path(partial).replace(target)
    except BaseException as exc:
        Path(partial).unlink(missing_ok=True)
        if isinstance(exc, OSError):
            raise ArchiveError(f"{target} cannot be written: {exc.strerror or exc}") from exc
        raise


def _files(stage: Path) -> list[Path]:
    files = (path for path in stage.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(files, key=lambda path: path.relative_to(stage).as_posix())
