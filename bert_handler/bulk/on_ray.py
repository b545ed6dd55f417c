"""Bulk scoring on Ray Data: the parts of `scoring`, computed by a pool of actors with a predictor each.

Batches of rows, not rows, pass through Ray: a batch becomes one part of the output, exactly as on one
machine, so both runners write the same bytes and each goes on where the other was stopped.
"""

from __future__ import annotations

import logging
import os
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import floor
from pathlib import Path
from typing import Any

from bert_handler.bulk.scoring import Job, Part, Progress, answer, run
from bert_handler.config import ENVIRONMENT_PREFIX
from bert_handler.cpu import CORES_PER_PROCESS, cpu_budget
from bert_handler.errors import BertHandlerError, ConfigError, MissingExtraError
from bert_handler.loading import open_model
from bert_handler.predictor import Predictor

try:
    import pyarrow
    import ray
    import ray.data
except ImportError as exc:
    raise MissingExtraError("ray[data]", "ray") from exc

CLIENT = "ray://"


@dataclass(frozen=True)
class Pool:
    """Actors, and what each of them reserves; `threads` are the cores that its predictor uses."""

    actors: int
    cpus: float
    gpus: int
    threads: int


def score(
    target: Path,
    source: Path,
    output: Path,
    *,
    batch_rows: int = 1024,
    engine: str | None = None,
    device: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    outputs: str | Sequence[str] | None = None,
    address: str | None = None,
    actors: int | None = None,
    progress: Progress = lambda done, total: None,
) -> int:
    """Answer every row of `source` into `output`, as `bulk.score` does.

    target: on a path that every node has; source and output lie on the driver's node.
    parameters: of rows that bring none of their own.  outputs: those that become columns; default: the setting's.
    address: of a running cluster; default: a Ray of this process's cores, ended afterwards.
    actors: how many; default: one a GPU, else one for every few cores.
    Returns the number of rows.  Raises ConfigError as `bulk.score` does, and where the cluster has too little.
    """
    if address is not None and address.startswith(CLIENT):
        raise ConfigError(
            f"--ray-address {address}: Ray Client has no part in the cluster; run the command on one of its "
            "nodes with --ray-address auto"
        )
    _, task, kind = open_model(target, engine=engine, device=device, parameters=parameters, outputs=outputs)
    config = task.model.config
    job = Job.of(source, output, batch_rows, task, kind.name)
    wants_gpu = kind.supports_cuda and (config.device or "cuda").startswith("cuda")
    with _cluster(address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        pool = plan_pool(nodes, actors, wants_gpu)
        if config.device is not None and config.device != "cpu" and kind.supports_cuda and not pool.gpus:
            raise ConfigError(f"device={config.device!r}, but the Ray cluster has no GPU; choose cpu")
        environ = {name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT_PREFIX)}
        environ.setdefault("BERT_HANDLER_THREADS", str(pool.threads))
        model = {
            "target": str(target.absolute()),
            "engine": engine,
            "device": "cuda" if pool.gpus else config.device or "cpu",
            "parameters": parameters,
            "outputs": outputs,
            "environ": environ,
        }
        return run(job, lambda start: _parts(job, start, pool, model), progress)


def plan_pool(nodes: Sequence[Mapping[str, float]], actors: int | None, wants_gpu: bool) -> Pool:
    """Divide the nodes' resources: a GPU an actor where there are any, else as many cores as fit.

    nodes: resources of each, as Ray names them.  Less than a core is shared out in fractions.
    Raises ConfigError when more actors are asked for than there are GPUs.
    """
    n_gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if wants_gpu and n_gpus:
        if actors is not None and actors > n_gpus:
            raise ConfigError(f"--actors {actors}, but the Ray cluster has {n_gpus} GPU(s), one an actor")
        shares = [node.get("CPU", 0) / node["GPU"] for node in nodes if node.get("GPU")]
        return Pool(actors or n_gpus, min(1.0, *shares), 1, max(1, int(min(shares))))
    cpus = [node["CPU"] for node in nodes if node.get("CPU")]
    if not cpus:
        raise ConfigError("the Ray cluster has no CPU to reserve; start its nodes with --num-cpus")
    if actors is None:
        each: float = max(1, min(CORES_PER_PROCESS, int(min(cpus))))
        actors = max(1, sum(int(node // each) for node in cpus))
    else:
        shares = [node / count for node in cpus for count in range(1, actors + 1)]
        each = max(share for share in shares if sum(int(node / share + 1e-9) for node in cpus) >= actors)
    # Ray takes whole numbers above one, and four digits below.
    return Pool(actors, floor(each) if each >= 1 else floor(each * 10_000) / 10_000, 0, max(1, int(each)))


class _Batches(ray.data.Datasource):  # type: ignore[misc, unused-ignore]
    """The batches of a job that are not done, one a block, read by one task beside the driver."""

    def __init__(self, job: Job, start: int) -> None:
        self._read = partial(_blocks, job, start)

    def estimate_inmemory_data_size(self) -> None:
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[Any]:
        metadata = ray.data.block.BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ray.data.ReadTask(self._read, metadata)]

    @property
    def supports_distributed_reads(self) -> bool:
        return False


def _blocks(job: Job, start: int) -> Iterator[pyarrow.Table]:
    try:
        for records in job.batches(start):
            # Pickled, since columns of Ray's own would make records of different keys alike.
            yield _block(records=pickle.dumps(records))
    except BertHandlerError as exc:
        yield _block(error=str(exc))


class _Scorer:
    """One actor: a predictor that turns a batch of rows into a part.  Its errors travel in the part's place."""

    def __init__(self, job: Job, model: Mapping[str, Any]) -> None:
        self._job = job
        self._error = ""
        try:
            self._predictor = Predictor.load(**model)
        except BertHandlerError as exc:
            self._error = str(exc)

    def __call__(self, block: pyarrow.Table) -> pyarrow.Table:
        (row,) = block.to_pylist()
        if self._error or row["error"]:
            return _block(error=self._error or row["error"])
        try:
            return self._answered(pickle.loads(row["records"]))  # noqa: S301 - written by `_blocks` of this job
        except BertHandlerError as exc:
            return _block(error=str(exc))

    def _answered(self, records: Sequence[Any]) -> pyarrow.Table:
        response = answer(self._predictor, self._job, records)
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "part"
            self._job.write(records, response, path)
            return _block(part=path.read_bytes(), n_rows=len(records))


def _block(records: bytes = b"", part: bytes = b"", n_rows: int = 0, error: str = "") -> pyarrow.Table:
    return pyarrow.table({"records": [records], "part": [part], "n_rows": [n_rows], "error": [error]})


def _parts(job: Job, start: int, pool: Pool, model: Mapping[str, Any]) -> Iterator[Part]:
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    # Ray would gather blocks up to this size, and one actor would have them all.
    context.target_max_block_size = 1
    answered = ray.data.read_datasource(_Batches(job, start), num_cpus=0).map_batches(
        _Scorer,
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=pool.actors),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
        fn_constructor_args=(job, model),
    )
    return _finished(answered.iter_rows())


def _finished(rows: Iterable[Mapping[str, Any]]) -> Iterator[Part]:
    for row in rows:
        if row["error"]:
            raise ConfigError(row["error"])
        yield row["n_rows"], partial(_write, row["part"])


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """The Ray that the process has joined, else the one at the address, else one of this machine's cores."""
    if ray.is_initialized():
        yield
        return
    own: dict[str, Any] = {"num_cpus": cpu_budget().cores, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else own))
    except ConnectionError as exc:
        raise ConfigError(f"--ray-address {address}: no Ray cluster answers there") from exc
    # It tells of each run on standard error, in the middle of the progress bar.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()
