"""Which rows go into a forward together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from bert_handler.cost import FUSED_ATTENTION, Cost
from bert_handler.length_queue import LengthQueue, neighbours
from bert_handler.schema import Row

COST = Cost(start=5)


@dataclass(frozen=True)
class Entry:
    row: Row
    cancelled: bool = False


def entry(length, key=None, *, cancelled=False):
    return Entry(Row({"input_ids": np.zeros(length, dtype=np.int64)}, length, key), cancelled)


def filled(*lengths, cost=COST):
    queue = LengthQueue(cost)
    for length in lengths:
        queue.add(entry(length))
    return queue


def taken(queue, budget=512, max_rows=256):
    return sorted(item.row.length for item in queue.take(budget, max_rows))


@pytest.mark.parametrize(
    ("lengths", "seed", "budget", "max_rows", "expected"),
    [
        ([10], 0, 1, 8, [10]),  # the seed goes, whatever the budget
        ([10, 10, 10], 1, 20, 8, [10, 10]),
        ([10, 10, 10], 0, 512, 2, [10, 10]),
        ([10, 15], 0, 512, 8, [10, 15]),  # 5 tokens of padding
        ([10, 16], 0, 512, 8, [10]),  # 6 of them
        ([10, 16], 1, 512, 8, [16]),
        ([10, 10, 13], 0, 512, 8, [10, 10]),  # a longer one would pad both
        ([7, 10, 11], 1, 512, 8, [7, 10, 11]),  # 1 above, then 4 below
        ([4, 200], 1, 512, 8, [200]),
    ],
)
def test_neighbours_join_where_their_padding_is_cheap(lengths, seed, budget, max_rows, expected):
    lane = [(length, number) for number, length in enumerate(lengths)]
    low, high = neighbours(lane, seed, budget, max_rows, COST)
    assert lengths[low:high] == expected


def test_the_oldest_goes_first_with_its_likes():
    queue = filled(40, 8, 41, 9, 8)
    assert taken(queue) == [40, 41]
    assert taken(queue) == [8, 8, 9]
    assert len(queue) == queue.cost == 0


def test_a_giant_holds_nobody_up_for_more_than_its_own_forward():
    queue = filled(500, *[8] * 6)
    assert taken(queue) == [500]
    assert taken(queue) == [8] * 6


def test_rows_of_different_keys_never_share_a_forward():
    queue = LengthQueue(COST)
    for length, key in [(8, "a"), (8, "b"), (8, "a")]:
        queue.add(entry(length, key))
    assert [item.row.key for item in queue.take(512, 256)] == ["a", "a"]
    assert [item.row.key for item in queue.take(512, 256)] == ["b"]


def test_what_nobody_waits_for_leaves():
    queue = filled(8, 9)
    queue.add(entry(8, cancelled=True))
    queue.add(entry(30, cancelled=True))
    queue.drop_cancelled()
    assert (len(queue), queue.cost) == (2, 17)
    assert taken(queue) == [8, 9]


@pytest.mark.parametrize(
    ("lengths", "seed", "budget", "expected"),
    [
        ([10, 90], 0, 512, [10, 90]),  # 10 * (90**2 - 10**2) / 800: less than one more forward
        ([10, 110], 0, 512, [10]),
        ([10] * 4 + [60], 0, 512, [10] * 4),  # all four would be padded
        ([10, 90], 0, 100, [10]),  # the budget counts the tokens themselves
        ([500], 0, 100, [500]),
    ],
)
def test_without_padding_lengths_mix(lengths, seed, budget, expected):
    lane = [(length, number) for number, length in enumerate(lengths)]
    low, high = neighbours(lane, seed, budget, 8, FUSED_ATTENTION)
    assert lengths[low:high] == expected


def test_an_empty_queue_costs_nothing():
    queue = filled(7, 11, 13, cost=FUSED_ATTENTION)
    assert queue.cost == pytest.approx(31 + (49 + 121 + 169) / 800)
    while len(queue):
        queue.take(1, 1)
    assert queue.cost == 0
