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
    """Runs kubectl, or only shows what it would run.

    pod, container: where the volume is mounted, for instance model-store-pod.
    show: takes each command line before it runs.
    """

    namespace: str
    pod: str
    container: str | None = None
    context: str | None = None
    dry_run: bool = False
    program: str = "kubectl"
    show: Callable[[str], None] = field(default=lambda line: None)

    def run(self, *words: str) -> str:
        """Run one command; its standard output, nothing in a dry run.  Raises DeploymentError with kubectl's words."""
        line = [self.program, *words, *self._scope(words)]
        self.show(shlex.join(line))
        if self.dry_run:
            return ""
        try:
            done = subprocess.run(line, capture_output=True, text=True, check=False)
        except OSError as exc:
            raise DeploymentError(f"{self.program} cannot be run: {exc.strerror or exc}") from exc
        if done.returncode:
            said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
            raise DeploymentError(f"{shlex.join(line)}: {said}")
        return done.stdout

    def execute(self, *words: str) -> str:
        """Run a command in the pod."""
        container = ("-c", self.container) if self.container else ()
        return self.run("exec", self.pod, *container, *self._options(), "--", *words)

    def copy(self, source: Path, target: str) -> None:
        """Copy a local file to the pod."""
        container = ("-c", self.container) if self.container else ()
        self.run("cp", str(source), f"{self.pod}:{target}", *container)

    def files(self, folder: str) -> list[str]:
        """Everything below a folder of the pod, as `find` lists it."""
        return self.execute("find", folder).split("\n")[:-1]

    def digest(self, path: str) -> str:
        """SHA-256 of a file in the pod."""
        return self.execute("sha256sum", path)[:DIGEST_LENGTH]

    def document(self, *words: str) -> Any:
        """A command's output as JSON, None where it has none."""
        text = self.run(*words)
        return jsonio.loads(text) if text.strip() else None

    def _options(self) -> list[str]:
        return ["-n", self.namespace, *(["--context", self.context] if self.context else [])]

    def _scope(self, words: Sequence[str]) -> list[str]:
        # Options behind `--` would be the pod's.
        return [] if "--" in words else self._options()
