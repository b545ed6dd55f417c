"""Imports of other libraries put off until something of what they import is called.

kserve imports pandas for a method that no server here calls, and transformers scipy for the loss of
object detection: together a fifth of a server's memory and half a second of its start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _StandIn(ModuleType):
    """Has whatever is asked of it: first as a function that imports when it is called, later as it is."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is not self:
            return getattr(import_module(self.__name__), name)

        def later(*args: Any, **kwargs: Any) -> Any:
            return getattr(import_module(self.__name__), name)(*args, **kwargs)

        return later


@contextmanager
def deferred(name: str) -> Iterator[None]:
    """What is imported within gets a stand-in for a module that nothing has imported yet.

    It serves where names of the module are annotations, or are used when all is imported; not where
    one is a base class.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = _StandIn(name)
    try:
        yield
    finally:
        del sys.modules[name]
