"""What a deployment has put into a cluster, kept on the volume itself.

It is written before anything is copied: whatever fails afterwards, from whatever machine the next
run comes, it knows which files are its own, and `undeploy` takes back nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bert_handler import jsonio
from bert_handler.errors import DeploymentError
from bert_handler.packaging.kubectl import Kubectl

FOLDER = ".bert-handler"


@dataclass
class Entry:
    """A file on the volume.

    digests: every content that this deployment has put there.  own: False where it lay there already.
    aside: where the file that it replaced is kept, if there was one.
    """

    path: str
    digests: list[str] = field(default_factory=list)
    own: bool = True
    aside: str | None = None


@dataclass
class Ledger:
    """The files, directories and objects of one deployment."""

    name: str
    files: dict[str, Entry] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, kubectl: Kubectl, path: str) -> Ledger:
        """Read a ledger from the volume.  Raises DeploymentError when it is damaged."""
        try:
            content: Mapping[str, Any] = jsonio.loads(kubectl.inspect("cat", path))
            files = {name: Entry(**entry) for name, entry in content["files"].items()}
            return cls(content["name"], files, list(content["directories"]), list(content["objects"]))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise DeploymentError(f"{path} on the volume is not what this command writes; look at it first") from exc

    def write(self, kubectl: Kubectl, path: str, directory: Path) -> None:
        """Put the ledger on the volume in one step; directory: takes the local copy."""
        source = directory / "ledger.json"
        source.write_bytes(jsonio.dumps(asdict(self)) + b"\n")
        kubectl.copy(source, f"{path}.part")
        kubectl.execute("mv", f"{path}.part", path)


def ledger_path(mount: str, name: str) -> str:
    """Where the ledger of a deployment lies on the volume."""
    return f"{mount}/{FOLDER}/{name}.json"
