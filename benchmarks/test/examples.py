"""Reads the shell examples of a Markdown file: in each ```console block, `$ command` and the output expected of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PROMPT = "$ "
#: Stands for any text in an expected output.
_ANYTHING = "…"


@dataclass(frozen=True)
class Example:
    """A command line and what it should print."""

    command: str
    output: str

    def matches(self, printed: str) -> bool:
        """Return whether this is the output expected, but for white space around it."""
        pattern = ".*".join(re.escape(part) for part in self.output.split(_ANYTHING))
        return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def examples(markdown: str) -> Iterator[Example]:
    """Return the examples in their order."""
    for block in _BLOCK.findall(markdown):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield Example(command, output.strip())
