"""Captum's gradient methods, on a private copy of the model that shares its weights."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Callable

import numpy as np
import torch

from bert_handler.decisions import Probe
from bert_handler.engines.torch_engine import Graph
from bert_handler.errors import ConfigError, MissingExtraError
from bert_handler.explanations.clock import Clock, OutOfTimeError
from bert_handler.explanations.methods import Attribution, Method, Question, step_rows
from bert_handler.explanations.options import Options
from bert_handler.schema import FloatArray

MAX_AUTO_STEPS = 512
FIRST_STEPS = 8
SAFETY = 0.8
"""Of the time that is left, what a further round may be expected to take."""


class ModelCopy:
    """The model's modules a second time, around the same weights.

    Captum and this class hook into modules; on the served model the hooks would change the answers
    of predictions that run meanwhile.
    """

    def __init__(self, graph: Graph) -> None:
        tensors = [*graph.model.parameters(), *graph.model.buffers()]
        shared: dict[int, Any] = {id(tensor): tensor.detach() for tensor in tensors}
        for parameter in graph.model.parameters():
            shared[id(parameter)] = torch.nn.Parameter(parameter.detach(), requires_grad=False)
        self.graph = Graph(copy.deepcopy(graph.model, shared), graph.task)
        embeddings = self.graph.model.get_input_embeddings()  # type: ignore[operator]
        if not isinstance(embeddings, torch.nn.Module):
            raise ConfigError("the model has no input embeddings, which explanations begin with")
        self.embeddings = embeddings
        self._given: torch.Tensor | None = None
        self.embeddings.register_forward_hook(self._replace)
        self.lock = threading.Lock()

    @property
    def embedding_block(self) -> torch.nn.Module:
        """The module around the word embeddings: they and the positions, as the encoder takes them."""
        for module in self.graph.model.modules():
            if any(child is self.embeddings for child in module.children()):
                has_layers = any(isinstance(child, torch.nn.ModuleList) for child in module.children())
                return self.embeddings if has_layers else module
        return self.embeddings

    @contextmanager
    def given(self, embeddings: torch.Tensor) -> Iterator[None]:
        """Have the model see these embeddings, whatever its input ids."""
        self._given = embeddings
        try:
            yield
        finally:
            self._given = None

    def _replace(self, module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        return output if self._given is None else self._given


class ProbedInputs:
    """One question, as tensors: its embeddings, those of its baseline, and the probed number."""

    def __init__(self, model: ModelCopy, question: Question, clock: Clock, device: torch.device) -> None:
        self._model = model
        self._probe = question.probe
        self.clock = clock
        inputs = question.row.inputs
        self._names = list(inputs)
        self.inputs = tuple(torch.from_numpy(np.array(inputs[name]))[None].to(device) for name in self._names)
        self.ids = self.inputs[self._names.index("input_ids")]
        self.weights = torch.from_numpy(question.probe.weights)[None].to(device)
        with torch.no_grad():
            self.embedded = model.embeddings(self.ids)
            self.baseline = self._baseline(question, device)

    def _baseline(self, question: Question, device: torch.device) -> torch.Tensor:
        replaced = torch.from_numpy(question.replaced)[None, :, None].to(device)
        if question.baseline is None:
            return torch.where(replaced, torch.zeros_like(self.embedded), self.embedded)
        ids = torch.from_numpy(np.array(question.baseline))[None].to(device)
        return torch.where(replaced, self._model.embeddings(ids), self.embedded)

    @property
    def arguments(self) -> tuple[torch.Tensor, ...]:
        """What captum repeats for each step, beside what it varies."""
        return (self.weights, *self.inputs)

    def of_embeddings(self, embeddings: torch.Tensor, weights: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        """The probed number of each row whose embeddings are given, (rows,)."""
        with self._model.given(embeddings):
            return self.of_ids(inputs[self._names.index("input_ids")], weights, *inputs)

    def of_ids(self, ids: torch.Tensor, weights: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        """The probed number of each row, (rows,)."""
        self.clock.check()
        outputs = self._model.graph(**{**dict(zip(self._names, inputs)), "input_ids": ids})
        return _read(self._probe, outputs[self._probe.output], weights)

    def value(self, embeddings: torch.Tensor) -> float:
        """The probed number for one row of embeddings."""
        with torch.no_grad():
            return float(self.of_embeddings(embeddings, *self.arguments))


class GradientMethod(Method):
    """What the gradient methods have in common; one attribution runs at a time."""

    def __init__(self, model: ModelCopy, device: torch.device, max_batch_tokens: int) -> None:
        self.model = model
        self._device = device
        self._max_batch_tokens = max_batch_tokens

    def attribute(self, question: Question, options: Options, clock: Clock) -> Attribution:
        with self.model.lock:
            torch.set_num_threads(clock.threads)
            # The first forwards are let through: without them there would be nothing to answer.
            probed = ProbedInputs(self.model, question, clock.unlimited(), self._device)
            ends = probed.value(probed.embedded), probed.value(probed.baseline)
            return self._attribute(probed, ends, options, clock)

    def _attribute(
        self, probed: ProbedInputs, ends: tuple[float, float], options: Options, clock: Clock
    ) -> Attribution:
        return Attribution(_tokens(self.gradients(probed)), *ends, 1)

    def gradients(self, probed: ProbedInputs) -> torch.Tensor:
        """Attributions of one step, (1, L, size)."""
        raise NotImplementedError

    def batch_size(self, probed: ProbedInputs, options: Options) -> int:
        """Steps of one forward."""
        return step_rows(options, self._max_batch_tokens, probed.ids.shape[1])


class IntegratedGradients(GradientMethod):
    """captum.attr.IntegratedGradients on the output of `get_input_embeddings()`.

    That is LayerIntegratedGradients on that layer, with two differences that completeness needs:
    positions, which some models derive from the ids, stay those of the input, and a baseline may be
    zero (Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks").
    """

    def _attribute(
        self, probed: ProbedInputs, ends: tuple[float, float], options: Options, clock: Clock
    ) -> Attribution:
        from captum.attr import IntegratedGradients as Captum

        captum, size = Captum(probed.of_embeddings), self.batch_size(probed, options)

        def run(n_steps: int) -> Attribution:
            attributions = captum.attribute(
                probed.embedded,
                probed.baseline,
                additional_forward_args=probed.arguments,
                n_steps=n_steps,
                internal_batch_size=size,
            )
            return Attribution(_tokens(attributions), *ends, n_steps)

        if options.n_steps is not None and clock.deadline is None:
            return run(options.n_steps)
        return best_in_time(run, options, clock, probed)


class InputXGradient(GradientMethod):
    """The gradient at the word embeddings times these."""

    def gradients(self, probed: ProbedInputs) -> torch.Tensor:
        from captum.attr import InputXGradient as Captum

        embedded = probed.embedded.clone().requires_grad_()
        found: torch.Tensor = Captum(probed.of_embeddings).attribute(embedded, additional_forward_args=probed.arguments)
        return found


class LayerGradientXActivation(GradientMethod):
    """The gradient at the encoder's input, positions and segments included, times that."""

    def gradients(self, probed: ProbedInputs) -> torch.Tensor:
        from captum.attr import LayerGradientXActivation as Captum

        found: torch.Tensor = Captum(probed.of_ids, self.model.embedding_block).attribute(
            probed.ids, additional_forward_args=probed.arguments
        )
        return found


def best_in_time(
    run: Callable[[int], Attribution], options: Options, clock: Clock, probed: ProbedInputs
) -> Attribution:
    """Take more steps until they are enough or the time is used up; the smallest delta wins."""
    asked = options.n_steps
    n_steps = min(FIRST_STEPS, asked or FIRST_STEPS)
    started = clock.left_s()
    best = run(n_steps)
    probed.clock = clock
    while not _enough(best, n_steps, options):
        taken = started - clock.left_s() if clock.deadline is not None else 0.0
        room = int(n_steps * SAFETY * clock.left_s() / taken) if taken > 0 else MAX_AUTO_STEPS
        wanted = min(asked or n_steps * 2, room)
        if wanted <= n_steps:
            return replace(best, complete=False)
        started, n_steps = clock.left_s(), wanted
        try:
            found = run(n_steps)
        except OutOfTimeError:
            return replace(best, complete=False)
        best = min(found, best, key=lambda item: abs(item.delta)) if asked is None else found
    return best


def _enough(best: Attribution, n_steps: int, options: Options) -> bool:
    if options.n_steps is not None:
        return n_steps >= options.n_steps
    return abs(best.delta) <= options.tolerance or n_steps >= MAX_AUTO_STEPS


def _read(probe: Probe, output: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    value = (output * weights).flatten(1).sum(1)
    return value / output.flatten(1).norm(dim=1).clamp(min=1e-12) if probe.cosine else value


def _tokens(attributions: torch.Tensor) -> FloatArray:
    values: FloatArray = attributions.detach()[0].float().sum(-1).cpu().numpy()
    return values


def require_captum() -> None:
    """Raise MissingExtraError where captum is not installed."""
    try:
        import captum.attr  # noqa: F401
    except ImportError as exc:
        raise MissingExtraError("captum", "explain") from exc
