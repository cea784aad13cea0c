"""Replays files of cases: compares what is said with what is expected, or records it anew.

What counts is the text without log lines: the corpus has those of etcd's logger (DEBUG, INFO, WARN, ERROR) between
the lines of its answers, our core has none. An answer that consists of log lines only is the same as "ok".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from raftlog.testing.datadriven import confchange, quorum
from raftlog.testing.datadriven.cases import Case, MalformedCase, parse_cases, render_cases
from raftlog.testing.datadriven.interaction import InteractionDialogue

SUFFIX = ".txt"

_LOG_LINE = re.compile(r"\s*(DEBUG|INFO|WARN|ERROR) ")


class Dialogue(Protocol):
    """Answers the cases of one file in order."""

    def answer(self, case: Case) -> str:
        """Return the answer, without log lines."""


class Difference(msgspec.Struct, frozen=True):
    """An answer that is not as expected; `line` is that of the directive. Both texts are without log lines."""

    line: int
    directive: str
    expected: str
    found: str


def files(places: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of cases among `places` and in the directories among them, in order of their names."""
    for place in places:
        if place.is_dir():
            yield from sorted(place.rglob("*" + SUFFIX))
        else:
            yield place


def replay(path: Path) -> list[Difference]:
    """Return where a file's expectations are not met. Raises MalformedCase."""
    cases, _ = parse_cases(path.read_text(encoding="utf-8"))
    answer = _answers(cases)
    return [
        Difference(case.line, case.directive.name, expected, found)
        for case in cases
        if (expected := without_log_lines(case.expected)) != (found := answer(case))
    ]


def record(path: Path) -> None:
    """Write what is said into a file in place of what it expects. Raises MalformedCase."""
    cases, tail = parse_cases(path.read_text(encoding="utf-8"))
    path.write_text(render_cases(cases, tail, _answers(cases)), encoding="utf-8")


def without_log_lines(text: str) -> str:
    """Return the text that counts in an answer."""
    kept = [line.rstrip() for line in text.splitlines() if not _LOG_LINE.match(line)]
    return "\n".join(kept) or "ok"


def _answers(cases: list[Case]) -> Callable[[Case], str]:
    dialogue = _dialogue_for(cases)
    return lambda case: without_log_lines(dialogue.answer(case))


def _dialogue_for(cases: list[Case]) -> Dialogue:
    if not cases:
        raise MalformedCase("there is no case")
    first = cases[0].directive.name
    if first in quorum.DIRECTIVES:
        return quorum.QuorumDialogue()
    if first in confchange.DIRECTIVES:
        return confchange.MembershipDialogue()
    return InteractionDialogue()
