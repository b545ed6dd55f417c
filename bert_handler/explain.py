"""Which words made the model decide as it did: Captum's methods behind the same requests as predictions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, cast

from bert_handler.deadlines import expired, never, sooner
from bert_handler.errors import (
    ConfigError,
    DeadlineError,
    InternalError,
    InvalidRequestError,
    RequestError,
    UnservableError,
)
from bert_handler.explanations.clock import Clock, OutOfTimeError
from bert_handler.explanations.document import document
from bert_handler.explanations.explanation_queue import ExplanationQueue
from bert_handler.explanations.instance import InstanceExplanation
from bert_handler.explanations.methods import FeatureAblation, Method
from bert_handler.explanations.options import MAX_TARGETS, Options, split
from bert_handler.parameters import quoted
from bert_handler.protocols.base import check_count
from bert_handler.schema import Failure, Instance, OutputSpec, Prediction, Request, Response
from bert_handler.tasks.base import RowOutputs
from bert_handler.tasks.explanation_parameters import (
    FEATURE_ABLATION,
    INPUT_X_GRADIENT,
    INTEGRATED_GRADIENTS,
    LAYER_GRADIENT_X_ACTIVATION,
)
from bert_handler.tasks.instances import EncodedExample

if TYPE_CHECKING:
    from bert_handler.engines.torch_engine import TorchEngine
    from bert_handler.predictor import Predictor

logger = logging.getLogger(__name__)

OUTPUT = OutputSpec("explanation", "BYTES")
OUTPUTS = {OUTPUT.name: OUTPUT}

MAX_STEP_TOKENS = {"cpu": 128, "cuda": 4096}
"""Padded tokens of one step: on a CPU few, since predictions wait that long for a core; on a GPU fewer than of a
forward, since the gradients need the activations of all layers at once."""

USABLE_SHARE = 0.9
"""Of the time that the caller waits: an explanation that is a moment late is none."""


@dataclass(frozen=True)
class _Left:
    """What a request has left.

    started, limit: time.monotonic() of its arrival, and when its caller gives up.
    cancelled: whether its caller has gone.
    caller: its id for the log.
    """

    started: float
    limit: float | None
    cancelled: Callable[[], bool]
    n_instances: int
    caller: str

    def clock(self, options: Options) -> Clock:
        own = None if options.deadline_ms is None else self.started + options.deadline_ms / 1000
        callers = None if self.limit is None else self.started + USABLE_SHARE * (self.limit - self.started)
        return Clock(sooner(own, callers), given_up=lambda: self.cancelled() or expired(self.limit))


class Explainer:
    """Explains what a predictor answers, one instance at a time, after the predictions that wait.

    queue: answers on a thread of its own; `respond` does on the caller's.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._task = predictor.task
        self._methods: dict[str, Method] = {}
        self._loading = threading.Lock()
        kind = predictor.engine.device.partition(":")[0]
        self._step_tokens = MAX_STEP_TOKENS[kind]
        config = predictor.config
        self._has_gradients = predictor.engine.supports_gradients and config.quantization == "none"
        self.queue = ExplanationQueue(self.respond, config.max_explanations)

    def timed(self, request: Request, started: float | None = None) -> Request:
        """The request with the setting's deadline, or its own where that is sooner.

        started: time.monotonic() from which the setting's counts, default now.
        """
        return request._replace(deadline=sooner(request.deadline, self._predictor.latest(started)))

    def respond(
        self, request: Request, started: float | None = None, cancelled: Callable[[], bool] = never
    ) -> Response:
        """Explain all instances of a request; a refused one is a Failure in its place.

        started: time.monotonic() from which deadlines count, default now.
        cancelled: asked before each forward, whether nobody waits for the response any more.
        """
        started = time.monotonic() if started is None else started
        try:
            self._check(request)
            own, parameters = split(request.parameters)
            base = self._task.parse_parameters(parameters, self._predictor.config.parameters)
            Options.parse(own)
        except RequestError as exc:
            return _refused(request, exc)
        except Exception:
            # On TorchServe, whatever leaves this method fails the whole batch.
            logger.exception("a request for explanations could not be read, request_id=%a", request.caller)
            return _refused(request, InternalError())
        answers: list[Prediction | Failure] = []
        for index, instance in enumerate(request.instances):
            left = _Left(started, request.deadline, cancelled, len(request.instances) - index, request.caller)
            answers.append(self._guarded(instance, own, base, left))
        return Response(request, answers, (OUTPUT.name,))

    def _check(self, request: Request) -> None:
        if not self._predictor.config.captum_explanation:
            raise UnservableError("explanations are switched off for this model (captum_explanation: false)")
        if not self._task.has_decision:
            raise UnservableError(f"{self._task.name} has no decision that could be explained")
        check_count(len(request.instances), self._predictor.config.max_instances)
        for index, name in enumerate(request.outputs or ()):
            if name != OUTPUT.name:
                raise InvalidRequestError(
                    f"outputs[{index}]: {quoted(name)} is unknown; explanations have one output, {OUTPUT.name!r}"
                )

    def _guarded(
        self,
        instance: Instance,
        own: Mapping[str, Any],
        base: Mapping[str, Any],
        left: _Left,
    ) -> Prediction | Failure:
        try:
            if isinstance(instance, Mapping):
                more, instance = split(instance)
                own = {**own, **more}
            return self._explain(instance, Options.parse(own), base, left)
        except RequestError as exc:
            return Failure(exc)
        except ConfigError as exc:
            return Failure(UnservableError(str(exc)))
        except OutOfTimeError:
            return Failure(DeadlineError("the deadline passed before anything was explained"))
        except Exception:
            logger.exception("an instance could not be explained, request_id=%a", left.caller)
            return Failure(InternalError())

    def _explain(self, instance: Instance, options: Options, base: Mapping[str, Any], left: _Left) -> Prediction:
        if options.baseline_text is not None:
            self._task.check_text("baseline_text", options.baseline_text)
        clock = left.clock(options)
        clock.check()
        name = options.method or (INTEGRATED_GRADIENTS if self._has_gradients else FEATURE_ABLATION)
        method = self._method(name)
        encoded = self._encode(instance, base)
        rows = self._forward(encoded, left)
        references = self._references(options, base, left)
        decision = self._task.decision(encoded, rows, options.targets, references)
        targets = decision.targets[:MAX_TARGETS]
        options = replace(options, baseline=self._baseline(options, name))
        explanation = InstanceExplanation(encoded, targets, options, method, self._task)
        with self._predictor.scheduler.lend(clock.deadline) as lease:
            shared = replace(clock.share(left.n_instances), threads=lease.threads, give_way=lease.give_way)
            explained = [explanation.explain(target, shared) for target in targets]
        cut = any(not item.complete for found in explained for item in found.attributions)
        if cut and options.on_deadline == "error":
            limit = "the deadline" if options.deadline_ms is None else f"deadline_ms={options.deadline_ms}"
            raise DeadlineError(f"{limit} passed before the explanation was complete")
        common: dict[str, Any] = {"method": name, "baseline": options.baseline, "truncated": encoded.truncated}
        if len(targets) < len(decision.targets):
            common["targets_left_out"] = len(decision.targets) - len(targets)
        content = document(decision, explained, common, self._task.segments)
        return Prediction({OUTPUT.name: content}, encoded.n_tokens, encoded.truncated)

    def _encode(self, instance: Instance, base: Mapping[str, Any]) -> EncodedExample:
        example = self._task.parse(instance, base)
        if self._task.multiplies:
            self._task.check_size([example])
        return self._task.encode_one(example, offsets=True)

    def _forward(self, encoded: EncodedExample, left: _Left) -> list[RowOutputs]:
        outcomes = self._predictor.scheduler.submit(encoded.rows, left.limit, left.caller).result()
        rows: list[RowOutputs] = []
        for outcome in outcomes:
            if isinstance(outcome, RequestError):
                raise outcome
            rows.append(outcome)
        return rows

    def _references(self, options: Options, base: Mapping[str, Any], left: _Left) -> list[Prediction]:
        if not self._task.targets_are_texts:
            return []
        for target in options.targets:
            if not isinstance(target, str):
                raise InvalidRequestError("target must be a text, or a list of texts")
        found = [self._encode(str(target), base) for target in options.targets]
        return [self._task.predict(item, self._forward(item, left)) for item in found]

    def _baseline(self, options: Options, method: str) -> str:
        mask_id = self._task.model.tokenizer.spec.mask_id
        if options.baseline == "mask" and mask_id is None:
            raise UnservableError("this model has no mask token; choose baseline: pad, zero or text")
        # Without gradients the model itself reads the baseline; it has seen masks in sentences, never pads.
        default = "mask" if method == FEATURE_ABLATION and mask_id is not None else "pad"
        return options.baseline or default

    def _method(self, name: str) -> Method:
        with self._loading:
            if name not in self._methods:
                self._methods.update(self._load(name))
        return self._methods[name]

    def _load(self, name: str) -> dict[str, Method]:
        """The method of that name, and the others that share what it needs: ablation needs no captum."""
        engine = self._predictor.engine
        if name == FEATURE_ABLATION:
            # Steps have as many rows and tokens as the instance gives them.
            return {name: FeatureAblation(self._task, engine.uncompiled, self._step_tokens)}
        if not self._has_gradients:
            raise UnservableError(
                f"method={name!r} needs gradients, which engine={engine.name!r}"
                f" (quantization: {self._predictor.config.quantization}) has not; use {FEATURE_ABLATION}"
            )
        from bert_handler.explanations import gradients

        gradients.require_captum()
        torch_engine = cast("TorchEngine", engine)  # no other has gradients
        arguments = gradients.ModelCopy(torch_engine.graph), torch_engine.transfer.device, self._step_tokens
        return {
            INTEGRATED_GRADIENTS: gradients.IntegratedGradients(*arguments),
            INPUT_X_GRADIENT: gradients.InputXGradient(*arguments),
            LAYER_GRADIENT_X_ACTIVATION: gradients.LayerGradientXActivation(*arguments),
        }


def _refused(request: Request, error: RequestError) -> Response:
    return Response(request, [Failure(error)] * max(1, len(request.instances)), (OUTPUT.name,))
