"""The one path that a request takes, on every host and offline."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from bert_handler.artifact import Artifact, own_identity
from bert_handler.batching import Limits, Scheduler
from bert_handler.cores import PROCESS_CORES
from bert_handler.cpu import cpu_budget
from bert_handler.deadlines import sooner
from bert_handler.engines.base import Batch, Engine, Shape, collate
from bert_handler.errors import ConfigError, InvalidRequestError
from bert_handler.generation import TextStream
from bert_handler.intake import Intake
from bert_handler.loading import choose_device, open_model
from bert_handler.metrics import ModelMetrics
from bert_handler.parameters import describe
from bert_handler.pending import Pending
from bert_handler.schema import (
    Failure,
    Identity,
    Instance,
    OutputSpec,
    Prediction,
    Request,
    Response,
    Row,
)
from bert_handler.tasks.base import Outcome, Task
from bert_handler.tasks.size import Size
from bert_handler.tickets import Announce, Waiter, resolve_futures
from bert_handler.tracing import forwarded
from bert_handler.warmup import prepare

if TYPE_CHECKING:
    from bert_handler.explain import Explainer
    from bert_handler.explanations.document import Explanation

logger = logging.getLogger(__name__)

DEFAULT_BATCH_TOKENS = {"cpu": 512, "cuda": 16384}

LANES = 2
"""Forwards on a GPU: one runs, while the next is made ready or the rows of the last are delivered."""


class Predictor:
    """A loaded model: requests in, responses out, from any number of threads."""

    def __init__(self, task: Task, engine: Engine, identity: Identity) -> None:
        self.task = task
        self.engine = engine
        self.identity = identity
        self.config = task.model.config
        self.outputs: Mapping[str, OutputSpec] = task.output_specs
        self.default_outputs = tuple(spec.name for spec in task.select_outputs())
        self.metrics = ModelMetrics()
        self._intake = Intake(task, self.metrics)
        self._padding = task.model.tokenizer.spec.padding
        self.cpu = cpu_budget(self.config.threads)
        kind = engine.device.partition(":")[0]
        limits = Limits(
            self.config.max_batch_tokens or DEFAULT_BATCH_TOKENS[kind],
            self.config.max_batch_rows,
            self.config.max_queue_rows,
            engine.cost,
            engine.widths,
            serial=not engine.parallel_forwards,
        )
        # To generate is a forward a token, each made ready after the last: beside it nothing would be won.
        lanes = 1 if task.needs_generation else LANES
        n_cores = self.cpu.cores if engine.parallel_forwards else lanes
        self.scheduler = Scheduler(self._run, limits, n_cores, PROCESS_CORES if kind == "cpu" else None)

    @classmethod
    def load(
        cls,
        target: str | Path | Artifact,
        *,
        engine: str | None = None,
        device: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        outputs: str | Sequence[str] | None = None,
        offered_device: str | None = None,
        identity: Identity | None = None,
        model_yaml: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Predictor:
        """Load a model directory or a .mar archive and run the task's sample through it.

        engine, device: override the settings; parameters, outputs: those of requests that bring none of their own.
        offered_device: the host's choice where none is set and the engine can use it.  identity: what answers
        call the model; default: the archive's manifest, else the settings.  model_yaml: model-config.yaml where
        it is read already.
        Raises ConfigError or ArchiveError, saying what to change.
        """
        started = time.monotonic()
        artifact, task, kind = open_model(
            target,
            engine=engine,
            device=device,
            parameters=parameters,
            outputs=outputs,
            model_yaml=model_yaml,
            environ=environ,
        )
        config = task.model.config
        chosen = kind.load(artifact, task, config, choose_device(config.device, offered_device, kind))
        own = own_identity(artifact.directory, config.model_name)
        predictor = cls(task, chosen, identity or artifact.identity or own)
        try:
            if config.warmup:
                predictor.self_test()
            predictor.prepare()
            chosen.release_load_memory()
        except BaseException:
            # Its threads would keep the model, and its share of the process's cores.
            predictor.close()
            raise
        logger.info(
            "%s %s is ready after %.1f s: %s on the %s engine, %s; %s",
            predictor.identity.name,
            predictor.identity.version,
            time.monotonic() - started,
            task.name,
            chosen.name,
            chosen.device,
            predictor.cpu.reason,
        )
        return predictor

    def predict(self, instances: Sequence[Instance], **parameters: Any) -> list[Prediction]:
        """Answer texts or JSON instances, in order; keyword arguments are the task's parameters.

        Raises the first refused instance's RequestError.
        """
        return _unfailed(self.respond([Request(_listed(instances), parameters=parameters)])[0])

    @cached_property
    def explainer(self) -> Explainer:
        """Answers requests for explanations; nothing of it is loaded before the first."""
        from bert_handler.explain import Explainer

        return Explainer(self)

    def explain(self, instances: Sequence[Instance], **parameters: Any) -> list[Explanation]:
        """Explain the answers to instances, in order: which words speak for a target, and which against it.

        parameters: `target`, `method`, `baseline`, `n_steps`, `deadline_ms`, ... and the task's own.
        Raises the first refused instance's RequestError.
        """
        from bert_handler.explanations.document import Explanation

        response = self.explainer.respond(Request(_listed(instances), parameters=parameters))
        return [Explanation(item["explanation"]) for item in _unfailed(response)]

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests together, in order; a refused instance is a Failure in its place."""
        return [pending.wait() for pending in self.begin(requests)]

    def begin(
        self,
        requests: Sequence[Request],
        deadline: float | None = None,
        waiters: Sequence[Waiter] = (),
        announce: Announce = resolve_futures,
    ) -> list[Pending]:
        """Check and tokenize requests together, and queue their rows.

        deadline: time.monotonic() after which nothing is computed, also of those that state a later one.
        waiters, announce: of each request's ticket; by default a thread waits for a future.
        """
        pendings = []
        found = zip(requests, self._intake.slots(requests), waiters or [Future() for _ in requests])
        for request, slots, waiter in found:
            own = sooner(request.deadline, deadline)
            pendings.append(Pending(self, request, slots, deadline=own, waiter=waiter, announce=announce))
        self.scheduler.enqueue(pendings)
        return pendings

    def latest(self, started: float | None = None) -> float:
        """The time.monotonic() at which `request_timeout_s` gives up what came at `started`, default now."""
        return (time.monotonic() if started is None else started) + self.config.request_timeout_s

    def size(self, request: Request) -> Size | None:
        """How much text is made of a request; None where that is no more than the client has sent."""
        return self._intake.size(request)

    def stream(
        self, request: Request, deadline: float | None = None, wake: Callable[[], None] | None = None
    ) -> TextStream:
        """Generate the answer to a request of one instance and hand its text over piece by piece.

        The pieces together are the `predict` output; close the stream to stop generating.
        wake: as in TextStream, for a reader that must not block.
        Raises RequestError at once where the request is refused, and from the iterator where it fails later.
        """
        slots = self._intake.slots([request])[0]
        if len(slots) != 1:
            raise InvalidRequestError(f"a stream answers one instance, not {len(slots)}")
        slot = slots[0]
        if isinstance(slot, Failure):
            raise slot.error
        stream, future = TextStream(deadline, wake), Future[Any]()
        streamed = self.task.streamed(slot, stream)
        pending = Pending(self, request, [streamed], deadline=deadline, waiter=future, announce=resolve_futures)
        stream.attach(future, lambda: pending.response().predictions[0])
        self.scheduler.enqueue([pending])
        if pending.refusal is not None:
            raise pending.refusal
        return stream

    def self_test(self) -> None:
        """Answer the task's own sample, alone and, where the graph is compiled, beside itself.

        Raises ConfigError when the model cannot.
        """
        # A compiled graph is made for one row or for several, on one core or on all: here, not under load.
        counts = (1, self.cpu.cores, 2 * self.cpu.cores) if self.config.compile else (1,)
        for result in [item for n in counts for item in self.respond([Request([self.task.sample] * n)])[0].predictions]:
            if isinstance(result, Failure):
                raise ConfigError(f"the self-test of {self.identity.name} failed: {result.error}")

    def prepare(self) -> None:
        """See whether rows may share forwards, and with `warmup` meet every shape of these.

        Raises ConfigError where one is not computed.
        """
        prepare(self.task, self.engine, self.scheduler, self._padded, self.identity.name)

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Answer what is queued and end the threads."""
        if "explainer" in vars(self):
            self.explainer.queue.close()
        self.scheduler.close()

    def metadata(self) -> dict[str, Any]:
        """The V2 model metadata: names, datatypes and shapes of what is taken and given."""
        return {
            "name": self.identity.name,
            "versions": [self.identity.version],
            "platform": f"transformers_{self.engine.name}",
            "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in self.task.fields],
            "outputs": [
                {"name": spec.name, "datatype": spec.datatype, "shape": [-1, *spec.shape]}
                for spec in self.outputs.values()
            ],
        }

    def info(self) -> dict[str, str]:
        """What is served, for the metrics."""
        own = {"name": self.identity.name, "version": self.identity.version, "task": self.task.name}
        return {**own, "engine": self.engine.name, "device": self.engine.device, "cores": str(self.cpu.cores)}

    def _run(self, rows: Sequence[Row], threads: int) -> Sequence[Outcome]:
        started, started_ns = time.perf_counter(), time.time_ns()
        outputs = self._compute(rows, threads)
        self.metrics.forwarded([row.length for row in rows], time.perf_counter() - started)
        forwarded(rows, started_ns)
        return outputs

    def _compute(self, rows: Sequence[Row], threads: int) -> Sequence[Outcome]:
        return self.task.execute(self.engine, rows, self._collated(rows, self.engine.shape), threads)

    def _padded(self, rows: Sequence[Row], shape: Shape) -> Sequence[Outcome]:
        return self.task.execute(self.engine.eager, rows, self._collated(rows, shape), 1)

    def _collated(self, rows: Sequence[Row], shape: Shape) -> Batch:
        return collate(rows, self._padding, self.task.padding_side, shape)


def _listed(instances: Sequence[Instance]) -> list[Instance]:
    if isinstance(instances, (str, bytes, Mapping)):
        # Each of its characters or keys would be an instance.
        raise InvalidRequestError(
            f"instances must be a list of texts or objects, not {describe(instances)}; put a single one into a list"
        )
    return list(instances)


def _unfailed(response: Response) -> list[Prediction]:
    predictions = []
    for index, item in enumerate(response.predictions):
        if isinstance(item, Failure):
            raise type(item.error)(f"instance {index}: {item.error}") from item.error
        predictions.append(item)
    return predictions
