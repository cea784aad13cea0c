"""Starts a command line in the project's environment; imports nothing that a bare interpreter lacks."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PYTHON = os.path.join(_ROOT, ".venv", "bin", "python")


def start(command: str, package: str = "benchmarks") -> None:
    """Run `main` of PACKAGE.COMMAND; where this interpreter lacks what that needs, start again in .venv."""
    sys.exit(need(f"{package}.{command}").main())


def need(name: str) -> Any:
    """Return a module; where this interpreter lacks what it needs, start the whole program again in .venv."""
    try:
        return import_module(name)
    except ImportError as missing:
        if os.path.abspath(sys.executable) == _PYTHON:
            raise
        if not os.path.exists(_PYTHON):
            sys.exit(f"{missing}; there is no .venv here yet: run `make bench`, which makes it")
        os.execv(_PYTHON, [_PYTHON, *sys.argv])
