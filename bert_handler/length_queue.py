"""What waits for a forward, by age and by length.

The oldest decides what goes next, so that nothing starves; its neighbours in length go with it, so
that little is lost on padding.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from bert_handler.cost import Cost
from bert_handler.schema import Row


class Waiting(Protocol):
    """What a queue needs to know of an entry."""

    @property
    def row(self) -> Row: ...

    @property
    def cancelled(self) -> bool: ...


Entry = TypeVar("Entry", bound=Waiting)


class LengthQueue(Generic[Entry]):
    """Waiting entries, by age and by length.  Not thread-safe.

    cost: of all that waits, in tokens.
    """

    def __init__(self, cost: Cost) -> None:
        self.cost = 0.0
        self._cost = cost
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
        self.cost += self._cost.alone(entry.row.length)

    def drop_cancelled(self) -> None:
        """Remove what nobody waits for any more."""
        for number in [number for number, entry in self._entries.items() if entry.cancelled]:
            row = self._entries.pop(number).row
            lane = self._by_length[row.key]
            del lane[bisect_left(lane, (row.length, number))]
            if not lane:
                del self._by_length[row.key]
            self._forget(row)

    def _forget(self, row: Row) -> None:
        # Sums of fractions drift; an empty queue costs nothing.
        self.cost = self.cost - self._cost.alone(row.length) if self._entries else 0.0

    @property
    def oldest(self) -> Entry:
        """What has waited longest.  The queue must not be empty."""
        while self._by_age[0] not in self._entries:
            self._by_age.popleft()
        return self._entries[self._by_age[0]]

    def take(self, budget: float, max_rows: int) -> list[Entry]:
        """Remove the oldest entry and its neighbours in length that fit the budget beside it."""
        oldest = self.oldest
        lane = self._by_length[oldest.row.key]
        seed = bisect_left(lane, (oldest.row.length, self._by_age[0]))
        low, high = neighbours(lane, seed, budget, max_rows, self._cost)
        numbers = [number for _, number in lane[low:high]]
        del lane[low:high]
        if not lane:
            del self._by_length[oldest.row.key]
        taken = [self._entries.pop(number) for number in numbers]
        for entry in taken:
            self._forget(entry.row)
        return taken


def neighbours(lane: Sequence[tuple[int, int]], seed: int, budget: float, max_rows: int, cost: Cost) -> tuple[int, int]:
    """Grow a range around `seed` in a lane sorted by length, by the row that adds the least padding.

    lane: (length, number) pairs.  budget: most that the rows may cost together; the seed itself always fits.
    A row joins while the padding that it adds costs less than the start of one more forward.
    Returns the range [low, high).
    """
    low, high = seed, seed + 1
    beside = cost.beside(lane[seed][0])
    own = cost.own * lane[seed][0]
    while (n := high - low) < max_rows:
        below = beside - cost.beside(lane[low - 1][0]) if low else cost.start + 1
        longer = cost.beside(lane[high][0]) if high < len(lane) else beside + cost.start + 1
        above = n * (longer - beside)
        if min(below, above) > cost.start:
            break
        chosen, widest = (high, longer) if above <= below else (low - 1, beside)
        grown = own + cost.own * lane[chosen][0]
        if grown + (n + 1) * widest > budget:
            break
        own, beside = grown, widest
        low, high = min(low, chosen), max(high, chosen + 1)
    return low, high
