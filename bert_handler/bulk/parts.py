"""The finished parts of an output, beside it until all are there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Callable

from bert_handler import jsonio
from bert_handler.artifact import PARTS
from bert_handler.errors import ConfigError
from bert_handler.locks import hold

STATE, LOCK = "state.json", "lock"
MAX_LISTED = 4
"""Differences of two runs that an error message lists."""
REMEDY = "remove that directory to begin anew, or give another --output"


class Parts:
    """The finished parts beside an output, and what they were made from."""

    def __init__(self, target: Path, state: Mapping[str, Any]) -> None:
        self._target = target
        self._directory = _directory(target)
        self._joined = target.with_name(f"{target.name}.joined{PARTS}")
        _remove(self._joined)
        self._n_parts = len(list(self._directory.glob("*.part")))
        known = self._directory / STATE
        content = jsonio.dumps(state)
        if self._n_parts:
            self._check_complete()
        if known.is_file():
            self._check_state(known.read_bytes(), content)
        _write_whole(known, lambda path: path.write_bytes(content))

    @classmethod
    @contextmanager
    def held(cls, target: Path, state: Mapping[str, Any]) -> Iterator[Parts]:
        """The parts, which no other run may go on with meanwhile.

        Raises ConfigError where one does so already, and where those that are there were made from something
        else, or one is missing.
        """
        with closing(_held(_directory(target), target)):
            parts = cls(target, state)
            yield parts
        # Not before: NFS keeps an open file, and its directory with it.
        _remove(parts._joined)

    def __len__(self) -> int:
        return self._n_parts

    def add(self, write: Callable[[Path], None]) -> None:
        """Write the next part, whole or not at all."""
        _write_whole(self._part(self._n_parts), write)
        self._n_parts += 1

    def join(self, join: Callable[[Sequence[Path], Path], None]) -> None:
        """Write the output from all parts, and put them aside, where `held` removes them.

        Raises ConfigError where a part has gone that this run had found or written.
        """
        self._check_complete()
        _write_whole(self._target, lambda path: join(self._paths(), path))
        # At once, since a run that found some of them would go on with these.
        self._directory.rename(self._joined)

    def _part(self, number: int) -> Path:
        return self._directory / f"{number:08d}.part"

    def _paths(self) -> list[Path]:
        return [self._part(number) for number in range(self._n_parts)]

    def _check_complete(self) -> None:
        """Nothing is missing before the last part: how many there are says how many rows are done."""
        for path in (self._directory / STATE, *self._paths()):
            if not path.is_file():
                raise ConfigError(f"{self._directory} holds parts of a run, but no {path.name}; {REMEDY}")

    def _check_state(self, found: bytes, wanted: bytes) -> None:
        try:
            old, new = jsonio.loads(found), jsonio.loads(wanted)
        except ValueError as exc:
            raise ConfigError(f"{self._directory / STATE} is damaged; {REMEDY}") from exc
        keys = [key for key in {**old, **new} if _said(old, key) != _said(new, key)]
        if keys:
            different = "; ".join(f"{key} was {_said(old, key)}, is {_said(new, key)}" for key in keys[:MAX_LISTED])
            more = f"; and {len(keys) - MAX_LISTED} more" if len(keys) > MAX_LISTED else ""
            raise ConfigError(f"{self._directory} holds parts of another run ({different}{more}); {REMEDY}")


def _directory(target: Path) -> Path:
    return target.with_name(f"{target.name}{PARTS}")


def _held(directory: Path, target: Path) -> BinaryIO:
    """The lock of the parts, whose directory is made; ConfigError where another run has it."""
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock = hold(directory / LOCK)
        except FileNotFoundError:
            # Joined and removed by another run, in this moment.
            continue
        if lock is None:
            raise ConfigError(f"another run writes {target}; wait for it, or give another --output")
        return lock


def _remove(joined: Path) -> None:
    # Where the next run has begun already, both do so.
    shutil.rmtree(joined, ignore_errors=True)


def _said(state: Mapping[str, Any], key: str) -> str:
    return jsonio.dumps(state[key]).decode() if key in state else "not told"


def _write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    write(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
