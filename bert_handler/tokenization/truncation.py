"""Which tokens of a text stay where it has more than the model takes: one window, or several that overlap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bert_handler.errors import RequestTooLargeError
from bert_handler.schema import IntArray

MAX_WINDOWS = 1024
"""Of one instance: bounds the work that one request can ask for with `truncation: stride`."""


class Truncation(NamedTuple):
    """What happens to a text with more tokens than `max_length`.

    mode: error, truncate, or stride (overlapping windows).  stride: tokens that two windows share.
    second_only: of a pair, only the second text is cut (question answering).
    first_only: of a pair, only the first text is cut (the premise of an inference).
    side: which end of a text is cut; None: as the tokenizer was saved.
    """

    mode: str
    max_length: int | None
    stride: int = 64
    second_only: bool = False
    first_only: bool = False
    side: str | None = None

    def fits(self, n_tokens: int) -> bool:
        """Whether nothing needs to be done."""
        return self.max_length is None or n_tokens <= self.max_length


def truncated_window(
    sequence_ids: IntArray,
    max_length: int,
    second_only: bool,
    side: str = "right",
    *,
    first_only: bool = False,
) -> IntArray:
    """Choose the tokens that stay when one window must do.

    sequence_ids: (L,), 0 and 1 for the first and second text, -1 for special tokens, which all stay.
    Of a pair, the longer text gives way first, until both are as long (`longest_first`).
    Raises RequestTooLargeError when there is no room for any text.
    """
    counts = [int((sequence_ids == 0).sum()), int((sequence_ids == 1).sum())]
    room = max_length - (len(sequence_ids) - sum(counts))
    if second_only or first_only:
        cut = 1 if second_only else 0
        room_left = room - counts[1 - cut]
        _require_room(room_left, max_length)
        kept = list(counts)
        kept[cut] = min(counts[cut], room_left)
    elif counts[1]:
        _require_room(room, max_length)
        short = min(counts)
        fair = (room // 2, room - room // 2) if short > room // 2 else (short, room - short)
        kept = list(fair) if counts[0] <= counts[1] else [fair[1], fair[0]]
    else:
        _require_room(room, max_length)
        kept = [room, 0]
    keep = sequence_ids == -1
    for sequence, count in enumerate(kept):
        positions = np.flatnonzero(sequence_ids == sequence)
        keep[positions[len(positions) - count :] if side == "left" else positions[:count]] = True
    return np.flatnonzero(keep)


def strided_windows(
    sequence_ids: IntArray, max_length: int, stride: int, sequence: int | None = None
) -> list[IntArray]:
    """Cut one text, by default the last, into windows that overlap by `stride` tokens.

    All else is in every window.

    The overlap shrinks to half of the room where the first text leaves less, so that every window
    moves on.  Raises RequestTooLargeError when there is no room, or more than MAX_WINDOWS are needed.
    """
    cut = sequence_ids.max() if sequence is None else sequence
    text = np.flatnonzero(sequence_ids == cut)
    rest = np.flatnonzero(sequence_ids != cut)
    room = max_length - len(rest)
    _require_room(room, max_length)
    step = room - min(stride, room // 2)
    count = max(1, -(-(len(text) - room) // step) + 1)
    if count > MAX_WINDOWS:
        raise RequestTooLargeError(f"the text needs {count} windows; at most {MAX_WINDOWS} are computed")
    return [np.sort(np.concatenate([rest, text[i * step : i * step + room]])) for i in range(count)]


def _require_room(room: int, max_length: int) -> None:
    if room < 1:
        raise RequestTooLargeError(f"no token of the text fits beside what must stay in {max_length} tokens")
