"""What a request can say for explanations alone; predictions ignore it."""

from __future__ import annotations

from bert_handler.parameters import Parameter

INTEGRATED_GRADIENTS = "integrated_gradients"
INPUT_X_GRADIENT = "input_x_gradient"
LAYER_GRADIENT_X_ACTIVATION = "layer_gradient_x_activation"
FEATURE_ABLATION = "feature_ablation"
METHODS = (INTEGRATED_GRADIENTS, INPUT_X_GRADIENT, LAYER_GRADIENT_X_ACTIVATION, FEATURE_ABLATION)
BASELINES = ("pad", "mask", "zero", "text")

EXPLANATION_PARAMETERS = (
    Parameter(
        "method",
        str,
        None,
        "how it is computed; default: integrated gradients, or ablation without gradients",
        choices=METHODS,
    ),
    Parameter(
        "baseline",
        str,
        None,
        "what stands for an absent word; default: pad, or mask for ablation where there is a mask token",
        choices=BASELINES,
    ),
    Parameter("baseline_text", str, None, "the text whose words take the places; makes the baseline text"),
    Parameter("tolerance", float, 0.02, "largest convergence delta with n_steps: auto", minimum=0),
    Parameter("internal_batch_size", int, None, "most sequences of one step; their tokens have a bound too", 1, 4096),
    Parameter("deadline_ms", int, None, "time for the answer, queueing included", minimum=1),
    Parameter("on_deadline", str, "partial", "the best answer so far, or 504", choices=("partial", "error")),
)
"""Beside `target` and `n_steps`, which are of more than one kind."""
EXPLANATION_FIELDS = frozenset({"target", "n_steps", *(parameter.name for parameter in EXPLANATION_PARAMETERS)})
"""All keys; KServe's sample requests carry `target`."""
