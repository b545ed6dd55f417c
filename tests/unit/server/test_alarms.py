from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from bert_handler.server.alarms import Alarms, alarms


async def _rung_after(delays: list[float], cleared: Collection[int] = ()) -> dict[int, float]:
    found, own, started = {}, alarms(), time.monotonic()

    def ring(index: int) -> None:
        found[index] = time.monotonic() - started

    numbers = [own.set(started + delay, ring, index) for index, delay in enumerate(delays)]
    for index in cleared:
        own.clear(numbers[index])
    await asyncio.sleep(max(0.0, *delays) + 0.1)
    assert not len(own)
    return found


def test_each_rings_at_its_time() -> None:
    delays = [0.2, 0.05, 0.1, 0.05]
    found = asyncio.run(_rung_after(delays))
    assert sorted(found) == [0, 1, 2, 3]
    for index, delay in enumerate(delays):
        assert delay - 0.002 <= found[index] < delay + 0.09


def test_what_is_cleared_does_not_ring() -> None:
    assert sorted(asyncio.run(_rung_after([0.05, 0.1, 0.05], {0, 1}))) == [2]


def test_a_time_that_has_passed_rings_at_once() -> None:
    assert asyncio.run(_rung_after([-1.0]))[0] < 0.1


def test_many_take_one_timer() -> None:
    async def timers() -> int:
        loop, made = asyncio.get_running_loop(), []
        call_later = loop.call_later
        loop.call_later = lambda *args: made.append(args) or call_later(*args)
        own = Alarms(loop)
        for number in [own.set(time.monotonic() + 60, print) for _ in range(1000)]:
            own.clear(number)
        return len(made)

    assert asyncio.run(timers()) == 1


def test_one_that_is_set_while_others_ring_rings_too() -> None:
    async def again() -> list[str]:
        found: list[str] = []
        own = alarms()

        def first() -> None:
            found.append("first")
            own.set(time.monotonic() + 0.02, found.append, "second")

        own.set(time.monotonic(), first)
        await asyncio.sleep(0.1)
        return found

    assert asyncio.run(again()) == ["first", "second"]


def test_a_new_loop_has_its_own() -> None:
    async def own() -> Alarms:
        return alarms()

    assert asyncio.run(own()) is not asyncio.run(own())


def test_neither_a_defect_nor_a_clearing_neighbour_stops_the_others() -> None:
    async def rung() -> list[str]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append("defect"))
        found: list[str] = []
        own, now = alarms(), time.monotonic()
        numbers: list[int] = []
        own.set(now, lambda: own.clear(numbers[0]))
        numbers.append(own.set(now, found.append, "cleared"))
        own.set(now, lambda: 1 / 0)
        own.set(now, found.append, "same time")
        own.set(now + 0.03, found.append, "later")
        await asyncio.sleep(0.15)
        return found

    assert asyncio.run(rung()) == ["defect", "same time", "later"]
