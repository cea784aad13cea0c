"""Processes that run seeds."""

from __future__ import annotations

from multiprocessing import get_context
from multiprocessing.pool import Pool


def new_pool(processes: int) -> Pool:
    """Return processes that begin from nothing.

    Forked out of trial, they would keep the reactor's handler of SIGTERM, which does nothing where no reactor runs:
    a pool that ends its processes by that signal would now and then wait for them for ever.
    """
    return get_context("spawn").Pool(processes)
