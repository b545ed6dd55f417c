"""Nodes that say where a batch's tokens are: as rows with padding, and as one list without it.

Names: `unpad_places` (B, L), each place's number in the list; `unpad_sources` (T, 2), row and place of each
token of the list; `unpad_firsts` (B,), the numbers of the rows' first tokens; `unpad_mask` (B, 1, 1, L).
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from bert_handler.packaging.graph_builder import GraphBuilder

MASK = "attention_mask"
GROUPS = ("short", "long")


def add_index(builder: GraphBuilder) -> None:
    """Where each token of the list comes from, and where each place of the rows finds its own.

    What follows a row's last token is padding; the mask may also hide tokens before that, which are computed.
    """
    add = builder.add
    for number in (0, 1):
        builder.constant(f"unpad_{number}", [number])
        builder.constant(f"unpad_scalar_{number}", number)
    builder.constant("unpad_flat", [-1])
    builder.constant("unpad_axes", [1, 2])
    add("CumSum", [MASK, "unpad_scalar_1"], "unpad_still_to_come", reverse=1)
    add("Greater", ["unpad_still_to_come", "unpad_0"], "unpad_is_token")
    add("Cast", ["unpad_is_token"], "unpad_ones", to=TensorProto.INT64)
    add("Reshape", ["unpad_ones", "unpad_flat"], "unpad_ones_flat")
    add("CumSum", ["unpad_ones_flat", "unpad_scalar_0"], "unpad_counts")
    add("Sub", ["unpad_counts", "unpad_1"], "unpad_numbers")
    add("Shape", [MASK], "unpad_shape")
    # Padding finds the token before it, whose value nobody reads.
    add("Reshape", ["unpad_numbers", "unpad_shape"], "unpad_places")
    _sources(builder, "unpad_is_token", "unpad_sources")
    add("Gather", ["unpad_places", "unpad_0"], "unpad_first", axis=1)
    add("Squeeze", ["unpad_first", "unpad_1"], "unpad_firsts")
    add("Cast", [MASK], "unpad_kept", to=TensorProto.BOOL)
    add("Unsqueeze", ["unpad_kept", "unpad_axes"], "unpad_mask")


def add_groups(builder: GraphBuilder) -> None:
    """Cut the batch, whose rows come by length, in two groups with the least padding in both.

    Of each group: `unpad_GROUP_places`, `unpad_GROUP_sources` and `unpad_GROUP_mask` (B, 1, L, L).
    """
    add = builder.add
    builder.constant("unpad_end", [np.iinfo(np.int64).max])
    add("ReduceSum", ["unpad_ones", "unpad_1"], "unpad_lengths", keepdims=0)
    add("Gather", ["unpad_shape", "unpad_scalar_0"], "unpad_n_rows", axis=0)
    add("Gather", ["unpad_shape", "unpad_scalar_1"], "unpad_longest", axis=0)
    add("Range", ["unpad_scalar_0", "unpad_n_rows", "unpad_scalar_1"], "unpad_before")
    add("Add", ["unpad_before", "unpad_1"], "unpad_short_rows")
    add("Sub", ["unpad_n_rows", "unpad_short_rows"], "unpad_long_rows")
    costs = []
    for group, length in zip(GROUPS, ("unpad_lengths", "unpad_longest")):
        square = add("Mul", [length, length], f"unpad_{group}_square")
        costs.append(add("Mul", [f"unpad_{group}_rows", square], f"unpad_{group}_cost"))
    add("Add", costs, "unpad_cost")
    add("Cast", ["unpad_cost"], "unpad_cost_float", to=TensorProto.FLOAT)
    add("ArgMin", ["unpad_cost_float"], "unpad_last_short", axis=0)
    add("Add", ["unpad_last_short", "unpad_1"], "unpad_n_short")
    add("Slice", ["unpad_lengths", "unpad_0", "unpad_n_short", "unpad_0"], "unpad_short_lengths")
    add("ReduceMax", ["unpad_short_lengths", "unpad_0"], "unpad_short_longest")
    # The operator refuses an empty group: where all rows are short, one place of the last row stands in.
    add("Sub", ["unpad_n_rows", "unpad_1"], "unpad_last")
    add("Min", ["unpad_n_short", "unpad_last"], "unpad_first_long")
    add("Sub", ["unpad_n_rows", "unpad_n_short"], "unpad_n_long")
    add("Mul", ["unpad_n_long", "unpad_longest"], "unpad_n_long_places")
    add("Add", ["unpad_n_long_places", "unpad_1"], "unpad_long_longest")
    for group, first, start, end in (
        ("short", "unpad_0", "unpad_0", "unpad_n_short"),
        ("long", "unpad_first_long", "unpad_n_short", "unpad_end"),
    ):
        for name, begin in (("places", first), ("kept", first), ("is_token", start)):
            rows = add("Slice", [f"unpad_{name}", begin, end, "unpad_0"], f"unpad_{group}_{name}_padded")
            add("Slice", [rows, "unpad_0", f"unpad_{group}_longest", "unpad_1"], f"unpad_{group}_{name}")
        _sources(builder, f"unpad_{group}_is_token", f"unpad_{group}_sources")
        _square_mask(builder, group)


def _sources(builder: GraphBuilder, is_token: str, name: str) -> None:
    """Row and place in it of each token, in the order of the list."""
    builder.add("NonZero", [is_token], f"{name}_found")
    builder.add("Transpose", [f"{name}_found"], name, perm=[1, 0])


def _square_mask(builder: GraphBuilder, group: str) -> None:
    """The mask with an axis for queries, for which the operator does not broadcast it."""
    builder.add("Unsqueeze", [f"unpad_{group}_kept", "unpad_axes"], f"unpad_{group}_keys")
    builder.add("Shape", [f"unpad_{group}_kept"], f"unpad_{group}_shape")
    builder.add("Gather", [f"unpad_{group}_shape", "unpad_1"], f"unpad_{group}_length", axis=0)
    builder.constant("unpad_both", [1, 1])
    sizes = ["unpad_both", f"unpad_{group}_length", "unpad_1"]
    builder.add("Concat", sizes, f"unpad_{group}_size", axis=0)
    builder.add("Expand", [f"unpad_{group}_keys", f"unpad_{group}_size"], f"unpad_{group}_mask")
