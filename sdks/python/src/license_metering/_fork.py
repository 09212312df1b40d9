"""A child process has copies of its parent's locks, which may be held by threads that it has not."""

from __future__ import annotations

import os
import weakref
from typing import Any

_objects: "weakref.WeakSet[Any]" = weakref.WeakSet()


def register(thing: Any) -> None:
    """Calls ``thing.after_fork()`` in every child process, before anything else of it runs."""
    _objects.add(thing)


def _after_fork() -> None:
    for thing in list(_objects):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
