"""What waits for a forward, by age and by length.

The oldest decides what goes next, so that nothing starves; its neighbours in length go with it, so
that little is padded.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from bert_handler.schema import Row


class Waiting(Protocol):
    """What a queue needs to know of an entry."""

    @property
    def row(self) -> Row: ...

    @property
    def cancelled(self) -> bool: ...


Entry = TypeVar("Entry", bound=Waiting)


class LengthQueue(Generic[Entry]):
    """Waiting entries, by age and by length.  Not thread-safe."""

    def __init__(self, overhead_tokens: int) -> None:
        """overhead_tokens: padding that is cheaper than one more forward."""
        self.n_tokens = 0
        self._overhead_tokens = overhead_tokens
        self._entries: dict[int, Entry] = {}
        self._by_age: deque[int] = deque()
        self._by_length: dict[Hashable, list[tuple[int, int]]] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        number = self._next
        self._next += 1
        self._entries[number] = entry
        self._by_age.append(number)
        insort(self._by_length.setdefault(entry.row.key, []), (entry.row.length, number))
        self.n_tokens += entry.row.length

    def drop_cancelled(self) -> None:
        """Remove what nobody waits for any more."""
        for number in [number for number, entry in self._entries.items() if entry.cancelled]:
            row = self._entries.pop(number).row
            lane = self._by_length[row.key]
            del lane[bisect_left(lane, (row.length, number))]
            if not lane:
                del self._by_length[row.key]
            self.n_tokens -= row.length

    def take(self, budget: int, max_rows: int) -> list[Entry]:
        """Remove the oldest entry and its neighbours in length that fit the budget beside it."""
        while self._by_age[0] not in self._entries:
            self._by_age.popleft()
        oldest = self._entries[self._by_age[0]]
        lane = self._by_length[oldest.row.key]
        seed = bisect_left(lane, (oldest.row.length, self._by_age[0]))
        low, high = neighbours(lane, seed, budget, max_rows, self._overhead_tokens)
        numbers = [number for _, number in lane[low:high]]
        del lane[low:high]
        if not lane:
            del self._by_length[oldest.row.key]
        taken = [self._entries.pop(number) for number in numbers]
        self.n_tokens -= sum(entry.row.length for entry in taken)
        return taken


def neighbours(
    lane: Sequence[tuple[int, int]], seed: int, budget: int, max_rows: int, overhead_tokens: int
) -> tuple[int, int]:
    """Grow a range around `seed` in a lane sorted by length, by the row that adds the least padding.

    lane: (length, number) pairs.  budget: padded tokens of the batch; the seed itself always fits.
    overhead_tokens: most padding that one more row may add.
    Returns the range [low, high).
    """
    low, high = seed, seed + 1
    longest = lane[seed][0]
    while (n := high - low) < max_rows:
        below = longest - lane[low - 1][0] if low else overhead_tokens + 1
        above = n * (lane[high][0] - longest) if high < len(lane) else overhead_tokens + 1
        if min(below, above) > overhead_tokens:
            break
        if above <= below:
            if (n + 1) * lane[high][0] > budget:
                break
            longest, high = lane[high][0], high + 1
        else:
            if (n + 1) * longest > budget:
                break
            low -= 1
    return low, high
