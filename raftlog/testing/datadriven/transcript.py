"""What is said in answer to one case, line by line, indented where one thing happens within another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

QUIET = "none"


class Transcript:
    """The answer in the making. At log level "none" nothing is taken down but errors."""

    def __init__(self) -> None:
        self.level = "debug"
        self._lines: list[str] = []
        self._indent = ""

    def say(self, text: str) -> None:
        """Take down one or more lines."""
        if self.level != QUIET:
            self._lines += [self._indent + line for line in text.splitlines()]

    def complain(self, text: str) -> None:
        """Take down an error, whatever the level."""
        self._lines.append(self._indent + text)

    @contextmanager
    def within(self, heading: str) -> Iterator[None]:
        """Take down a heading, and what is said inside the block indented below it."""
        self.say(heading)
        self._indent += "  "
        try:
            yield
        finally:
            self._indent = self._indent[:-2]

    @contextmanager
    def at_level(self, level: str) -> Iterator[None]:
        """Listen at another level inside the block."""
        usual, self.level = self.level, level
        try:
            yield
        finally:
            self.level = usual

    def finish(self) -> str:
        """Return what was said, "ok" if nothing was, and begin anew."""
        lines, self._lines = self._lines, []
        return "\n".join(lines) or "ok"
