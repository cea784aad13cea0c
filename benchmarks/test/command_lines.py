"""A check that all command lines here share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase


def check_refusals(
    test: SynchronousTestCase, parse: Callable[[Sequence[str]], object], reasons: Mapping[str, str]
) -> None:
    """Check that each command line ends the process with status 2 and a message that has its reason in it."""
    for line, reason in reasons.items():
        with redirect_stderr(StringIO()) as said:
            refused = test.assertRaises(SystemExit, parse, line.split())
        test.assertEqual(refused.code, 2)
        test.assertIn(reason, said.getvalue())
