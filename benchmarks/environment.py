"""Starts a command line in the project's environment; imports nothing that a bare interpreter lacks."""

from __future__ import annotations

import os
import sys
from importlib import import_module

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PYTHON = os.path.join(_ROOT, ".venv", "bin", "python")


def start(command: str, package: str = "benchmarks") -> None:
    """Run `main` of PACKAGE.COMMAND; where this interpreter lacks what that needs, start again in .venv."""
    try:
        module = import_module(f"{package}.{command}")
    except ImportError as missing:
        if os.path.abspath(sys.executable) == _PYTHON:
            raise
        if not os.path.exists(_PYTHON):
            sys.exit(f"{missing}; there is no .venv here yet: run `make bench`, which makes it")
        os.execv(_PYTHON, [_PYTHON, *sys.argv])
    sys.exit(module.main())
