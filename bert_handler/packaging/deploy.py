"""The seed's steps on a cluster: files to the volume, checked; the manifest applied; Ready awaited.

Every step looks first and does only what is missing, so a run that failed is finished by the next.
Files arrive under another name and are moved when their checksum is right: a pod never sees half an
archive.  A dry run looks as well, and shows what it would change.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Callable

from bert_handler.errors import DeploymentError
from bert_handler.packaging.kubectl import Kubectl
from bert_handler.packaging.ledger import FOLDER, Entry, Ledger, ledger_path
from bert_handler.packaging.objects import REVISION, object_names, read_objects
from bert_handler.unpacking import sha256

POLL_S = 2.0
PREDICTOR_PODS = "serving.kserve.io/inferenceservice={name},component=predictor"
"""Labels that KServe gives them, with Knative and without."""


@dataclass
class Journal:
    """Names the step at hand, and what is in place when it fails."""

    say: Callable[[str], None]
    hint: str = "run the same command again to go on"
    done: list[str] = field(default_factory=list)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """One step; a failure inside of it says so."""
        try:
            yield
        except DeploymentError as exc:
            number = len(self.done) + 1
            place = "; ".join(self.done) or "nothing yet"
            raise DeploymentError(f"step {number}, {what}, failed: {exc}\nin place: {place}\n{self.hint}") from exc
        self.done.append(what)
        self.say(what)


@dataclass(frozen=True)
class Deployment:
    """uploads: local files by their path on the volume.  replace: move foreign files aside.

    directory: takes the ledger's local copy.
    """

    name: str
    uploads: Mapping[str, Path]
    manifest: Path
    mount: str
    directory: Path
    replace: bool = False


def deploy(plan: Deployment, kubectl: Kubectl, journal: Journal) -> None:
    """Bring the files to the volume and the objects to the cluster.  Raises DeploymentError."""
    store = ledger_path(plan.mount, plan.name)
    with journal.step(f"look at the volume on {plan.mount}"):
        present = kubectl.files(plan.mount)
        ledger = Ledger.read(kubectl, store) if store in present else Ledger(plan.name)
        missing = _examine(plan, kubectl, ledger, present, _others(kubectl, plan.mount, present, store))
        _examine_objects(kubectl, ledger, object_names(read_objects(plan.manifest)))
    with journal.step("make the directories"):
        _make_directories(plan, kubectl, ledger, present, store)
    for path in missing:
        with journal.step(f"copy {plan.uploads[path].name} to {path}"):
            _bring(kubectl, plan.uploads[path], ledger.files[path], path in present)
    with journal.step("list the volume"):
        journal.say("\n".join(kubectl.files(plan.mount)))
    with journal.step(f"apply {plan.manifest}"):
        kubectl.run("apply", "-f", str(plan.manifest))


def undeploy(name: str, mount: str, kubectl: Kubectl, journal: Journal) -> list[str]:
    """Take back what `deploy` put there; what was kept, and why.  Raises DeploymentError."""
    store, kept = ledger_path(mount, name), []
    with journal.step(f"look at the volume on {mount}"):
        present = set(kubectl.files(mount))
        folder, part = f"{mount}/{FOLDER}", f"{store}.part"
        if store not in present:
            _remove(kubectl, present, part)
            _remove_empty(kubectl, present, [folder])
            return [f"there is no deployment {name!r} on the volume: nothing to take back"]
        ledger = Ledger.read(kubectl, store)
        others = _others(kubectl, mount, present, store)
    for item in ledger.objects:
        with journal.step(f"delete {item}"):
            kubectl.run("delete", item, "--ignore-not-found")
    for path, entry in ledger.files.items():
        with journal.step(f"take back {path}"):
            kept += _take_back(kubectl, path, entry, present, others.get(path))
    with journal.step("forget the deployment"):
        _remove_empty(kubectl, present, [item for item in ledger.directories if item != folder])
        _remove(kubectl, present, store, part)
        _remove_empty(kubectl, present, [folder])
    return kept


def wait_ready(name: str, revision: str, kubectl: Kubectl, deadline_s: float, report: Callable[[str], None]) -> None:
    """Poll the InferenceService until it is Ready with pods of this revision of the files.

    Raises DeploymentError with what is missing at the deadline.
    """
    end = time.monotonic() + deadline_s
    while True:
        service = kubectl.document("get", "inferenceservice", name, "-o", "json")
        # Ready may still be that of the pods before, and status.observedGeneration cannot tell: KServe copies it
        # from the Deployment or the Knative Service, which count changes of their own (kserve/kserve#6081).
        pods = kubectl.document("get", "pods", "-l", PREDICTOR_PODS.format(name=name), "-o", "json")
        waiting = _missing(service or {}, (pods or {}).get("items") or [], revision)
        if waiting is None:
            return
        report(waiting)
        if time.monotonic() > end:
            raise DeploymentError(f"{name} is not Ready after {deadline_s:g} s: {waiting}")
        time.sleep(POLL_S)


def _missing(service: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], revision: str) -> str | None:
    """What a service still lacks to answer from these files; None when it does."""
    status = service.get("status") or {}
    if not _is_ready(status):
        waiting = [_told(item) for item in status.get("conditions") or [] if item["status"] != "True"]
        return "; ".join(waiting) or "no status yet"
    marked = [pod for pod in pods if (pod["metadata"].get("annotations") or {}).get(REVISION) == revision]
    # Scaled to zero, it has no pods at all.
    if pods and not any(_is_ready(pod.get("status") or {}) for pod in marked):
        return f"Ready with the pods before; {len(marked)} of {len(pods)} pods have the new files"
    return None


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions") or [])


def _examine(
    plan: Deployment, kubectl: Kubectl, ledger: Ledger, present: Sequence[str], others: Mapping[str, str]
) -> list[str]:
    """Note each upload in the ledger; the paths that are still to be copied.

    others: files that other deployments use, with the name of one that does.
    """
    missing = []
    for path, source in plan.uploads.items():
        wanted = sha256(source)
        found = kubectl.digest(path) if path in present else None
        entry = ledger.files.get(path)
        if found == wanted:
            # Whoever put it there: it is what is needed, and stays when it is not ours.
            ledger.files.setdefault(path, Entry(path, [wanted], own=False))
            continue
        if path in others:
            raise DeploymentError(
                f"{path} is what {others[path]} serves, and would change; give this deployment a --folder of its own, "
                f"or undeploy {others[path]} first"
            )
        if found is not None and (entry is None or found not in entry.digests or not entry.own):
            if not plan.replace:
                raise DeploymentError(
                    f"{path} is there already with other content; --replace keeps it aside, --folder leaves it there"
                )
            aside = entry.aside if entry and entry.aside else f"{path}.before-{plan.name}"
            if aside in present:
                raise DeploymentError(f"{path} was changed by somebody else since; {aside} is kept, compare them")
            entry = Entry(path, aside=aside)
        entry = entry or Entry(path)
        entry.own = True
        if wanted not in entry.digests:
            entry.digests.append(wanted)
        ledger.files[path] = entry
        missing.append(path)
    return missing


def _examine_objects(kubectl: Kubectl, ledger: Ledger, objects: Sequence[str]) -> None:
    for item in objects:
        if item not in ledger.objects and not kubectl.read("get", item, "--ignore-not-found", "-o", "name").strip():
            ledger.objects.append(item)


def _make_directories(plan: Deployment, kubectl: Kubectl, ledger: Ledger, present: Sequence[str], store: str) -> None:
    folder = f"{plan.mount}/{FOLDER}"
    parents = (str(parent) for path in plan.uploads for parent in reversed(PurePosixPath(path).parents))
    needed = [*dict.fromkeys(parent for parent in parents if parent.startswith(f"{plan.mount}/")), folder]
    absent = [directory for directory in needed if directory not in present]
    ledger.directories += [directory for directory in absent if directory not in ledger.directories]
    # The ledger first: a directory that it does not list would stay for ever.
    kubectl.execute("mkdir", "-p", folder)
    ledger.write(kubectl, store, plan.directory)
    if absent:
        kubectl.execute("mkdir", "-p", *absent)


def _bring(kubectl: Kubectl, source: Path, entry: Entry, present: bool) -> None:
    part = f"{entry.path}.part"
    kubectl.copy(source, part)
    if not kubectl.dry_run:
        found = kubectl.digest(part)
        if found != entry.digests[-1]:
            raise DeploymentError(f"{part} has sha256 {found} on the volume, {entry.digests[-1]} here")
    if entry.aside and present:
        kubectl.execute("mv", "-n", entry.path, entry.aside)
    kubectl.execute("mv", part, entry.path)


def _take_back(kubectl: Kubectl, path: str, entry: Entry, present: set[str], user: str | None) -> list[str]:
    if not entry.own:
        return [f"{path}: it was there before"]
    _remove(kubectl, present, f"{path}.part")
    if user:
        return [f"{path}: {user} uses it too"]
    if path in present:
        if kubectl.digest(path) not in entry.digests:
            # Either changed since, or never replaced because the deployment failed before.
            return [f"{path}: its content is not what was deployed"]
        _remove(kubectl, present, path)
    if entry.aside and entry.aside in present:
        kubectl.execute("mv", "-n", entry.aside, path)
        present.remove(entry.aside)
        present.add(path)
    return []


def _remove(kubectl: Kubectl, present: set[str], *paths: str) -> None:
    """Remove files where they are there, from the volume and from the list of what it holds."""
    found = [path for path in paths if path in present]
    if found:
        kubectl.execute("rm", "-f", *found)
        present.difference_update(found)


def _remove_empty(kubectl: Kubectl, present: set[str], directories: Sequence[str]) -> None:
    # What lies in a directory is named after it.
    for directory in sorted(directories, reverse=True):
        if directory in present and not any(path.startswith(f"{directory}/") for path in present):
            kubectl.execute("rmdir", directory)
            present.remove(directory)


def _others(kubectl: Kubectl, mount: str, present: Iterable[str], store: str) -> dict[str, str]:
    """Files that other deployments use, with the name of one that does."""
    folder = f"{mount}/{FOLDER}/"
    ledgers = [path for path in present if path.startswith(folder) and path.endswith(".json") and path != store]
    return {path: other.name for other in (Ledger.read(kubectl, item) for item in ledgers) for path in other.files}


def _told(condition: Mapping[str, Any]) -> str:
    words = [condition["type"], condition.get("reason", ""), condition.get("message", "")]
    return " ".join(str(word) for word in words if word)
