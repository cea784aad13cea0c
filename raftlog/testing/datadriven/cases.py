"""The grammar of a file of cases: what is asked, with which input, and which answer is expected.

    # comment lines
    directive argument key=value key=(a,b) \
        continued=true
    optional input lines
    ----
    the expected output up to a blank line

Output that contains blank lines is fenced by a second `----` line and ends with two of them. Reading keeps the lines
before the answer as they were written, so that re-recording a file changes its answers only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

SEPARATOR = "----"

#: A word, or a key with a value that is a word or a list in parentheses (which may contain blanks).
_ARGUMENT = re.compile(r"([^\s=()]+)(?:=(\([^)]*\)|[^\s()]*))?")


class Directive(msgspec.Struct, frozen=True):
    """One command. `words` are its plain arguments, `options` its keys with their values, in the order given."""

    name: str
    words: tuple[str, ...] = ()
    options: dict[str, tuple[str, ...]] = {}

    def option(self, key: str, default: str = "") -> str:
        """Return the only value of an option; `default` if it was not given."""
        (value,) = self.options.get(key, (default,))
        return value

    def flag(self, key: str) -> bool:
        """Return whether an option was given as true."""
        return self.option(key) == "true"

    def numbers(self, key: str) -> tuple[int, ...]:
        """Return an option's values as numbers; empty if it was not given."""
        return tuple(int(value) for value in self.options.get(key, ()))


class Case(msgspec.Struct, frozen=True):
    """One question and its answer. `source` are the lines of the file up to the answer; `line` counts from 1."""

    line: int
    source: tuple[str, ...]
    directive: Directive
    input: str
    expected: str


class MalformedCase(ValueError):
    """A file does not follow the grammar; the message names the line."""


def parse_directive(text: str) -> Directive:
    """Parse a directive line without its continuation marks."""
    name, _, rest = text.strip().partition(" ")
    words: list[str] = []
    options: dict[str, tuple[str, ...]] = {}
    for match in _ARGUMENT.finditer(rest):
        key, value = match.groups()
        if value is None:
            words.append(key)
        else:
            options[key] = _values(value)
    return Directive(name, tuple(words), options)


def _values(text: str) -> tuple[str, ...]:
    if not text.startswith("("):
        return (text,)
    return tuple(value.strip() for value in text[1:-1].split(",") if value.strip())


def parse_cases(text: str) -> tuple[list[Case], list[str]]:
    """Return a file's cases and the lines after the last one (comments, as a rule).

    Raises MalformedCase for a directive without an answer or an answer whose fence is not closed.
    """
    reader = _Reader(text.splitlines())
    return list(reader.cases()), reader.pending


def render_cases(cases: Sequence[Case], tail: Sequence[str], answer: Callable[[Case], str]) -> str:
    """Return the text of a file with the same questions and the answers that `answer` gives."""
    lines: list[str] = []
    for case in cases:
        lines += [*case.source, SEPARATOR]
        found = answer(case)
        if "\n\n" in found:
            lines += [SEPARATOR, found, SEPARATOR, SEPARATOR, ""]
        else:
            lines += [found, ""]
    return "\n".join([*lines, *tail]).rstrip("\n") + "\n"


class _Reader:
    """Walks over a file's lines; `pending` are the lines that belong to no case yet."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._at = 0
        self.pending: list[str] = []

    def cases(self) -> Iterator[Case]:
        while self._at < len(self._lines):
            line = self._next()
            self.pending.append(line)
            if line.strip() and not line.lstrip().startswith("#"):
                yield self._case(line)

    def _next(self) -> str:
        if self._at == len(self._lines):
            raise MalformedCase(f"line {self._at}: the file ends in the middle of a case")
        self._at += 1
        return self._lines[self._at - 1]

    def _case(self, first: str) -> Case:
        start = self._at
        text = first.strip()
        while text.endswith("\\"):
            following = self._next()
            self.pending.append(following)
            text = text[:-1] + " " + following.strip()
        given: list[str] = []
        while (line := self._next()).strip() != SEPARATOR:
            given.append(line)
        source, self.pending = (*self.pending, *given), []
        return Case(start, source, parse_directive(text), "\n".join(given).strip(), self._answer())

    def _answer(self) -> str:
        lines: list[str] = []
        if self._at < len(self._lines) and self._lines[self._at].strip() == SEPARATOR:
            self._at += 1
            while not self._fence_closes():
                lines.append(self._next())
            self._at += 2
        else:
            while self._at < len(self._lines) and self._lines[self._at].strip():
                lines.append(self._next())
        self._skip_blank_line()
        return "\n".join(lines)

    def _fence_closes(self) -> bool:
        return [line.strip() for line in self._lines[self._at : self._at + 2]] == [SEPARATOR, SEPARATOR]

    def _skip_blank_line(self) -> None:
        if self._at < len(self._lines) and not self._lines[self._at].strip():
            self._at += 1
