"""`bert-handler deploy` and `undeploy`: an archive to a cluster, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import typer

from bert_handler.errors import ConfigError, require_file
from bert_handler.packaging.service import DEVICES, HOSTS, Service
from bert_handler.packaging.settings import CONFIG, POD_CONFIG, STORE, stated_routes, stated_workers
from bert_handler.packaging.sizing import (
    GPU_MEMORY,
    MEMORY,
    ModelFacts,
    check_memory,
    default_memory,
    quantity,
    startup_s,
    threads_each,
)

NAME = typer.Option(..., help="Name of the InferenceService, for instance torchserve-bert-v2.")
NAMESPACE = typer.Option(..., "--namespace", "-n", help="For instance kubeflow-user-example-com.")
POD = typer.Option(..., help="A running pod that mounts the volume, for instance model-store-pod.")
CONTAINER = typer.Option(None, help="Its container, for instance model-store; default: the first.")
CONTEXT = typer.Option(None, help="Context of kubectl's configuration; default: the current one.")
MOUNT = typer.Option("/pv", help="Where that pod mounts the volume.")
DRY_RUN = typer.Option(False, "--dry-run", help="Only look, and print the commands that would change something.")


def deploy(
    archive: Path = typer.Argument(..., help="The .mar to serve."),
    name: str = NAME,
    namespace: str = NAMESPACE,
    pod: str = POD,
    container: Optional[str] = CONTAINER,
    context: Optional[str] = CONTEXT,
    mount: str = MOUNT,
    claim: Optional[str] = typer.Option(None, help="The volume's claim, for instance task-pv-claim."),
    folder: Optional[str] = typer.Option(None, help="Folder of the volume, where services share it; default: none."),
    manifest: Optional[Path] = typer.Option(None, help="Own manifest; default: made for --claim, --host, --device."),
    config: Optional[Path] = typer.Option(None, help="Own config.properties; default: made for --cpu and --memory."),
    route: str = typer.Option(Service.model, help="Name of the model in the routes."),
    host: str = typer.Option(Service.host, help="torchserve or kserve."),
    device: str = typer.Option(Service.device, help="cpu or gpu."),
    cpu: str = typer.Option(Service.cpu, help="CPU request and limit."),
    memory: Optional[str] = typer.Option(
        None, help=f"Memory request and limit; default: {MEMORY}, {GPU_MEMORY} with a GPU, or more."
    ),
    image: Optional[str] = typer.Option(None, help="Image of the runtime."),
    autoscaling: str = typer.Option(Service.autoscaling, help="knative, or hpa on a cluster without Knative."),
    legacy_modes: bool = typer.Option(
        Service.legacy_modes, "--legacy-modes", help="Deployment modes by the names of clusters before KServe 0.16."
    ),
    directory: Optional[Path] = typer.Option(None, help="Takes what is made here; default: deploy-NAME."),
    replace: bool = typer.Option(False, "--replace", help="Keep other files of the same names aside."),
    timeout: int = typer.Option(900, min=1, help="Seconds to become Ready."),
    dry_run: bool = DRY_RUN,
) -> None:
    """Copy archive and settings to the volume, check them, apply the manifest, wait for Ready.

    A run that failed is finished by the next one. Memory and workers are planned for the engine and dtype that the
    variables of an own manifest's predictor set, else the archive's settings.

    Example: bert-handler deploy BERTSeqClassification.mar --name torchserve-bert-v2
    --claim task-pv-claim --pod model-store-pod --container model-store -n kubeflow-user-example-com
    """
    from rich.console import Console

    from bert_handler.packaging.deploy import Deployment, Journal
    from bert_handler.packaging.deploy import deploy as bring
    from bert_handler.packaging.objects import (
        find_service,
        mark_revision,
        predictor_variables,
        read_objects,
        render_objects,
    )
    from bert_handler.unpacking import sha256

    _check(name, folder, host, device, autoscaling)
    if manifest is not None and (claim or image):
        raise ConfigError("--claim and --image are for a manifest that is made; write them into the own --manifest")
    objects = [] if manifest is None else read_objects(manifest)
    variables = {} if manifest is None else predictor_variables(objects, name)
    facts = ModelFacts.of_archive(archive, variables)
    memory = memory or default_memory(host, device, facts.weight_bytes)
    settings, threads = _settings(config, archive, route, host, cpu, memory, variables)
    check_memory(host, memory, facts.weight_bytes)
    if manifest is None:
        _check_route(route, host, settings)
        options = {
            "host": host,
            "device": device,
            "model": route,
            "image": image,
            "cpu": cpu,
            "memory": memory,
            "threads": threads,
            "startup_s": startup_s(facts.stored_bytes),
            # Own settings may name more archives than this one.
            "stored_bytes": None if config else facts.stored_bytes,
            "autoscaling": autoscaling,
            "legacy_modes": legacy_modes,
        }
        objects = _made_objects(name, claim, folder, options)
    marked = find_service(objects, name)
    # All that was given holds: from here on, files are written.
    own = directory or Path(f"deploy-{name}")
    own.mkdir(parents=True, exist_ok=True)
    config = own / CONFIG
    config.write_bytes(settings)
    revision = sha256(archive)[:12] + "-" + sha256(config)[:12]
    mark_revision(marked, revision)
    applied = own / (f"{name}-marked.yaml" if manifest else f"{name}.yaml")
    applied.write_text(render_objects(objects), encoding="utf-8")
    mount = mount.rstrip("/")
    root = f"{mount}/{folder}" if folder else mount
    uploads = {f"{root}/{STORE}/{archive.name}": archive, f"{root}/{POD_CONFIG}": config}
    kubectl = _kubectl(namespace, pod, container, context, dry_run)
    console = Console(stderr=True, emoji=False)
    journal = Journal(
        (lambda what: None) if dry_run else lambda what: console.print(what, markup=False, soft_wrap=True)
    )
    bring(Deployment(name, uploads, applied, mount, own, replace), kubectl, journal)
    if not dry_run:
        _await(name, revision, kubectl, timeout, journal, console)
        typer.echo(kubectl.read("get", "inferenceservice"), nl=False)


def undeploy(
    name: str = NAME,
    namespace: str = NAMESPACE,
    pod: str = POD,
    container: Optional[str] = CONTAINER,
    context: Optional[str] = CONTEXT,
    mount: str = MOUNT,
    dry_run: bool = DRY_RUN,
) -> None:
    """Take back what deploy has put there, and nothing else.

    Example: bert-handler undeploy --name torchserve-bert-v2 --pod model-store-pod -n kubeflow-user-example-com
    """
    from bert_handler.packaging.deploy import Journal
    from bert_handler.packaging.deploy import undeploy as take_back
    from bert_handler.packaging.names import check_service

    check_service(name)
    kubectl = _kubectl(namespace, pod, container, context, dry_run)
    journal = Journal((lambda what: None) if dry_run else lambda what: typer.echo(what, err=True))
    for line in take_back(name, mount.rstrip("/"), kubectl, journal):
        typer.echo(f"kept {line}" if line.startswith("/") else line)


def _kubectl(namespace: str, pod: str, container: Optional[str], context: Optional[str], dry_run: bool) -> Any:
    from bert_handler.packaging.kubectl import Kubectl

    return Kubectl(namespace, pod, container, context, dry_run, show=typer.echo)


def _check(name: str, folder: Optional[str], host: str, device: str, autoscaling: str) -> None:
    from bert_handler.packaging.names import check_choice, check_name, check_service

    check_service(name)
    if folder is not None:
        check_name("folder", folder)
    check_choice("host", host, HOSTS)
    check_choice("device", device, DEVICES)
    # KEDA needs to be told more, which is said to `manifest`.
    check_choice("autoscaling", autoscaling, ("knative", "hpa"))


def _made_objects(name: str, claim: Optional[str], folder: Optional[str], options: Dict[str, Any]) -> List[Any]:
    from bert_handler.packaging.manifest import documents
    from bert_handler.packaging.names import check_subdomain

    if claim is None:
        raise ConfigError("give --claim, the volume's claim, or an own --manifest")
    check_subdomain("claim", claim)
    place = f"pvc://{claim}/{folder}" if folder else f"pvc://{claim}"
    return documents(Service(name, place, **options))


def _settings(
    config: Optional[Path], archive: Path, route: str, host: str, cpu: str, memory: str, variables: Mapping[str, str]
) -> Tuple[bytes, Optional[int]]:
    """The content of config.properties, and the threads of each worker where their number is known."""
    from bert_handler.packaging.pod import pod_settings, store_settings

    if config is not None:
        require_file(config)
        content = config.read_bytes()
        # The KServe host is one process, whatever the settings say of workers.
        workers = None if host == "kserve" else stated_workers(content)
        return content, workers and threads_each(quantity(cpu), workers)
    archives = [(route, archive)]
    settings = store_settings(archives) if host == "kserve" else pod_settings(archives, cpu, memory, environ=variables)
    return settings.text().encode(), settings.models[route].threads


def _check_route(route: str, host: str, settings: bytes) -> None:
    """Refuse with ConfigError a route that the readiness probe would ask TorchServe for in vain."""
    routes = stated_routes(settings)
    if host == "torchserve" and routes and route not in routes:
        raise ConfigError(f"--config serves {', '.join(routes)} and not {route!r}; give --route one of them")


def _await(name: str, revision: str, kubectl: Any, timeout: int, journal: Any, console: Any) -> None:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from bert_handler.packaging.deploy import wait_ready

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("waiting for Ready", total=None)
        with journal.step(f"wait until {name} is Ready"):
            wait_ready(name, revision, kubectl, timeout, lambda words: progress.update(task, description=words))
