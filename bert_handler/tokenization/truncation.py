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
    cut: of a pair, the only text that is cut: 0 for an inference's premise, 1 for a question's context.
        None: the longer one first, and in windows the second.
    side: which end of a text is cut; None: as the tokenizer was saved.
    names: of the texts, for messages.
    """

    mode: str
    max_length: int | None
    stride: int = 64
    cut: int | None = None
    side: str | None = None
    names: tuple[str, ...] = ("text", "text_pair")

    def fits(self, n_tokens: int) -> bool:
        """Whether nothing needs to be done."""
        return self.max_length is None or n_tokens <= self.max_length

    def counted(self, *, pair: bool) -> str:
        """One text or a pair with its verb: text has, question and context have."""
        return " and ".join(self.names) + " have" if pair else f"{self.names[0]} has"

    def require_room(self, room: int, cut: int, sequence_ids: IntArray) -> None:
        """RequestTooLargeError where no token of the text `cut` has room beside what stays."""
        if room < 1:
            stays = self.names[1 - cut] if (sequence_ids == 1 - cut).any() else "the special tokens"
            raise RequestTooLargeError(f"no token of {self.names[cut]} fits beside {stays} in {self.max_length} tokens")


def truncated_window(sequence_ids: IntArray, rule: Truncation, side: str = "right") -> IntArray:
    """Choose the tokens that stay when one window of `rule.max_length` must do.

    sequence_ids: (L,), 0 and 1 for the first and second text, -1 for special tokens, which all stay.
    Of a pair, the longer text gives way first, until both are as long (`longest_first`).
    Raises RequestTooLargeError when there is no room for any text.
    """
    assert rule.max_length is not None
    counts = [int((sequence_ids == 0).sum()), int((sequence_ids == 1).sum())]
    room = rule.max_length - (len(sequence_ids) - sum(counts))
    if rule.cut is not None:
        room_left = room - counts[1 - rule.cut]
        rule.require_room(room_left, rule.cut, sequence_ids)
        kept = list(counts)
        kept[rule.cut] = min(counts[rule.cut], room_left)
    elif counts[1]:
        rule.require_room(room, 0, sequence_ids)
        short = min(counts)
        fair = (room // 2, room - room // 2) if short > room // 2 else (short, room - short)
        kept = list(fair) if counts[0] <= counts[1] else [fair[1], fair[0]]
    else:
        rule.require_room(room, 0, sequence_ids)
        kept = [room, 0]
    keep = sequence_ids == -1
    for sequence, count in enumerate(kept):
        positions = np.flatnonzero(sequence_ids == sequence)
        keep[positions[len(positions) - count :] if side == "left" else positions[:count]] = True
    return np.flatnonzero(keep)


def strided_windows(sequence_ids: IntArray, rule: Truncation) -> list[IntArray]:
    """Cut one text into windows that overlap by `rule.stride` tokens; all else is in every window.

    The overlap shrinks to half of the room where the first text leaves less, so that every window
    moves on.  Raises RequestTooLargeError when there is no room, or more than MAX_WINDOWS are needed.
    """
    assert rule.max_length is not None
    cut = max(0, int(sequence_ids.max())) if rule.cut is None else rule.cut
    text = np.flatnonzero(sequence_ids == cut)
    rest = np.flatnonzero(sequence_ids != cut)
    room = rule.max_length - len(rest)
    rule.require_room(room, cut, sequence_ids)
    step = room - min(rule.stride, room // 2)
    count = max(1, -(-(len(text) - room) // step) + 1)
    if count > MAX_WINDOWS:
        raise RequestTooLargeError(f"{rule.names[cut]} needs {count} windows; at most {MAX_WINDOWS} are computed")
    return [np.sort(np.concatenate([rest, text[i * step : i * step + room]])) for i in range(count)]
