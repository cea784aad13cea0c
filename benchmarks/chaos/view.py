"""What a chaos looks like while it goes on: a live board on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

#: Without a terminal the counters are written this often.
_LINE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Board:
    """The state just now. `pauses` gives for each shard the pause that lasts and the longest one, in seconds."""

    seconds: float
    fault: str
    acknowledged: int
    lost: int
    outcomes: Mapping[str, int]
    errors: Mapping[str, int]
    pauses: Mapping[str, tuple[float, float]]


class View:
    """Writes to a console; used as a context while the chaos goes on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._board: Board | None = None
        self._next_line_seconds = _LINE_SECONDS

    def __enter__(self) -> View:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Write what happens, as a line that stays."""
        seconds = self._board.seconds if self._board is not None else 0.0
        self._console.print(f"{seconds:6.1f}  {text}", highlight=False, markup=False, soft_wrap=True)

    def refresh(self, board: Board) -> None:
        """Take the state as it is now."""
        self._board = board
        if self._live is not None:
            self._live.update(_drawn(board), refresh=True)
        elif board.seconds >= self._next_line_seconds:
            self._next_line_seconds += _LINE_SECONDS
            self.say(_line(board))


def _line(board: Board) -> str:
    errors = sum(board.errors.values())
    return f"acknowledged {board.acknowledged:,}, lost {board.lost}, errors without a cause {errors}"


def _drawn(board: Board) -> Group:
    table = Table("shard", "waits for", "longest pause", box=None, padding=(0, 2, 0, 0))
    for shard, (lasting, longest) in board.pauses.items():
        table.add_row(shard, f"{lasting:.1f} s", f"{longest:.1f} s")
    outcomes = ", ".join(f"{what} {count:,}" for what, count in board.outcomes.items())
    return Group(
        Text(f"{board.seconds:6.1f}  {_line(board)}", style="red" if board.lost or board.errors else "green"),
        Text(f"        fault: {board.fault or 'none'}"),
        Text(f"        requests: {outcomes}"),
        table,
    )
