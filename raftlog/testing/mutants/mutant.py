"""One mutant: a rule, and what breaks it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch


class Mutant(NamedTuple):
    """One rule broken. `changes` are what is patched: (owner, name of its attribute, what stands there instead).

    `scenario` names a test that sees the mutant where simulations hardly do.
    """

    name: str
    breaks: str
    changes: Sequence[tuple[Any, str, Any]]
    scenario: str = ""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the mutant in the place of the real thing for a while."""
        with ExitStack() as stack:
            for owner, attribute, instead in self.changes:
                stack.enter_context(patch.object(owner, attribute, instead))
            yield
