"""Coverage-guided fuzzing of the binary tensor decoder and the archive reader, for a bounded time.

python tests/fuzz/fuzz.py {tensors,archives} tests/fuzz/corpus/{tensors,archives} -max_total_time=60
Needs `atheris`. What is found ends as a crash file; anything but the package's own errors is a finding.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bert_handler", "zipfile"]):
    from bert_handler.errors import ArchiveError, RequestError
    from bert_handler.protocols import V2_REST
    from bert_handler.protocols.v2 import HEADER_LENGTH
    from bert_handler.unpacking import unpack


def tensors(data: bytes) -> None:
    """The first byte is the length of the JSON header, over 2."""
    if data:
        with suppress(RequestError):
            V2_REST.decode(data[1:], {HEADER_LENGTH: str(data[0] * 2)})


def archives(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "a.mar"
        path.write_bytes(data)
        target = Path(scratch) / "out"
        target.mkdir()
        with suppress(ArchiveError):
            unpack(path, target)
        if {item.name for item in Path(scratch).iterdir()} != {"a.mar", "out"}:
            raise AssertionError("a file was written outside of its directory")


if __name__ == "__main__":
    target = {"tensors": tensors, "archives": archives}[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
