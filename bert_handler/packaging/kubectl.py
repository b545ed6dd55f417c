"""The few kubectl calls that a deployment takes, on the pod that mounts the model volume."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from bert_handler import jsonio
from bert_handler.errors import DeploymentError

DIGEST_LENGTH = 64


@dataclass
class Kubectl:
    """Runs kubectl; a dry run only reads, and shows what it would run.

    pod, container: where the volume is mounted, for instance model-store-pod.
    show: takes each command line that a dry run leaves out.
    """

    namespace: str
    pod: str
    container: str | None = None
    context: str | None = None
    dry_run: bool = False
    program: str = "kubectl"
    show: Callable[[str], None] = field(default=lambda line: None)

    def run(self, *words: str) -> None:
        """Run a command that changes something, or only show it.  Raises as `read`."""
        if self.dry_run:
            self.show(shlex.join(self._line(words)))
        else:
            self.read(*words)

    def read(self, *words: str) -> str:
        """Run a command that changes nothing; its standard output.  Raises DeploymentError with kubectl's words."""
        line = self._line(words)
        try:
            done = subprocess.run(line, capture_output=True, text=True, check=False)
        except OSError as exc:
            raise DeploymentError(f"{self.program} cannot be run: {exc.strerror or exc}") from exc
        if done.returncode:
            said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
            raise DeploymentError(f"{shlex.join(line)}: {said}")
        return done.stdout

    def execute(self, *words: str) -> None:
        """Run a command in the pod that changes something there, or only show it."""
        self.run(*self._within(words))

    def inspect(self, *words: str) -> str:
        """Run a command in the pod that changes nothing."""
        return self.read(*self._within(words))

    def copy(self, source: Path, target: str) -> None:
        """Copy a local file to the pod, or only show that."""
        self.run("cp", str(source), f"{self.pod}:{target}", *self._container())

    def files(self, folder: str) -> list[str]:
        """Everything below a folder of the pod, as `find` lists it."""
        # ext4 has a folder in each volume that only root may look into, where `find` would fail.
        return self.inspect("find", folder, "-name", "lost+found", "-prune", "-o", "-print").split("\n")[:-1]

    def digest(self, path: str) -> str:
        """SHA-256 of a file in the pod."""
        return self.inspect("sha256sum", path)[:DIGEST_LENGTH]

    def document(self, *words: str) -> Any:
        """The output as JSON of a command that changes nothing, None where it has none."""
        text = self.read(*words)
        return jsonio.loads(text) if text.strip() else None

    def _line(self, words: Sequence[str]) -> list[str]:
        return [self.program, *words, *self._scope(words)]

    def _within(self, words: Sequence[str]) -> list[str]:
        return ["exec", self.pod, *self._container(), *self._options(), "--", *words]

    def _container(self) -> list[str]:
        return ["-c", self.container] if self.container else []

    def _options(self) -> list[str]:
        return ["-n", self.namespace, *(["--context", self.context] if self.context else [])]

    def _scope(self, words: Sequence[str]) -> list[str]:
        # Options behind `--` would be the pod's.
        return [] if "--" in words else self._options()
